"""Group normalisation by its formula; x (N, P, C), gamma and beta (C,).

What the kernels do in the same pass, scale and shift of x before and SiLU behind, are a formula each.
"""
import numpy as np


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
