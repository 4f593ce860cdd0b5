"""The plain baseline that the project argues against: caption to image, by mean squared error.

    loss = || painter(caption) - image ||^2

It looks like the obvious way to learn painting from captions.  But a caption leaves things open, and of all answers to
"seven" the one with the least squared error is the mean of every seven: the thick, the thin, the slanted, the barred,
all at once.  With nowhere to put what the caption leaves out, the network has to paint a blur.

The painter is the same network as a GAN's generator without noise, so that the two differ in nothing but the loss.
"""

from dataclasses import dataclass

import numpy as np

from generators.config import number
from generators.family import Family, FamilyConfig, OptimiserConfig, Shard
from generators.parts.painter import Painter
from generators.parts.patches import check_size
from generators.parts.text import WordSum
from nn import functional as F
from nn.parallel import Threads, map_shards
from nn.tensor import Tensor


@dataclass(frozen=True)
class RegressionConfig(FamilyConfig):
    width: int = number(32, least=8, multiple=8)  # channels at half size; twice as many at a quarter
    features: int = number(64, least=1)  # numbers in a caption's embedding
    optimiser: OptimiserConfig = OptimiserConfig(muon=False, rate=2e-3)


class Regression(Family):
    """One picture for each caption: the average of all that fit it."""

    name = "regression"
    Config = RegressionConfig

    def __init__(self, config: RegressionConfig, rng: np.random.Generator):
        super().__init__(config)
        self.text = WordSum(len(self.vocabulary), config.features, rng)
        check_size(self.name, config.image_size, 4)
        self.painter = Painter(config.features, config.features, config.width, config.image_size, config.channels, rng)

    def paint(self, tokens: np.ndarray) -> Tensor:
        """Images (N, H, W, C) from -1 to 1."""
        caption = self.text(tokens)
        return F.tanh(self.painter(caption, caption))

    def loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The mean squared error per pixel."""
        error = F.mse(self.paint(shard.tokens), shard.images * 2 - 1)
        return F.sum(error) * (1 / shard.batch_size), {}

    def sample(self, captions: list[str], rng: np.random.Generator, threads: Threads | None = None) -> np.ndarray:
        """The one image for each caption, (N, H, W, C); `rng` is not used, and that is the point."""
        tokens = self.vocabulary.encode(self.asked(captions, rng))
        return map_shards(lambda part: self.paint(tokens[part]).data * 0.5 + 0.5, len(tokens), threads)
