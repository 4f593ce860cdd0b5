"""The variational auto-encoder: what the caption leaves out is read off the image in training, drawn at random after.

A caption c says less than an image x shows.  So let a second network, the *encoder*, look at the image and write what
the caption lacks into a short vector z; the *decoder* then paints the image from caption and vector:

    training      x, c --encoder--> z          z, c --decoder--> x again, as close as can be
    generating              z ~ N(0, I)        z, c --decoder--> a new image

For the second line to work, the vectors that the encoder writes must look like draws from N(0, I).  Both are in one
formula, a lower bound on the log-likelihood of the image (Kingma and Welling 2014, eq. 3, given a caption):

    log p(x|c)  >=  ELBO  =  E_{z ~ q(z|x,c)} [ log p(x|z,c) ]  -  KL( q(z|x,c) || N(0, I) )
                             "paint it close"                     "and keep the vectors ordinary"

with q(z|x,c) = N(mean, exp(log_var)), both written by the encoder.  A weight beta on the second term trades one for
the other (Higgins et al. 2017); any beta >= 1 still gives a bound, a looser one.  Drawing z is made differentiable by
drawing the noise first, then scaling and shifting it (`reparameterise`).

Read on: `reparameterise`, the two likelihoods, the networks, what can be done with z (`AutoEncoder`), `VAE.loss`, and
`importance_weighted_bound`, the figure by which such models are compared.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from generators.config import choice, number
from generators.family import Family, FamilyConfig, OptimiserConfig, Shard
from generators.parts.autoencode import AutoEncode
from generators.parts.blocks import ResidualBlock, is_ink, log_mean_exp, soft_clip
from generators.parts.painter import Painter
from generators.parts.patches import check_size, squeeze
from generators.parts.text import CaptionPrior, TextEncoder
from nn import functional as F
from nn.modules import Conv2d, GroupNormSiLU, Linear, Module
from nn.parallel import Threads, derive_rng, map_shards
from nn.tensor import Tensor


@dataclass(frozen=True)
class AutoEncoderConfig(FamilyConfig):
    """What an encoder and a decoder have, whatever they are trained by."""

    width: int = number(32, least=8, multiple=8)  # channels at half size; twice as many at a quarter
    latent: int = number(16, least=1)  # numbers in z
    features: int = number(64, least=1)  # numbers in a caption's embedding


@dataclass(frozen=True)
class VAEConfig(AutoEncoderConfig):
    beta: float = number(1.0)  # weight of the KL term
    likelihood: str = choice("bernoulli", "logistic")  # what the decoder's outputs mean, see below
    optimiser: OptimiserConfig = OptimiserConfig(rate=2e-2, weight_decay=0.01)


def reparameterise(mean: Tensor, log_var: Tensor, noise: np.ndarray) -> Tensor:
    """z = mean + exp(log_var / 2) * noise: a draw from N(mean, exp(log_var)) if noise is one from N(0, I).

    Written so, the draw is a differentiable function of mean and log_var (Kingma and Welling 2014, section 2.4).
    All shapes (N, latent).
    """
    return mean + F.exp(log_var * 0.5) * noise


def bernoulli_log_likelihood(outputs: Tensor, images: np.ndarray) -> Tensor:
    """log p(x|z) in nats per image, (N,), for x in {0, 1}: every pixel is ink with probability sigmoid(output).

    outputs (N, H, W, C) are the logits.
    """
    return -F.bce_with_logits(outputs, images)


def logistic_log_likelihood(outputs: Tensor, images: np.ndarray) -> Tensor:
    """log p(x|z) in nats per image, (N,), for the 256 gray values x = 0, 1/255, ..., 1.

    Each pixel has a logistic distribution around `mean` with scale exp(log_scale), and a gray value has the
    probability that falls within half a step of it; 0 and 1 also get all that lies beyond (Salimans et al. 2017,
    eq. 2).  With a and b the edges of the step in units of the scale,

        log(sigmoid(a) - sigmoid(b)) = -softplus(-a) - softplus(b) + log(1 - exp(b - a))

    which loses nothing where both sigmoids are nearly 0 or nearly 1.  A log-scale below -7, a quarter of a step, counts
    as -7, so that 1 / scale cannot overflow.  outputs (N, H, W, 2C): the means, then the log-scales.
    """
    mean, log_scale = F.split(outputs, 2, axis=-1)
    inverse_scale = F.exp(-F.clip(log_scale, -7.0, math.inf))
    a = (images + 0.5 / 255 - mean) * inverse_scale
    b = (images - 0.5 / 255 - mean) * inverse_scale
    inside = ((images > 0) & (images < 1)).astype(images.dtype)
    log_likelihood = (
        F.log(1 - F.exp(inverse_scale * (-1 / 255)) + 1e-12) * inside
        - F.softplus(-a) * (images < 1).astype(images.dtype)
        - F.softplus(b) * (images > 0).astype(images.dtype)
    )
    return F.sum(log_likelihood, axis=(1, 2, 3))


def binarise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every pixel becomes 1 with its gray value as the probability, else 0 (Salakhutdinov and Murray 2008)."""
    return (rng.random(images.shape, dtype=np.float32) < images).astype(np.float32)


def shift_and_log_scale(prior: CaptionPrior, caption: Tensor) -> tuple[Tensor, Tensor]:
    """Of w = shift + exp(log_scale) * z, each (N, latent).

    Encoder and decoder work with w, so sevens need not be spread over all of space for a random z to land on one.  The
    KL term is the same in w and in z.
    """
    shift, log_scale = F.split(prior(caption), 2, axis=-1)
    return shift, soft_clip(log_scale, 5)


class Encoder(Module):
    """Image and caption -> mean and log-variance of q(z|x,c), each (N, latent)."""

    def __init__(self, config: AutoEncoderConfig, prior: CaptionPrior, rng: np.random.Generator):
        self.prior = prior
        w, small = config.width, config.image_size // 4
        self.stem = Conv2d(4 * config.channels, w, 3, rng)
        self.half = ResidualBlock(w, w, config.features, rng)
        self.quarter = Conv2d(4 * w, 2 * w, 1, rng)
        self.blocks = [ResidualBlock(2 * w, 2 * w, config.features, rng) for _ in range(2)]
        self.norm = GroupNormSiLU(8, 2 * w)
        self.output = Linear(small * small * 2 * w, 2 * config.latent, rng)

    def __call__(self, images: np.ndarray, caption: Tensor) -> tuple[Tensor, Tensor]:
        h = self.stem(squeeze(Tensor(images * 2 - 1)))  # (N, 14, 14, w)
        h = self.half(h, caption)
        h = self.quarter(squeeze(h))  # (N, 7, 7, 2w)
        for block in self.blocks:
            h = block(h, caption)
        mean, log_var = F.split(self.output(self.norm(h).reshape(len(h), -1)), 2, axis=-1)  # of w
        shift, log_scale = shift_and_log_scale(self.prior, caption)
        return (mean - shift) * F.exp(-log_scale), soft_clip(log_var - 2 * log_scale, 10)


class Decoder(Painter):
    """z (N, latent) and caption -> (N, H, W, outputs): the parameters of p(x|z,c) for each pixel."""

    def __init__(self, config: AutoEncoderConfig, prior: CaptionPrior, outputs: int, rng: np.random.Generator):
        self.prior = prior
        inputs = config.latent + config.features
        super().__init__(inputs, config.features, config.width, config.image_size, outputs, rng)

    def __call__(self, z: Tensor, caption: Tensor) -> Tensor:
        shift, log_scale = shift_and_log_scale(self.prior, caption)
        w = shift + F.exp(log_scale) * z
        return super().__call__(F.concat([w, caption], axis=1), caption)


class AutoEncoder(AutoEncode, Family):
    """Encoder and decoder, both told the caption, and the ways through z; how they are trained is a subclass's matter.

    A subclass says what the decoder's outputs are: how many for each channel, and by `expected` what is painted.
    """

    def __init__(self, config: AutoEncoderConfig, rng: np.random.Generator, outputs: int = 1):
        super().__init__(config)
        check_size(self.name, config.image_size, 4)
        self.latent = config.latent
        self.text = TextEncoder(len(self.vocabulary), config.features, rng)
        prior = CaptionPrior(config.features, config.latent, rng)
        self.encoder = Encoder(config, prior, rng)
        self.decoder = Decoder(config, prior, config.channels * outputs, rng)

    def expected(self, outputs: Tensor) -> Tensor:
        """The decoder's outputs (N, H, W, outputs) -> the image expected of them, (N, H, W, C) in [0, 1]."""
        raise NotImplementedError

    def to_images(self, z: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The images expected of vectors z (n, latent)."""
        return self.expected(self.decoder(Tensor(z), self.text(tokens))).data

    def to_noise(self, images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """What the captions leave out of the images: the mean of q(z|x,c), (n, latent)."""
        return self.encoder(images, self.text(tokens))[0].data

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """z ~ N(0, I) for `count` images, (count, latent)."""
        return rng.standard_normal((count, self.latent), dtype=np.float32)

    def sample(
        self, captions: list[str], rng: np.random.Generator, threads: Threads | None = None, temperature: float = 1.0
    ) -> np.ndarray:
        """One new image per caption, (N, H, W, C): the decoder on random vectors.

        temperature: their scale; below 1 they stay where the decoder has seen most, and the images vary less.
        """
        captions = self.asked(captions, rng)
        return self.decode(self.noise(len(captions), rng) * np.float32(temperature), captions, threads)


class VAE(AutoEncoder):
    """Encoder and decoder trained together, by a bound on the likelihood."""

    name = "vae"
    Config = VAEConfig

    def __init__(self, config: VAEConfig, rng: np.random.Generator):
        super().__init__(config, rng, outputs=2 if config.likelihood == "logistic" else 1)

    @classmethod
    def suited(cls, config: VAEConfig, dataset) -> VAEConfig:
        """The config with the likelihood that fits the images: ink on paper is almost binary, photographs are gray."""
        return replace(config, likelihood="bernoulli" if is_ink(dataset.images) else "logistic")

    def expected(self, outputs: Tensor) -> Tensor:
        if self.config.likelihood == "bernoulli":
            return F.sigmoid(outputs)
        return F.clip(outputs[..., : self.config.channels], 0, 1)

    def loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """-ELBO in nats per image, with beta on the KL term."""
        images = binarise(shard.images, rng) if self.config.likelihood == "bernoulli" else shard.images
        caption = self.text(shard.tokens)
        mean, log_var = self.encoder(images, caption)
        z = reparameterise(mean, log_var, rng.standard_normal(mean.shape, dtype=np.float32))
        kl = F.gaussian_kl(mean, log_var)
        error = -self.log_likelihood(self.decoder(z, caption), images)
        loss = F.sum(error + kl * self.config.beta) * (1 / shard.batch_size)
        return loss, {
            "reconstruction": float(error.data.sum()) / shard.batch_size,
            "kl": float(kl.data.sum()) / shard.batch_size,
        }

    @property
    def log_likelihood(self) -> Callable[[Tensor, np.ndarray], Tensor]:
        return bernoulli_log_likelihood if self.config.likelihood == "bernoulli" else logistic_log_likelihood

    def likelihood_figures(
        self, test, seed: int, threads: Threads | None = None, count: int = 1000, k: int = 500
    ) -> dict[str, float]:
        """The importance-weighted bound on the first `count` test images with their fullest captions.

        "nats": its mean per image, on images binarised once (seed 0, for every model the same) if the likelihood is
        "bernoulli".  Else on the 8-bit images, and also as "bits_per_dimension".
        """
        images, binary = test.images[:count] * np.float32(1 / 255), self.config.likelihood == "bernoulli"
        if binary:
            images = binarise(images, derive_rng(0, "binarised test images"))
        captions = test.captions(np.arange(len(images)))
        nats = float(np.mean(importance_weighted_bound(self, images, captions, k, seed, threads)))
        bits = {} if binary else {"bits_per_dimension": -nats / (math.prod(self.image_shape) * math.log(2))}
        return {"nats": nats} | bits

    def weigh(self, image: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """The importance-weighted bound on log p(image (H, W, C) | caption) of each caption, (len(captions),) nats."""
        return np.concatenate([importance_weighted_bound(self, image[None], [c], k=24, seed=0) for c in captions])


def importance_weighted_bound(
    model: VAE, images: np.ndarray, captions: list[str], k: int, seed: int, threads: Threads | None = None
) -> np.ndarray:
    """A lower bound on log p(x|c) in nats per image, (N,), that tightens as k grows (Burda et al. 2016, eq. 8):

        log 1/k sum_i  p(x|z_i,c) p(z_i) / q(z_i|x,c),    z_i ~ q(z|x,c)

    With k = 1 its expectation is the ELBO.  images are what the likelihood is over: binary, or the 256 gray values.
    """
    tokens = model.vocabulary.encode(captions)
    chunk = min(k, 64)  # draws decoded at a time

    def log_weights(image: np.ndarray, token: np.ndarray, noise: np.ndarray) -> np.ndarray:
        draws = len(noise)
        caption = model.text(token[None])
        mean, log_var = model.encoder(image[None], caption)
        z = mean.data + np.exp(0.5 * log_var.data) * noise  # (draws, latent)
        outputs = model.decoder(Tensor(z), F.broadcast_to(caption, (draws, model.config.features)))
        log_p_x = model.log_likelihood(outputs, np.broadcast_to(image, (draws, *image.shape))).data
        log_p_z = -0.5 * np.sum(z**2, axis=1)  # the constants of p(z) and q(z|x) cancel
        log_q_z = -0.5 * np.sum(noise**2 + log_var.data, axis=1)
        return (log_p_x + log_p_z - log_q_z).astype(np.float64)

    def bound_of(index: int) -> float:
        noise = derive_rng(seed, "importance weights", index).standard_normal((k, model.config.latent), np.float32)
        parts = [log_weights(images[index], tokens[index], noise[i : i + chunk]) for i in range(0, k, chunk)]
        return log_mean_exp(np.concatenate(parts))[None]

    bounds = []
    for start in tqdm(range(0, len(images), 32), "likelihood", leave=False, disable=None):
        block = range(start, min(start + 32, len(images)))
        bounds.append(map_shards(lambda part, block=block: bound_of(block[part.start]), len(block), threads, True, 1))
    return np.concatenate(bounds)
