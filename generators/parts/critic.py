"""The critic: a network that says how well a picture and a caption match, and the losses of the game with it.

The painter of a GAN learns from the score of this network, the *discriminator*, alone (`families/gan.py`).  The
discriminator learns by comparing what was painted with real pictures.  In turn:

    discriminator    real picture, its caption            up
                     painted picture, its caption         down
                     real picture, a false caption        down     (so it has to read)
    painter          painted picture, its caption         up

Of a painter the game needs only pictures and a way for the gradient back through them, so it can be added to any family
(`WithCritic`; `families/gan.py`, `vaegan.py`, `flow/flowgan.py`, `diffusion/fewstep.py`).

Scores are compared in pairs (Goodfellow et al. 2014 in the relativistic form of Jolicoeur-Martineau 2019; beside hinge
and spectral normalisation it stands in docs/notebook.md):

    L_D = E softplus( D(fake, c) - D(real, c) ) + lies E softplus( D(real, c_false) - D(real, c) ) + gamma/2 (R1 + R2)
    L_G = E softplus( D(real, c) - D(fake, c) )

The second term, the false captions, is that of Reed et al. 2016.  It moves the fixed point off the data: where painted
pictures are distributed as real ones, D is not constant, since it still has to tell true captions from false ones.  So
the painter is pushed on, to pictures more typical of their caption than real ones are.  With two captions of normal
data, means -0.7 and 0.7 and width 1, the game settles at 0.97 and 0.72; with lies = 0.1 at 0.81 and 0.92, with 0 where
the data are (`tests/oracles/game.py` plays it).

R1 and R2 are the squared length of the gradient of D with respect to the real and to the painted picture: without them
D gets steep, and the game does not settle.  The exact length would need a second derivative, which our engine does not
have; the finite difference along a random direction has the same expectation as the step s goes to 0:

    R = E_d [ (D(x + s d, c) - D(x, c))^2 ] / s^2,    d ~ N(0, I)

With exact penalties and without false captions the game converges locally (Huang et al. 2024; not proven for ours).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from generators.config import number
from generators.family import FamilyConfig, OptimiserConfig, Phase, Shard
from generators.parts.patches import check_size, squeeze
from generators.parts.text import WordSum
from nn import functional as F
from nn import init
from nn.modules import Conv2d, Linear, Module
from nn.tensor import Tensor, no_grad

# How the critic is updated, and a painter that learns from nothing else.
OF_THE_GAME = OptimiserConfig(muon=False, rate=2e-3, betas=(0.0, 0.99), clip_norm=10.0, final=0.05)


@dataclass(frozen=True)
class CriticConfig(FamilyConfig):
    """What the config of a family with a critic has besides."""

    gamma: float = number(0.05)  # weight of the critic's gradient penalties
    lies: float = number(1.0)  # weight of its contest with false captions
    penalty_step: float = number(0.05, least=1e-4)  # s of their finite difference; pictures go from -1 to 1
    optimiser: OptimiserConfig = OF_THE_GAME


@dataclass(frozen=True)
class GuestCriticConfig(CriticConfig):
    """Likewise, where the family has sizes and an optimiser of its own."""

    critic_width: int = number(32, least=8, multiple=8)  # its channels at half size; twice as many at a quarter
    critic_optimiser: OptimiserConfig = OF_THE_GAME


class PlainBlock(Module):
    """x + conv(act(conv(act(x)))), act a leaky ReLU.  No normalisation: the penalties need a smooth function."""

    def __init__(self, channels: int, rng: np.random.Generator):
        self.conv1 = Conv2d(channels, channels, 3, rng)
        self.conv2 = Conv2d(channels, channels, 3, rng)
        self.conv2.weight.data = init.zeros(self.conv2.weight.shape)

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x))), onto=x)


class Discriminator(Module):
    """What it sees in an image (`look`), and how well that matches a caption (`score`): a projection discriminator
    (Miyato and Koyama 2018, eq. 4).  Nearly all of the cost is in `look`, whose result serves several captions.

    The words of a caption are summed, so its score is the sum of one for each word, also in combinations never met.
    """

    FEATURES = 128  # of an image

    def __init__(
        self, shape: tuple[int, int, int], width: int, features: int, vocabulary_size: int, rng: np.random.Generator
    ):
        """shape (H, W, C) of the images; width: channels at half size; features: of a caption's embedding."""
        height, breadth, channels = shape
        self.text = WordSum(vocabulary_size, features, rng)
        self.stem = Conv2d(4 * channels, width, 3, rng)
        self.half = [PlainBlock(width, rng) for _ in range(2)]
        self.shrink = Conv2d(4 * width, 2 * width, 1, rng)
        self.quarter = [PlainBlock(2 * width, rng) for _ in range(2)]
        self.features = Linear((height // 4) * (breadth // 4) * 2 * width, self.FEATURES, rng)
        self.real = Linear(self.FEATURES, 1, rng, bias=False)  # only differences of scores count
        self.caption = Linear(features, self.FEATURES, rng)

    def look(self, images: Tensor) -> Tensor:
        """Images (N, H, W, C) from -1 to 1 -> features (N, FEATURES)."""
        h = self.stem(squeeze(images))  # (N, H/2, W/2, width)
        for block in self.half:
            h = block(h)
        h = self.shrink(squeeze(h))  # (N, H/4, W/4, 2 width)
        for block in self.quarter:
            h = block(h)
        return F.leaky_relu(self.features(F.leaky_relu(h).reshape(len(h), -1)))

    def score(self, features: Tensor, tokens: np.ndarray) -> Tensor:
        """The score D(x, c), (N,): is it a picture at all, and is it one of this?"""
        match = F.sum(features * self.caption(self.text(tokens)), axis=1) * (1 / math.sqrt(self.FEATURES))
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


def critic_loss(
    critic: Discriminator, real: np.ndarray, fake: np.ndarray, tokens: np.ndarray, false_tokens: np.ndarray | None,
    rng: np.random.Generator, gamma: float, step: float, lies: float = 1.0,
) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
    """L_D: prefer real pictures to painted ones and true captions to false ones, and do it smoothly.

    real, fake (N, H, W, C) from -1 to 1, both under the captions tokens (N, L); false_tokens: captions false of the
    real ones, or None.  gamma weighs the penalties, step is the s of their differences, lies weighs the contest with
    false captions.  Sums over the N pairs.
    """
    n = len(real)
    both = np.concatenate([real, fake])
    beside = both + np.float32(step) * rng.standard_normal(both.shape, dtype=np.float32)
    seen = critic.look(Tensor(np.concatenate([both, beside])))  # real, fake, beside real, beside fake
    scores = critic.score(seen, np.concatenate([tokens] * 4))  # (4 N,)
    on_real, on_fake = scores[:n], scores[n : 2 * n]
    contest = relativistic_discriminator_loss(on_real, on_fake)
    if false_tokens is not None:
        on_lie = critic.score(seen[:n], false_tokens)
        contest = contest + relativistic_discriminator_loss(on_real, on_lie) * lies
    penalty = finite_difference_penalty(scores[: 2 * n], scores[2 * n :], step)  # R1 and R2 in one
    return F.sum(contest) + F.sum(penalty) * (gamma / 2), {
        "penalty": float(penalty.data.sum()),
        "real_wins": float((on_real.data > on_fake.data).sum()),
    }


def painter_loss(critic: Discriminator, real: np.ndarray, fake: Tensor, tokens: np.ndarray) -> Tensor:
    """L_G: paint what the critic prefers to a real picture; shapes as for `critic_loss`.  The sum over the N pairs."""
    on_fake = critic.score(critic.look(fake), tokens)
    with no_grad():
        on_real = critic.score(critic.look(Tensor(real)), tokens)
    return F.sum(relativistic_generator_loss(on_real, on_fake))


class WithCritic:
    """Mixin: a family and the critic that judges its pictures, updated in turn.

    The family has `painted(shard, rng)`, images (n, H, W, C) from -1 to 1 for the shard's captions, and calls
    `add_critic` when its own networks are made.
    """

    wants_false_captions = True

    def add_critic(self, width: int, rng: np.random.Generator) -> None:
        """The critic, `width` channels at half size; a size of images that it cannot halve twice is refused."""
        check_size(self.name, self.config.image_size, 4, "a critic")
        self.discriminator = Discriminator(self.image_shape, width, self.config.features, len(self.vocabulary), rng)

    def in_turn(self, name: str, loss: Callable, critic: OptimiserConfig | None = None) -> list[Phase]:
        """The critic's phase, and the phase `name` of all other parameters, whose loss is given.

        critic: how the critic is updated, if not as the others are.
        """
        tested = self.discriminator.parameters()
        of_critic = set(map(id, tested))
        painters = [parameter for parameter in self.parameters() if id(parameter) not in of_critic]
        return [
            Phase("discriminator", tested, self.discriminator_loss, critic or self.config.optimiser),
            Phase(name, painters, loss, self.config.optimiser),
        ]

    def real(self, shard: Shard, rng: np.random.Generator) -> np.ndarray:
        """What counts as a real picture: the shard's images, from -1 to 1."""
        return shard.images * 2 - 1

    def discriminator_loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """L_D, on freshly painted pictures."""
        with no_grad():
            fake = self.painted(shard, rng).data
        real, config = self.real(shard, rng), self.config
        game = config.gamma, config.penalty_step, config.lies
        loss, sums = critic_loss(self.discriminator, real, fake, shard.tokens, shard.false_tokens, rng, *game)
        return loss * (1 / shard.batch_size), {name: value / shard.batch_size for name, value in sums.items()}

    def generator_loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """L_G, on freshly painted pictures."""
        fake = self.painted(shard, rng)
        loss = painter_loss(self.discriminator, self.real(shard, rng), fake, shard.tokens)
        return loss * (1 / shard.batch_size), {}
