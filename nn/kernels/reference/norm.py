"""Group normalisation by its formula, alone and with SiLU; x (N, P, C), gamma and beta (C,), modulation (N, 2C).

What the kernels do in one is here in steps: `modulate`, then `group_norm` or `group_norm_silu`.
"""
import numpy as np

from nn.kernels.reference import activation


def group_norm(x, gamma, beta, groups, eps):
    """h = gamma * xhat + beta, (N, P, C), with xhat = (x - mean) / sqrt(variance + eps).

    Mean and variance are over the positions and channels of a group, for each image by itself (Wu and He 2018).
    """
    grouped = x.reshape(x.shape[0], x.shape[1], groups, -1)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    sigma = np.sqrt(grouped.var(axis=(1, 3), keepdims=True) + eps)
    return ((grouped - mean) / sigma).reshape(x.shape) * gamma + beta


def group_norm_backward(x, gamma, groups, eps, grad):
    """The gradients (dx, dgamma, dbeta), given that of h.

    dx = (g - mean(g) - xhat * mean(g * xhat)) / sigma with g = gamma * dh, the means over a group: x moves its own mean
    and variance along.  dgamma = sum of dh * xhat and dbeta = sum of dh, over images and positions.
    """
    grouped = x.reshape(x.shape[0], x.shape[1], groups, -1)
    sigma = np.sqrt(grouped.var(axis=(1, 3), keepdims=True) + eps)
    xhat = (grouped - grouped.mean(axis=(1, 3), keepdims=True)) / sigma
    g = (grad * gamma).reshape(grouped.shape)
    mean_g = g.mean(axis=(1, 3), keepdims=True)
    mean_gx = (g * xhat).mean(axis=(1, 3), keepdims=True)
    dx = (g - mean_g - xhat * mean_gx) / sigma
    return dx.reshape(x.shape), (grad * xhat.reshape(x.shape)).sum(axis=(0, 1)), grad.sum(axis=(0, 1))


def modulate(x, modulation):
    """u = scale x + shift, one of each for every channel of every image: modulation is [scale - 1 | shift]."""
    less, shift = np.split(modulation[:, None], 2, axis=-1)  # (N, 1, C)
    return (1 + less) * x + shift


def modulate_backward(x, modulation, grad):
    """The gradients (dx, dmodulation), given that of u: scale du; the sums over positions of du x and of du."""
    dx = (1 + modulation[:, None, : x.shape[2]]) * grad
    return dx, np.concatenate([(grad * x).sum(axis=1), grad.sum(axis=1)], axis=1)


def group_norm_silu(x, gamma, beta, groups, eps):
    return activation.silu(group_norm(x, gamma, beta, groups, eps))


def group_norm_silu_backward(x, gamma, beta, groups, eps, grad):
    h = group_norm(x, gamma, beta, groups, eps)
    return group_norm_backward(x, gamma, groups, eps, activation.silu_backward(h, grad))
