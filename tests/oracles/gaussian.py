"""Normal distributions of one variable."""

import numpy as np


def log_density(x, mean, variance):
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))


def kl(mean, variance, other_mean, other_variance):
    """KL(N(mean, variance) || N(other_mean, other_variance)) in nats."""
    ratio = variance / other_variance
    return 0.5 * (ratio - 1 - np.log(ratio) + (mean - other_mean) ** 2 / other_variance)
