"""What a way to make images is to the rest of the program: `Family`, its config, and the phases of its training step.

A family says in `phases` what a step is made of, and knows nothing of the loop that takes it (`training.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from generators.config import Config, from_data, number
from generators.parts.text import Vocabulary
from nn.modules import Module
from nn.parallel import SHARD
from nn.tensor import Parameter, Tensor


@dataclass(frozen=True)
class OptimiserConfig(Config):
    """How the parameters of a phase are updated: a warm-up, then a cosine from `rate` to `final` * `rate`.

    muon: matrices (all with two axes or more) by Muon with `momentum`, and only the rest by AdamW with `betas`; rates
        of 1e-2 and more suit it.
    """

    muon: bool = True
    rate: float = number(1e-2)
    momentum: float = number(0.95, most=0.999999)
    betas: tuple[float, float] = number((0.9, 0.999), most=0.999999, length=(2, 2))
    weight_decay: float = number(0.0)
    clip_norm: float = number(1.0, least=1e-9)
    warmup_steps: int = number(100)
    final: float = number(0.0, most=1)


@dataclass(frozen=True)
class FamilyConfig(Config):
    """What every family's config has; a family's own config adds its sizes and weights."""

    vocabulary: tuple[str, ...] = from_data(())  # the words that captions are made of
    language: str = from_data("")  # the name of what they mean together; "" in older checkpoints: the words tell
    image_size: int = from_data(28, most=1024)
    channels: int = from_data(1)
    batch_size: int = number(128, least=1)
    shard_size: int = number(SHARD, least=1)  # images a worker takes at a time; more cores: fewer, see `planned`
    ema_decay: float = number(0.999, most=0.999999)
    optimiser: OptimiserConfig = OptimiserConfig()


def data_fields(dataset) -> dict:
    """The fields of a config that follow from a data set: its sizes and words."""
    *frames, size, _, channels = dataset.images.shape[1:]
    words = {"vocabulary": dataset.vocabulary, "language": dataset.language.name}
    return {**words, "image_size": size, "channels": channels, **({"frames": frames[0]} if frames else {})}


@dataclass(frozen=True)
class Shard:
    """A part of a batch.  Losses are sums over its examples divided by `batch_size`, the size of the whole batch."""

    images: np.ndarray  # (n, H, W, C) float32 in [0, 1]
    tokens: np.ndarray  # (n, L) int64, the captions
    false_tokens: np.ndarray | None  # (n, L), captions false of the images, where the family asks
    labels: np.ndarray  # (n,) int64
    indices: np.ndarray  # (n,) int64, positions in the data set
    batch_size: int


@dataclass(frozen=True)
class Phase:
    """One update within a step: whose parameters, by which loss, and how.

    loss(shard, rng) -> (the sum of per-example losses / shard.batch_size, metrics normalised in the same way)
    """

    name: str
    parameters: list[Parameter]
    loss: Callable[[Shard, np.random.Generator], tuple[Tensor, dict[str, float]]]
    optimiser: OptimiserConfig


class Family(Module):
    """What the loop and the command line need to know of a way to make images.

    Besides what stands here a family has `sample(captions, rng, threads=None, ...)`, which returns images (N, H, W, C)
    float32 in [0, 1] of what is `asked`, and as many of `reconstruct`, `interpolate`, `edit`, `wander`, `denoise`,
    `inpaint`, `continue_`, `play` and `weigh` (`judging/likeliest.py`) as its idea allows.
    """

    name: ClassVar[str]
    Config: ClassVar[type[FamilyConfig]]
    wants_false_captions: ClassVar[bool] = False
    phase: ClassVar[str] = ""  # the name of the only phase, where it is not the family's: its noise follows from it
    latent: int = 0  # numbers in the vector z that is read off an image; 0: no vector, but noise as large as the image
    total_steps: int = 1  # the length of the run in training: set by the loop, for what changes over its course
    # How `editing.Directions` goes about it: how far, images for each mean, guidance of painting where there is any.
    direction_amount: ClassVar[float] = 1.0
    direction_examples: ClassVar[int] = 100
    direction_guidance: ClassVar[float | None] = None

    @classmethod
    def suited(cls, config, dataset):
        """`config`, changed where the images of `dataset` ask for it."""
        return config

    def __init__(self, config: FamilyConfig):
        self.config = config
        self.vocabulary = Vocabulary(config.vocabulary, config.language)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.config.image_size, self.config.image_size, self.config.channels)

    def __repr__(self) -> str:
        size, words = "x".join(map(str, self.image_shape)), len(self.vocabulary.words)
        return f"<{self.name}: {self.parameter_count():,} parameters, images {size}, {words} words>"

    def phases(self, step: int) -> list[Phase]:
        """What this step is made of: by default one update of all parameters, by `loss(shard, rng)`.

        A phase may begin later than at step 0, and then stays to the end of a run that is not lengthened.
        """
        return [Phase(self.phase or self.name, self.parameters(), self.loss, self.config.optimiser)]

    def asked(self, captions: str | Sequence[str], rng: np.random.Generator) -> list[str]:
        """What a sampler is asked to paint: a list of captions, also where a single one is given.

        Raises CaptionError for a caption that means nothing to the model, TypeError for what is none, or is no rng.
        """
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a random generator, such as np.random.default_rng(0); given {rng!r:.60}")
        return self.understood([captions] if isinstance(captions, str) else captions)

    def understood(self, captions: Sequence[str], *images: np.ndarray) -> list[str]:
        """The captions as a list; images: arrays (N, H, W, C) which they describe, each caption its own image.

        Raises as `asked` does, TypeError for a caption outside a list, and ValueError for images of another shape or
        another number.
        """
        captions = self.vocabulary.listed(captions)
        for caption in captions:
            self.vocabulary.language.check(caption)
        for described in images:
            if np.shape(described) != (expected := (len(captions), *self.image_shape)):
                raise ValueError(
                    f"images must be of the model's shape, and one for each caption: {expected}; "
                    f"given {np.shape(described)}"
                )
        return captions

    def likelihood_figures(self, test, seed: int, threads=None) -> dict[str, float]:
        """How likely the images of a data set are to the model, by the name of each figure; none unless it can tell."""
        return {}

    def attend(self, dataset):
        """The part of a data set that this family learns from; called once, before training."""
        return dataset

    def prepare(self, images: np.ndarray, tokens: np.ndarray, rng: np.random.Generator) -> None:
        """Called once, before the first step, with the whole first batch: for what is initialised from data."""
