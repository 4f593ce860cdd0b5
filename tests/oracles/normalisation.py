"""Normalisation: each group of numbers by itself, in a loop."""
import numpy as np


def normalise(values, eps):
    """Mean 0, variance 1 (up to eps), for one group of numbers of any shape."""
    mean = np.sum(values) / values.size
    variance = np.sum((values - mean) ** 2) / values.size
    return (values - mean) / np.sqrt(variance + eps)


def group_norm(x, gamma, beta, groups, eps=1e-5):
    """x (N, ..., C): over each example's positions and each of `groups` runs of channels."""
    y = np.empty_like(x)
    size = x.shape[-1] // groups
    for n in range(x.shape[0]):
        for g in range(groups):
            channels = slice(g * size, (g + 1) * size)
            y[n, ..., channels] = normalise(x[n, ..., channels], eps)
    return y * gamma + beta


def layer_norm(x, gamma, beta, eps=1e-5):
    """Over the last axis."""
    y = np.empty_like(x)
    for index in np.ndindex(x.shape[:-1]):
        y[index] = normalise(x[index], eps)
    return y * gamma + beta


def silu(x):
    return x / (1 + np.exp(-x))
