"""The generative adversarial network: no right answer to copy, only a critic to convince.

The other families learn by coming close to a given image.  A GAN never shows the generator an image at all.  A second
network, the *discriminator*, looks at an image and a caption and says how well they match; the generator learns from
that score alone, and the discriminator learns by comparing the generator's work with real pictures.  In turn:

    discriminator    real picture, its caption           up
                     generated picture, its caption      down
                     real picture, a caption that lies   down     (so it has to read)
    generator        generated picture, its caption      up

Any sharp picture that fits the caption is a good answer, so nothing pushes the generator towards an average.  That is
why the noise z can even be left out (`noise=0`): the generator then has one picture for each caption, and it is sharp.

The loss compares in pairs (Goodfellow et al. 2014 in the relativistic form of Jolicoeur-Martineau 2019; with both
penalties below local convergence is proven, Huang et al. 2024; beside hinge and spectral normalisation it stands in
docs/notebook.md, and `python -m bench modes` counts the modes that it finds):

    L_D = E softplus( D(fake, c) - D(real, c) ) + E softplus( D(real, c_false) - D(real, c) ) + gamma/2 (R1 + R2)
    L_G = E softplus( D(real, c) - D(fake, c) )

R1 and R2 are the squared length of the gradient of D with respect to the real and to the fake picture: a
discriminator that changes its mind abruptly teaches nothing.  The exact gradient's length would need a second
derivative, which our engine does not have; the finite difference along a random direction has the same expectation as
the step s goes to 0:

    R = E_d [ (D(x + s d, c) - D(x, c))^2 ] / s^2,    d ~ N(0, I)

Read on: `Generator`, `Discriminator`, the three loss functions, `GAN.discriminator_loss`, `GAN.generator_loss`.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from generators.parts.blocks import ResidualBlock
from generators.parts.patches import squeeze, unsqueeze
from generators.parts.text import WordSum
from generators.training import Family, FamilyConfig, OptimiserConfig, Phase, Shard
from nn import functional as F
from nn import init
from nn.modules import Conv2d, GroupNormSiLU, Linear, Module
from nn.parallel import Threads, map_shards
from nn.tensor import Tensor, no_grad


@dataclass(frozen=True)
class GANConfig(FamilyConfig):
    width: int = 32  # channels at half size; twice as many at a quarter; of both networks
    noise: int = 64  # numbers in z; 0 leaves the noise out
    text: int = 64  # numbers in a caption's embedding
    gamma: float = 0.05  # weight of the gradient penalties
    penalty_step: float = 0.05  # s of the finite difference; pictures go from -1 to 1
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(muon=False, rate=2e-3, betas=(0.0, 0.99), clip_norm=10.0, final=0.05)
    )


class Generator(Module):
    """Caption (N, text) and noise z (N, noise) -> images (N, H, W, C) from -1 to 1."""

    def __init__(self, config: GANConfig, rng: np.random.Generator):
        w, self.small = config.width, config.image_size // 4
        self.input = Linear(config.noise + config.text, self.small * self.small * 2 * w, rng)
        self.quarter = [ResidualBlock(2 * w, 2 * w, config.text, rng) for _ in range(2)]
        self.grow = Conv2d(2 * w, 4 * w, 1, rng)
        self.half = [ResidualBlock(w, w, config.text, rng) for _ in range(2)]
        self.norm = GroupNormSiLU(8, w)
        self.fine = Conv2d(w, 4 * 8, 3, rng)
        self.output = Conv2d(8, config.channels, 3, rng)

    def __call__(self, caption: Tensor, z: np.ndarray) -> Tensor:
        h = self.input(F.concat([caption, Tensor(z)], axis=1)).reshape(len(z), self.small, self.small, -1)
        for block in self.quarter:
            h = block(h, caption)
        h = unsqueeze(self.grow(h))  # (N, 14, 14, w)
        for block in self.half:
            h = block(h, caption)
        h = F.silu(unsqueeze(self.fine(self.norm(h))))  # (N, 28, 28, 8)
        return F.tanh(self.output(h))


class PlainBlock(Module):
    """x + conv(act(conv(act(x)))), act a leaky ReLU.  No normalisation: the penalties need a smooth function."""

    def __init__(self, channels: int, rng: np.random.Generator):
        self.conv1 = Conv2d(channels, channels, 3, rng)
        self.conv2 = Conv2d(channels, channels, 3, rng)
        self.conv2.weight.data = init.zeros(self.conv2.weight.shape)

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x))))


class Discriminator(Module):
    """What it sees in an image (`look`), and how well that matches a caption (`score`): a projection discriminator
    (Miyato and Koyama 2018, eq. 4).  Looking costs nearly everything, so one look serves several captions.

    The words of a caption are summed, so its score is the sum of one score for each word, and it can be given
    on combinations that no caption ever made."""

    FEATURES = 128

    def __init__(self, config: GANConfig, vocabulary_size: int, rng: np.random.Generator):
        w, small = config.width, config.image_size // 4
        self.text = WordSum(vocabulary_size, config.text, rng)
        self.stem = Conv2d(4 * config.channels, w, 3, rng)
        self.half = [PlainBlock(w, rng) for _ in range(2)]
        self.shrink = Conv2d(4 * w, 2 * w, 1, rng)
        self.quarter = [PlainBlock(2 * w, rng) for _ in range(2)]
        self.features = Linear(small * small * 2 * w, self.FEATURES, rng)
        self.real = Linear(self.FEATURES, 1, rng, bias=False)  # only differences of scores count
        self.caption = Linear(config.text, self.FEATURES, rng)

    def look(self, images: Tensor) -> Tensor:
        """Images (N, H, W, C) from -1 to 1 -> features (N, FEATURES)."""
        h = self.stem(squeeze(images))  # (N, 14, 14, w)
        for block in self.half:
            h = block(h)
        h = self.shrink(squeeze(h))  # (N, 7, 7, 2w)
        for block in self.quarter:
            h = block(h)
        return F.leaky_relu(self.features(F.leaky_relu(h).reshape(len(h), -1)))

    def score(self, features: Tensor, tokens: np.ndarray) -> Tensor:
        """The score D(x, c), (N,): is it a picture at all, and is it one of this?"""
        match = F.sum(features * self.caption(self.text(tokens)), axis=1) * (1 / np.sqrt(self.FEATURES))
        return self.real(features).reshape(-1) + match


def relativistic_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(D(fake) - D(real)), (N,): the real one should win (Jolicoeur-Martineau 2019)."""
    return F.softplus(fake - real)


def relativistic_generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(D(real) - D(fake)), (N,): the same comparison, with the other winner."""
    return F.softplus(real - fake)


def finite_difference_penalty(at: Tensor, beside: Tensor, step: float) -> Tensor:
    """(D(x + s d) - D(x))^2 / s^2, (N,), which estimates the squared length of D's gradient at x."""
    difference = (beside - at) * (1 / step)
    return difference * difference


class GAN(Family):
    """A generator and a discriminator, updated in turn."""

    name = "gan"
    Config = GANConfig
    wants_false_captions = True

    def __init__(self, config: GANConfig, rng: np.random.Generator):
        super().__init__(config)
        if config.image_size % 4:
            raise ValueError(f"{self.name}: the image size must be a multiple of 4; given {config.image_size}")
        self.text = WordSum(len(self.vocabulary), config.text, rng)
        self.generator = Generator(config, rng)
        self.discriminator = Discriminator(config, len(self.vocabulary), rng)

    # --- training ----------------------------------------------------------------------------------------------

    def phases(self, step: int) -> list[Phase]:
        painter = self.text.parameters() + self.generator.parameters()
        return [
            Phase("discriminator", self.discriminator.parameters(), self.discriminator_loss, self.config.optimiser),
            Phase("generator", painter, self.generator_loss, self.config.optimiser),
        ]

    def generate(self, tokens: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Images from -1 to 1 for the captions, each from fresh noise."""
        z = rng.standard_normal((len(tokens), self.config.noise), dtype=np.float32)
        return self.generator(self.text(tokens), z)

    def painted(self, shard: Shard, rng: np.random.Generator) -> Tensor:
        """The pictures that the discriminator has to tell from a shard's real ones: of the same captions."""
        return self.generate(shard.tokens, rng)

    def discriminator_loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """L_D: prefer real pictures to generated ones and true captions to false ones, and do it smoothly."""
        real, n = shard.images * 2 - 1, len(shard.images)
        with no_grad():
            fake = self.painted(shard, rng).data
        s = self.config.penalty_step
        both = np.concatenate([real, fake])
        beside = both + np.float32(s) * rng.standard_normal(both.shape, dtype=np.float32)
        seen = self.discriminator.look(Tensor(np.concatenate([both, beside])))  # real, fake, beside real, beside fake
        tokens = np.concatenate([shard.tokens] * 4)
        scores = self.discriminator.score(seen, tokens)
        on_real, on_fake = scores[:n], scores[n : 2 * n]
        contest = relativistic_discriminator_loss(on_real, on_fake)
        if shard.false_tokens is not None:
            on_lie = self.discriminator.score(seen[:n], shard.false_tokens)
            contest = contest + relativistic_discriminator_loss(on_real, on_lie)
        penalty = finite_difference_penalty(scores[: 2 * n], scores[2 * n :], s)  # R1 and R2 in one
        loss = (F.sum(contest) + F.sum(penalty) * (self.config.gamma / 2)) * (1 / shard.batch_size)
        return loss, {
            "penalty": float(penalty.data.sum()) / shard.batch_size,
            "real_wins": float((on_real.data > on_fake.data).sum()) / shard.batch_size,
        }

    def generator_loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """L_G: paint what the discriminator prefers to a real picture."""
        return self.unconvinced(self.painted(shard, rng), shard), {}

    def unconvinced(self, fake: Tensor, shard: Shard) -> Tensor:
        """How far pictures (n, H, W, C) from -1 to 1 lose against the shard's real ones, under the same captions."""
        on_fake = self.discriminator.score(self.discriminator.look(fake), shard.tokens)
        with no_grad():
            on_real = self.discriminator.score(self.discriminator.look(Tensor(shard.images * 2 - 1)), shard.tokens)
        return F.sum(relativistic_generator_loss(on_real, on_fake)) * (1 / shard.batch_size)

    # --- generating --------------------------------------------------------------------------------------------

    def paint(self, z: np.ndarray, captions: list[str], threads: Threads | None = None) -> np.ndarray:
        """Images (N, H, W, C) in [0, 1] from noise z (N, noise) and captions."""
        tokens = self.vocabulary.encode(captions)

        def generate(part: slice) -> np.ndarray:
            return self.generator(self.text(tokens[part]), z[part]).data * 0.5 + 0.5

        return map_shards(generate, len(z), self.config.shard_size, threads)

    def sample(self, captions: list[str], rng: np.random.Generator, threads: Threads | None = None) -> np.ndarray:
        """One new image per caption, (N, H, W, C), each from its own noise."""
        return self.paint(rng.standard_normal((len(captions), self.config.noise), dtype=np.float32), captions, threads)
