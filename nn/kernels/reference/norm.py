"""Group normalisation by its definition: each group of channels of each image to mean 0 and variance 1, then scaled.

x (N, P, C) are images with their P positions in one axis; gamma and beta (C,).  (Wu and He 2018.)
"""
import numpy as np


def group_norm(x, gamma, beta, groups, eps):
    """h = gamma * xhat + beta with xhat = (x - mean) / sqrt(variance + eps), over positions and channels of a group.

    Returns (mean, inverse_sigma, h): (N, groups) twice, and (N, P, C).
    """
    grouped = x.reshape(x.shape[0], x.shape[1], groups, -1)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    inverse_sigma = 1 / np.sqrt(grouped.var(axis=(1, 3), keepdims=True) + eps)
    xhat = ((grouped - mean) * inverse_sigma).reshape(x.shape)
    return mean[:, 0, :, 0], inverse_sigma[:, 0, :, 0], gamma * xhat + beta


def group_norm_backward(x, gamma, mean, inverse_sigma, grad):
    """The gradients (dx, dgamma, dbeta), given that of h, and what `group_norm` returned.

    dx = (g - mean(g) - xhat * mean(g * xhat)) / sigma with g = gamma * dh, both means over the group: x moves its
    own mean and variance along.  dgamma = sum of dh * xhat, dbeta = sum of dh, over images and positions.
    """
    shape = (x.shape[0], x.shape[1], mean.shape[1], -1)
    inverse_sigma = inverse_sigma[:, None, :, None]
    xhat = (x.reshape(shape) - mean[:, None, :, None]) * inverse_sigma
    g = (grad * gamma).reshape(shape)
    mean_g = g.mean(axis=(1, 3), keepdims=True)
    mean_gx = (g * xhat).mean(axis=(1, 3), keepdims=True)
    dx = (g - mean_g - xhat * mean_gx) * inverse_sigma
    return dx.reshape(x.shape), (grad * xhat.reshape(x.shape)).sum(axis=(0, 1)), grad.sum(axis=(0, 1))
