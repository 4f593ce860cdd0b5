"""The generative adversarial network: no right answer to copy, only a critic to convince.

The other families learn by coming close to a given image.  A GAN's generator never sees one: it paints, a second
network, the discriminator, scores how well picture and caption match, and that score is all that it learns from.  The
discriminator meanwhile learns to tell the generator's pictures from real ones:

    z ~ N(0, I);   picture = generator(z, c);   discriminator(picture, c) -> score

Any sharp picture that fits the caption is a good answer, so nothing pushes the generator towards an average.  That is
why the noise z can even be left out (`noise=0`): the generator then has one picture for each caption, and it is sharp.

The game, its losses and its sources are in `parts/critic.py`; `python -m bench modes` counts the modes that it finds.

Read on: `Generator`, `GAN.painted`, and in `parts/critic.py` `WithCritic`, which has both losses.
"""

from dataclasses import dataclass

import numpy as np

from generators.config import number
from generators.family import Family, Phase, Shard
from generators.parts.critic import CriticConfig, WithCritic
from generators.parts.painter import Painter
from generators.parts.text import WordSum
from nn import functional as F
from nn.parallel import Threads, map_shards
from nn.tensor import Tensor


@dataclass(frozen=True)
class GANConfig(CriticConfig):
    width: int = number(32, least=8, multiple=8)  # channels at half size; twice as many at a quarter; of both networks
    noise: int = number(64)  # numbers in z; 0 leaves the noise out
    features: int = number(64, least=1)  # numbers in a caption's embedding


class Generator(Painter):
    """Caption (N, features) and noise z (N, noise) -> images (N, H, W, C) from -1 to 1."""

    def __init__(self, config: GANConfig, rng: np.random.Generator):
        inputs = config.noise + config.features
        super().__init__(inputs, config.features, config.width, config.image_size, config.channels, rng)

    def __call__(self, caption: Tensor, z: np.ndarray) -> Tensor:
        return F.tanh(super().__call__(F.concat([caption, Tensor(z)], axis=1), caption))


class GAN(WithCritic, Family):
    """A generator and a discriminator, updated in turn."""

    name = "gan"
    Config = GANConfig

    def __init__(self, config: GANConfig, rng: np.random.Generator):
        super().__init__(config)
        self.text = WordSum(len(self.vocabulary), config.features, rng)
        self.generator = Generator(config, rng)
        self.add_critic(config.width, rng)

    def phases(self, step: int) -> list[Phase]:
        return self.in_turn("generator", self.generator_loss)

    def painted(self, shard: Shard, rng: np.random.Generator) -> Tensor:
        """Images from -1 to 1 for the shard's captions, each from fresh noise."""
        z = rng.standard_normal((len(shard.tokens), self.config.noise), dtype=np.float32)
        return self.generator(self.text(shard.tokens), z)

    def paint(self, z: np.ndarray, captions: list[str], threads: Threads | None = None) -> np.ndarray:
        """Images (N, H, W, C) in [0, 1] from noise z (N, noise) and captions."""
        tokens = self.vocabulary.encode(captions)
        generate = lambda part: self.generator(self.text(tokens[part]), z[part]).data * 0.5 + 0.5  # noqa: E731
        return map_shards(generate, len(z), threads)

    def sample(self, captions: list[str], rng: np.random.Generator, threads: Threads | None = None) -> np.ndarray:
        """One new image per caption, (N, H, W, C), each from its own noise."""
        captions = self.asked(captions, rng)
        return self.paint(rng.standard_normal((len(captions), self.config.noise), dtype=np.float32), captions, threads)

    def wander(
        self, captions: list[str], rng: np.random.Generator, steps: int, threads: Threads | None = None
    ) -> np.ndarray:
        """From one new image of each caption to another in `steps` pictures, (steps, N, H, W, C), z moving along an
        arc: halfway on a straight line it would be shorter than noise is.

        Raises ValueError for a model without noise, and as `asked` does.
        """
        captions = self.asked(captions, rng)
        if not self.config.noise:
            raise ValueError("this gan has no noise, and one picture for each caption, so there is no way to walk")
        shape = (len(captions), self.config.noise)
        start = rng.standard_normal(shape, dtype=np.float32)  # as `sample` has it
        end = rng.spawn(1)[0].standard_normal(shape, dtype=np.float32)  # the first are the same for any number of them
        angles = np.linspace(0, np.pi / 2, steps, dtype=np.float32)[:, None, None]
        path = np.concatenate(np.cos(angles) * start + np.sin(angles) * end)
        return self.paint(path, captions * steps, threads).reshape(steps, len(captions), *self.image_shape)
