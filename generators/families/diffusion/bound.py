"""How likely is an image to a diffusion model?  At least so likely: a bound, beside the flow's exact likelihood.

    - log p(x_0)  <=  KL( q(x_T|x_0) || N(0, I) )  +  E[ - log p(x_0|x_1) ]                (Ho et al. 2020, eq. 5)
                      + sum over t from 2 to T of  1/2 (snr_(t-1) - snr_t) E |x_0 - guess(x_t, t)|^2

with snr = ab / (1 - ab).  The terms of the sum are KL divergences of two Gaussians of one variance (Kingma et al. 2021,
eq. 13); p(x_0|x_1) is a Gaussian about the guess, of variance 1 / snr_1, restricted to the 256 gray levels.

To compare captions a bound up to a constant is enough, and the sum becomes an integral over lambda = log snr (Kingma et
al. 2021, eq. 17; Li et al. 2023, Your diffusion model is secretly a zero-shot classifier):

    log p(x_0 | c)  >=  -1/2 integral of |eps - eps_hat(x_t, c)|^2 d lambda
"""

import math
from collections.abc import Sequence

import numpy as np

from generators.families.diffusion import process
from nn.parallel import Threads, derive_rng, map_shards
from nn.tensor import Tensor, no_grad

LEVELS = np.linspace(-1, 1, 256)
NOISE, TIMES = (0.1, 10.0), 24  # the range of the integral, as noise over signal; at so many times it is estimated


def bits_bound(
    model, images: np.ndarray, captions: list[str], rng: np.random.Generator, threads: Threads | None = None
) -> np.ndarray:
    """In bits per dimension of 8-bit images (N, H, W, C) in [0, 1], given their captions: (N,); T is at least 2.

    The sum is estimated at one time for each image, so only the mean over many means something.  A time comes up in
    proportion to log(snr_(t-1) / snr_t), by which its term is about as large as all others.
    """
    x0, ab, tokens = images * 2 - 1, model.alpha_bar, model.vocabulary.encode(captions)
    snr = ab[1:] / (1 - ab[1:])  # of times 1 .. T
    lengths = np.log(snr[:-1] / snr[1:])
    share = np.cumsum(lengths)
    t = process.draw_times(len(x0), len(lengths), rng, share / share[-1]) + 1
    weights = 0.5 * (snr[t - 2] - snr[t - 1]) * (share[-1] / lengths[t - 2])
    eps = rng.standard_normal((2, *x0.shape), dtype=np.float32)

    def read(part: slice) -> np.ndarray:
        def guess(t: np.ndarray, eps: np.ndarray) -> np.ndarray:
            x_t = process.q_sample(x0[part], t, eps, ab)
            output = model.network(Tensor(x_t), t, model.text(tokens[part])).data
            return np.clip(process.clean_image(output, x_t, t, ab, model.config.prediction), -1, 1)

        first = guess(np.ones_like(t[part]), eps[1, part])
        logs = (-snr[0] / 2 * (LEVELS - mean[..., None]) ** 2 for mean in first)  # each (H, W, C, 256)
        last = np.array([np.logaddexp.reduce(levels, axis=-1).sum() for levels in logs])
        last += snr[0] / 2 * ((x0[part] - first) ** 2).sum(axis=(1, 2, 3))
        return last + weights[part] * ((x0[part] - guess(t[part], eps[0, part])) ** 2).sum(axis=(1, 2, 3))

    start = 0.5 * (ab[-1] * x0**2 - ab[-1] - math.log1p(-ab[-1])).sum(axis=(1, 2, 3))
    return (map_shards(read, len(x0), threads, processes=True) + start) / (math.prod(x0.shape[1:]) * math.log(2))


def bounds_of_captions(model, image: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """The integral for an image (H, W, C) in [0, 1] under each caption, with the same noise: (len(captions),) nats."""
    rng, count, x0 = derive_rng(0, "likeliest"), len(captions), image * 2 - 1
    total = np.zeros(count)
    with no_grad():
        denoiser = model.denoiser(model.vocabulary.encode(captions), 1.0, clip=False)
        for t in np.searchsorted(np.sqrt(1 / model.alpha_bar - 1), np.geomspace(*NOISE, TIMES)).tolist():
            eps = rng.standard_normal(image.shape, dtype=np.float32)
            x_t = process.q_sample(x0[None], np.array([t]), eps[None], model.alpha_bar)
            error = denoiser(np.repeat(x_t, count, axis=0), t) - x0
            total += model.alpha_bar[t] / (1 - model.alpha_bar[t]) * np.sum(error**2, axis=(1, 2, 3))
    return total * (-0.5 / TIMES) * 2 * math.log(NOISE[1] / NOISE[0])
