"""From a caption to a vector: the one way in which every family is told what to paint.

    caption  --split into words-->  tokens  --table, sum-->  `WordSum`  --normalise, two layers-->  `TextEncoder`

The languages of Inkling are small and closed ("a bold seven with a bar, slanting right, small"), and no two of their
words say the same thing about a picture, so the sum of what the words mean is what the caption means.  A GAN, and the
regression that stands beside it, get that sum, and then paint most combinations of words that they never met.  The
others get two layers on top, in which words influence each other, after the sum is normalised, since a long caption's
would be too large; a flow without them paints fewer of the digits that it is asked for (both in `docs/notebook.md`).
The empty caption is the sum of nothing, and stands for "anything".  A class label is a caption of one word.

The embedding is trained together with the network that uses it.
"""

from collections.abc import Sequence

import numpy as np

from datasets import captions as languages
from nn import functional as F
from nn import init
from nn.modules import LayerNorm, Linear, Module
from nn.tensor import Parameter, Tensor


class Vocabulary:
    """The words that a model knows, numbered from 1, and what they mean together; 0 pads short captions.

    language: the name of the captions' language, see `datasets.captions.language`, which says what it refuses.
    """

    def __init__(self, words: tuple[str, ...], language: str = ""):
        self.words, self.language = tuple(words), languages.language(language, words)
        self._ids = {word: i + 1 for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words) + 1

    def listed(self, captions: Sequence[str]) -> list[str]:
        """The captions as a list.  Raises TypeError for a single text, and for a caption that is none."""
        if isinstance(captions, str):  # which would be read letter by letter
            raise TypeError(f"captions must be a list of texts, one for each image; given {captions!r:.60}")
        for caption in (captions := list(captions)):
            if not isinstance(caption, str):
                raise TypeError(f"a caption must be a text, such as 'a bold seven'; given {caption!r:.60}")
        return captions

    def encode(self, captions: list[str]) -> np.ndarray:
        """Captions -> tokens (N, L) int64, L the number of words of the longest (at least 1), padded with 0.

        Raises CaptionError naming an unknown word and the nearest known ones.  Captions of known words that mean
        nothing together are encoded; `language.check` refuses them.
        """
        rows = [[self._ids[word] for word in self.language.words(caption)] for caption in self.listed(captions)]
        length = max([1, *map(len, rows)])
        tokens = np.zeros((len(rows), length), np.int64)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        return tokens


class WordSum(Module):
    """Tokens (N, L) -> the sum of what a caption's words mean, (N, features).

    Whatever is linear in it treats "bold" alike beside all other words, also those that it never stood beside.

    deviation: of the numbers that each word begins with.  By default a caption of eight words is about as large as
        normal noise.  With larger words a GAN took less notice of the noise: its pictures of one caption were half as
        far apart as real ones.
    """

    def __init__(self, vocabulary_size: int, features: int, rng: np.random.Generator, deviation: float = 0.35):
        self.table = Parameter(init.normal((vocabulary_size, features), rng) * np.float32(deviation))

    def __call__(self, tokens: np.ndarray) -> Tensor:
        # As a product with the matrix that counts the words: (N, V) @ (V, features).
        counts = np.zeros((len(tokens), len(self.table)), self.table.dtype)
        for column in tokens.T:
            counts[np.arange(len(tokens)), column] += 1
        counts[:, 0] = 0  # padding says nothing
        return F.matmul(counts, self.table)


class TextEncoder(WordSum):
    """Tokens (N, L) -> embedding (N, features)."""

    def __init__(self, vocabulary_size: int, features: int, rng: np.random.Generator):
        super().__init__(vocabulary_size, features, rng, deviation=1.0)
        self.norm = LayerNorm(features)
        self.hidden = Linear(features, features, rng)
        self.output = Linear(features, features, rng)

    def __call__(self, tokens: np.ndarray) -> Tensor:
        return self.output(F.silu(self.hidden(self.norm(super().__call__(tokens)))))


class CaptionPrior(Linear):
    """Where the noise of a caption lies: shift and log-scale of a Gaussian, for each caption its own, 0 at first.

    Embedding (N, features) -> (N, 2 * variables), whose halves the caller splits and bounds.  For z ~ N(0, I),
    w = shift(c) + scale(c) z is drawn from the conditional prior of Sohn et al. 2015 (section 4).  The caption then
    says where to draw from, and z holds what is left when the caption is taken out of w.
    """

    def __init__(self, features: int, variables: int, rng: np.random.Generator):
        super().__init__(features, 2 * variables, rng)
        self.weight.data = init.zeros(self.weight.shape)
