"""The normalizing flow: one invertible network; the noise *is* the image, seen through it.

A caption says less than an image shows; a flow keeps all of the rest.  It is a single network f that maps an image,
told the caption, to a vector z of exactly as many numbers, and whose every layer can be run backwards:

    training      x --f(. | caption)--> z,   made as probable as can be under N(0, I)
    generating    z ~ N(0, I) --f^-1(. | caption)--> x

So there is no encoder to learn beside the decoder, and the density that the model gives an image is known exactly (Dinh
et al. 2015, eq. 2-3):

    log p(x | caption) = log N(z; 0, I) + log |det dz/dx|,     z = f(x | caption)

The loss is its negative.  The first term pulls images towards the middle of the Gaussian, the second is the price for
squeezing them together there.  `bijectors.py` has the layers and why their determinants cost nothing.

Pixels are whole numbers, a density wants real ones, and a density over isolated points could grow without limit.  So
noise fills the gap between a value and the next (`Dequantiser`), and what is measured is a bound on the probability of
the 8-bit image itself (`bits_per_dimension`).

To a likelihood the digit is three bits among hundreds, and captions are learned late.  So for ink the couplings are
also shown sketches of what the caption says (`conditioning.Sketches`), and painting is guided (`bijectors.Guided`).

Read on: `conditioning.py`, `bits_per_dimension`, `Dequantiser`, `build_flow` (the multi-scale architecture),
`RealNVP.loss`, `sample`, `encode`, `decode`; and `families/editing.py` for what adding to an image's noise does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from datasets.dataset import Dataset
from generators.config import choice, number
from generators.families.flow import bijectors as layers
from generators.families.flow.bijectors import Bijector, Condition, Guided
from generators.families.flow.conditioning import Conditioning, CouplingNetwork, NoisePrior, Sketches
from generators.family import Family, FamilyConfig, OptimiserConfig, Shard
from generators.parts.autoencode import AutoEncode
from generators.parts.blocks import is_ink, log_mean_exp
from generators.parts.guidance import drop_captions
from generators.parts.patches import check_size, squeeze, unsqueeze
from generators.parts.text import TextEncoder
from nn import functional as F
from nn.modules import Module
from nn.parallel import Threads, derive_rng, map_shards
from nn.tensor import Tensor, no_grad


@dataclass(frozen=True)
class RealNVPConfig(FamilyConfig):
    # At half and at a quarter of the resolution: mixed couplings, and channels inside the networks of each.
    steps: tuple[int, int] = number((4, 4), most=100, length=(2, 2))
    widths: tuple[int, int] = number((48, 64), least=8, multiple=8, length=(2, 2))
    depth: int = number(3, most=100)  # residual convolutions in each coupling network
    features: int = number(64, least=1)  # numbers in a caption's embedding
    sketches: int = number(0, most=100)  # pictures of what a caption may mean, for the couplings to look at
    # Of the logit transform: small, so that black paper, an interval of 1/256, becomes a wide one.
    margin: float = number(1e-4, least=1e-6, most=0.4)
    dequantisation: str = choice("learned", "uniform")  # the noise between one 8-bit value and the next
    caption_dropout: float = number(0.1, most=1)  # share of training captions replaced by the empty one
    temperature: float = number(1.0, most=100)  # of sampling, unless told otherwise
    guidance: float = number(2.0, least=-100, most=100)  # of sampling: how strictly the caption is followed
    edit_guidance: float = number(2.5, least=-100, most=100)  # of painting an image again under another caption
    batch_size: int = number(64, least=1)  # in minutes of training, more steps are worth more than quieter ones
    optimiser: OptimiserConfig = OptimiserConfig(rate=3e-2)


# --- between 8-bit images and real numbers ------------------------------------------------------------------------


def bits_per_dimension(log_density, dimensions: int):
    """Nats of log-density over [0, 1]^dimensions -> bits per dimension of the 8-bit image; a tensor, array or number.

    An 8-bit value owns an interval of width 1/256, so its probability is the density's mean there times 1/256:
    bits = -log2(p / 256^D) / D.  By Jensen's inequality the log-density at random points of the interval is, on
    average, no more than the log of that mean, so what is measured is an upper bound on the bits (Theis et al. 2016,
    eq. 4).  A density that knows nothing, p = 1, costs 8 bits: the file itself.
    """
    return 8 - log_density * (1 / (dimensions * math.log(2)))


def levels(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] -> their 8-bit values 0, 1, ..., 255, in the same dtype."""
    return np.rint(images * 255)


def dequantise(images: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Spread each 8-bit value evenly over the interval that it owns: (value + noise) / 256, noise in (0, 1)."""
    return (levels(images) + noise) * (1 / 256)


def quantise(x: np.ndarray) -> np.ndarray:
    """The images float32 in [0, 1] in whose intervals the numbers x lie: undoes `dequantise`."""
    return (np.clip(np.floor(x * 256), 0, 255) / 255).astype(np.float32)


def uniform_noise(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """float32 in (0, 1), kept off both ends by 2^-16.

    There its logit is infinite; and as float32, 255 plus more than 1 - 2^-16 may be 256, the next level.
    """
    return np.clip(rng.random(shape, dtype=np.float32), 2**-16, 1 - 2**-16)


class Dequantiser(Module):
    """Noise that a network has shaped for the image (variational dequantisation; Ho et al. 2019, section 3.1).

    Uniform noise has hard edges, which a smooth flow cannot follow: black paper alone, half of all pixels, then costs
    about 0.25 bits each.  So let it be u = sigmoid(exp(s) logit(noise) + t), with s and t read off the image.  The
    bound becomes log p((value + u) / 256) + log du/dnoise, so narrow noise is paid for by its slope.  s = t = 0, where
    it begins, is uniform noise.
    """

    def __init__(self, config: RealNVPConfig, rng: np.random.Generator):
        size, channels = config.image_size // 2, 4 * config.channels
        sketch, width = sketch_channels(config, size), config.widths[0]
        self.network = CouplingNetwork(channels, 2 * channels, size, width, 1, config.features, sketch, rng)

    def __call__(self, images: np.ndarray, noise: np.ndarray, condition: Conditioning) -> tuple[Tensor, Tensor]:
        """-> numbers in [0, 1] (N, H, W, C), and log |det du/dnoise|, (N,)"""
        scale_and_shift = layers.scale_and_shift(self.network(squeeze(Tensor(images * 2 - 1)), condition))
        start, log_det_logit = layers.Logit(0.0).forward(squeeze(Tensor(noise)), condition)
        v, log_det = layers.couple(start, *scale_and_shift)
        log_det_sigmoid = -layers.sum_per_example(F.softplus(v) + F.softplus(-v))  # sigmoid' = sigmoid(v) sigmoid(-v)
        u = unsqueeze(F.sigmoid(v))
        return (u + levels(images)) * (1 / 256), log_det_logit + log_det + log_det_sigmoid


# --- the network --------------------------------------------------------------------------------------------------


def sketch_channels(config: RealNVPConfig, size: int) -> int:
    """Channels of all sketches together, squeezed to size x size."""
    return config.sketches * config.channels * (config.image_size // size) ** 2


def build_flow(config: RealNVPConfig, rng: np.random.Generator) -> Bijector:
    """Images (N, H, W, C) in [0, 1] <-> noise (N, H*W*C): the multi-scale architecture (Dinh et al. 2017, figure 4b).

        28 x 28 x 1   logit; squeeze
        14 x 14 x 4   couplings of the two colours of the checkerboard, then of channels mixed anew each time;
                      half of the channels leave                                       -> 392 numbers of noise
         7 x 7 x 8    (the other half, squeezed again) couplings of mixed channels     -> 392 numbers of noise
    """
    half, quarter = config.image_size // 2, config.image_size // 4
    fine, coarse = 4 * config.channels, 8 * config.channels

    def coupling(size: int, channels: int, width: int, swap: bool = False) -> Bijector:
        sketch = sketch_channels(config, size)
        network = CouplingNetwork(channels // 2, channels, size, width, config.depth, config.features, sketch, rng)
        return layers.Coupling(network, swap)

    def steps(count: int, size: int, channels: int, width: int) -> list[Bijector]:
        """One step of flow (Kingma and Dhariwal 2018, figure 2a), `count` times."""
        links = []
        for _ in range(count):
            links += [layers.ActNorm(channels), layers.ChannelMix(channels, rng), coupling(size, channels, width)]
        return links

    prior = NoisePrior(config.features, coarse * quarter * quarter, rng)
    return layers.Composition(
        layers.Logit(config.margin),
        layers.Squeeze(),
        layers.Checkerboard(),
        layers.ActNorm(fine),
        coupling(half, fine, config.widths[0]),
        coupling(half, fine, config.widths[0], swap=True),
        *steps(config.steps[0], half, fine, config.widths[0]),
        layers.FactorOut(
            layers.Composition(
                layers.Squeeze(),
                *steps(config.steps[1], quarter, coarse, config.widths[1]),
                layers.ActNorm(coarse),
                layers.Flatten((quarter, quarter, coarse)),
                layers.CaptionAffine(prior),
            ),
            (half, half, fine),
        ),
    )


class RealNVP(AutoEncode, Family):
    """A flow between images and noise, told the caption in every coupling, and its uses."""

    name, phase = "realnvp", "flow"
    Config = RealNVPConfig
    # Of edits (docs/notebook.md): by caption, the guidance of reading; by direction, how far to go, the guidance of
    # painting, and images for each mean.
    reading_guidance = 1.5
    direction_amount, direction_guidance, direction_examples = 3.0, 2.0, 400

    def __init__(self, config: RealNVPConfig, rng: np.random.Generator):
        super().__init__(config)
        check_size(self.name, config.image_size, 4)
        self.dimensions = math.prod(self.image_shape)
        self.text = TextEncoder(len(self.vocabulary), config.features, rng)
        self.sketches = Sketches(config.sketches, config.features, self.image_shape, rng) if config.sketches else None
        self.dequantiser = Dequantiser(config, rng) if config.dequantisation == "learned" else None
        self.flow = build_flow(config, rng)

    @classmethod
    def suited(cls, config: RealNVPConfig, dataset: Dataset) -> RealNVPConfig:
        """Ink: temperature 0.4, 8 sketches.  Gray: temperature 1, none (untried)."""
        ink = is_ink(dataset.images)
        return replace(config, temperature=0.4 if ink else 1.0, sketches=8 if ink else 0)

    # --- training -------------------------------------------------------------------------------------------------

    def prepare(self, images: np.ndarray, tokens: np.ndarray, rng: np.random.Generator) -> None:
        """Let every ActNorm initialise itself from the first batch."""
        with no_grad():
            condition = self.conditioning(tokens)
            x, _ = self.spread(images, uniform_noise(images.shape, rng), condition)
            self.flow.prepare(x, condition)

    def loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The negative log-likelihood, in bits per dimension; plus the error of the sketches if there are any."""
        condition = self.conditioning(drop_captions(shard.tokens, self.config.caption_dropout, rng))
        log_p = self.log_likelihood(shard.images, condition, uniform_noise(shard.images.shape, rng))
        return self.cost(log_p, condition, shard)

    def cost(self, log_p: Tensor, condition: Conditioning, shard: Shard) -> tuple[Tensor, dict[str, float]]:
        """The loss, given the log-likelihoods (n,) of the shard's images."""
        bits = F.sum(bits_per_dimension(log_p, self.dimensions)) * (1 / shard.batch_size)
        metrics = {"bits_per_dimension": bits.item()}
        if self.sketches is None:
            return bits, metrics
        error = F.sum(self.sketches.error(condition.sketches, shard.images)) * (1 / shard.batch_size)
        return bits + error, metrics | {"sketch_error": error.item()}

    def conditioning(self, tokens: np.ndarray) -> Conditioning:
        """What the flow is told of captions, tokens (N, L)."""
        words = self.text(tokens)
        return Conditioning(words, None if self.sketches is None else self.sketches(words))

    def log_likelihood(self, images: np.ndarray, condition: Conditioning, noise: np.ndarray) -> Tensor:
        """log p(x | caption) at a point x of each 8-bit image's interval, over the density of that point, (N,) nats.

        images (N, H, W, C) in [0, 1]; noise of the same shape, uniform in (0, 1), chooses the point.
        """
        x, log_slope = self.spread(images, noise, condition)
        z, log_det = self.flow.forward(x, condition)
        return gaussian_log_density(z) + log_det + log_slope

    def spread(self, images: np.ndarray, noise: np.ndarray, condition: Conditioning) -> tuple[Tensor, Tensor | float]:
        """A point in each 8-bit value's interval, and minus the log-density with which it was drawn there, (N,)."""
        if self.dequantiser is None:
            return Tensor(dequantise(images, noise)), 0.0
        return self.dequantiser(images, noise, condition)

    # --- measuring ------------------------------------------------------------------------------------------------

    def bits(
        self, images: np.ndarray, captions: list[str], rng: np.random.Generator, samples: int = 1,
        threads: Threads | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Bits per dimension of 8-bit images given their captions, (N,): an upper bound, tighter with more samples.

        With several draws of the noise the bound is on the logarithm of their mean, no longer the mean of their
        logarithms (Burda et al. 2016, eq. 8).
        """
        tokens = self.vocabulary.encode(captions)
        noise = uniform_noise((samples, *images.shape), rng).astype(images.dtype)

        def measure(part: slice) -> np.ndarray:
            condition = self.conditioning(tokens[part])
            draws = [self.log_likelihood(images[part], condition, drawn[part]).data for drawn in noise]
            return bits_per_dimension(log_mean_exp(np.asarray(draws, np.float64)), self.dimensions)

        return map_shards(measure, len(images), threads)

    def likelihood_figures(self, test: Dataset, seed: int, threads: Threads | None = None) -> dict[str, float]:
        """Mean bits per dimension of the test images with their fullest captions: one draw of noise each, and eight."""
        images, captions = test.images / np.float32(255), test.captions(np.arange(len(test)))
        figures = {}
        for name, samples in (("bits_per_dimension", 1), ("bits_per_dimension_8", 8)):
            rng = derive_rng(seed, name)
            blocks = [slice(start, start + 500) for start in range(0, len(test), 500)]
            watched = tqdm(blocks, "likelihood", leave=False, disable=None)
            bits = [self.bits(images[block], captions[block], rng, samples, threads) for block in watched]
            figures[name] = float(np.concatenate(bits).mean())
        return figures

    def weigh(self, image: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """log p(image (H, W, C) | caption) of each caption, the mean over four points of each 8-bit value's interval:
        (len(captions),) nats."""
        images, rng = np.stack([image] * len(captions)), derive_rng(0, "likeliest")
        with no_grad():
            condition = self.conditioning(self.vocabulary.encode(captions))
            drawn = (np.broadcast_to(uniform_noise(image.shape, rng), images.shape) for _ in range(4))
            return np.mean([self.log_likelihood(images, condition, noise).data for noise in drawn], 0, np.float64)

    # --- generating -----------------------------------------------------------------------------------------------

    def guided(self, tokens: np.ndarray, guidance: float) -> Condition:
        """`conditioning`, followed as strictly as `guidance` says: 1 as it was learned, 2 as far again."""
        said = self.conditioning(tokens)
        return said if guidance == 1 else Guided(said, self.conditioning(np.zeros_like(tokens)), guidance)

    def sample(
        self, captions: list[str], rng: np.random.Generator, threads: Threads | None = None,
        temperature: float | None = None, guidance: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        """One new image per caption, (N, H, W, C): noise, run backwards.

        temperature: the noise's standard deviation (None: the config's); below 1 images are more regular and less
            varied (Kingma and Dhariwal 2018, section 6)
        guidance: how strictly the caption is followed: 0 not at all, 1 as it was learned, more beyond (see `Guided`;
            None: the config's)
        """
        captions, guidance = self.asked(captions, rng), self.config.guidance if guidance is None else guidance
        return self.decode(self.noise(len(captions), rng, temperature), captions, threads, guidance=guidance)

    def noise(self, count: int, rng: np.random.Generator, temperature: float | None = None) -> np.ndarray:
        """z for `count` images, (count, D), of this standard deviation (None: the config's)."""
        scale = self.config.temperature if temperature is None else temperature
        return rng.standard_normal((count, self.dimensions), dtype=np.float32) * np.float32(scale)

    def to_noise(self, images: np.ndarray, tokens: np.ndarray, guidance: float = 1.0) -> np.ndarray:
        """The noise (n, D) of images.  An 8-bit value counts as the median of its interval's noise."""
        x, _ = self.spread(images, np.full_like(images, 0.5), self.conditioning(tokens))
        return self.flow.forward(x, self.guided(tokens, guidance))[0].data

    def to_images(self, z: np.ndarray, tokens: np.ndarray, guidance: float = 1.0) -> np.ndarray:
        """The images of noise (n, D), in 8 bits: under equal guidance, `to_noise` undone."""
        return quantise(self.flow.inverse(Tensor(z), self.guided(tokens, guidance)).data)

    def edit_options(self, guidance: float | None = None) -> tuple[dict, dict]:
        """guidance: of both ways.  None: to paint a little more strictly than to read; more changes come through."""
        if guidance is None:
            return {"guidance": self.reading_guidance}, {"guidance": self.config.edit_guidance}
        return {"guidance": guidance}, {"guidance": guidance}


def gaussian_log_density(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each row of z (N, D): -|z|^2 / 2 - D/2 log(2 pi), (N,)."""
    return (z * z).sum(axis=1) * -0.5 - 0.5 * math.log(2 * math.pi) * z.shape[1]
