"""A generator is a classifier, too: which caption makes an image likeliest?

A model that paints images from captions says, in one way or another, how probable an image is under a caption.  By
Bayes' rule, of captions that are equally likely before the image is seen,

    p(c | x) = p(x | c) / sum_c' p(x | c')

so only the differences between captions count, and they are all that is computed here, with the same noise for each:

    flow         log p(x | c) itself, at a few points of each 8-bit value's interval
    VAE          its importance-weighted bound (`vae.importance_weighted_bound`)
    diffusion    the bound that its error is, over lambda = log(signal^2 / noise^2), up to a constant (Kingma et al.
                 2021, eq. 17):   log p(x | c)  >=  -1/2 integral of |eps - eps_hat(x_t, c)|^2 d lambda

Source for diffusion: Li et al. 2023 (Your diffusion model is secretly a zero-shot classifier).
"""

import math
from collections.abc import Sequence

import numpy as np

from generators.families.diffusion import process
from generators.families.diffusion.ddpm import Diffusion
from generators.families.flow.realnvp import RealNVP, uniform_noise
from generators.families.vae import VAE, importance_weighted_bound
from generators.family import Family
from nn.parallel import derive_rng
from nn.tensor import no_grad

POINTS = 4  # of each interval of a flow
DRAWS = 24  # of the VAE's z
LEVELS, TIMES = (0.1, 10.0), 24  # of noise over signal, between which diffusion's error is averaged; at so many times


def able_to_judge(model: Family) -> bool:
    return isinstance(model, VAE | RealNVP | Diffusion)


def log_likelihoods(model: Family, image: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """log p(image (H, W, C) | caption) of each caption, in nats and up to a constant: float64 (len(captions),)."""
    captions, count = list(captions), len(captions)
    if isinstance(model, VAE):
        return np.concatenate([importance_weighted_bound(model, image[None], [c], DRAWS, 0) for c in captions])
    rng = derive_rng(0, "likeliest")
    tokens = model.vocabulary.encode(captions)
    with no_grad():
        if isinstance(model, RealNVP):
            condition, images = model.conditioning(tokens), np.stack([image] * count)
            drawn = (np.broadcast_to(uniform_noise(image.shape, rng), images.shape) for _ in range(POINTS))
            return np.mean([model.log_likelihood(images, condition, noise).data for noise in drawn], 0, np.float64)
        denoiser, x0, total = model.denoiser(tokens, 1.0, clip=False), image * 2 - 1, np.zeros(count)
        for t in np.searchsorted(np.sqrt(1 / model.alpha_bar - 1), np.geomspace(*LEVELS, TIMES)).tolist():
            eps = rng.standard_normal(image.shape, dtype=np.float32)
            x_t = process.q_sample(x0[None], np.array([t]), eps[None], model.alpha_bar)
            error = denoiser(np.repeat(x_t, count, axis=0), t) - x0
            total += model.alpha_bar[t] / (1 - model.alpha_bar[t]) * np.sum(error**2, axis=(1, 2, 3))
        return total * (-0.5 / TIMES) * 2 * math.log(LEVELS[1] / LEVELS[0])  # the range of lambda


def probabilities(log_likelihoods: np.ndarray) -> np.ndarray:
    """p(c | x), where all captions are equally likely beforehand."""
    shares = np.exp(log_likelihoods - log_likelihoods.max())
    return shares / shares.sum()
