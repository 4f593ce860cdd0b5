"""Layer normalisation by its formula; x (N, T, C), gamma and beta (N, C)."""
import numpy as np


def layer_norm(x, gamma, beta, eps):
    """y = gamma * xhat + beta, (N, T, C), with mean and variance over the last axis (Ba et al. 2016)."""
    xhat, _ = normalise(x, eps)
    return gamma[:, None] * xhat + beta[:, None]


def layer_norm_backward(x, gamma, eps, grad):
    """The gradients (dx, dgamma, dbeta), given that of y: dx as for `group_norm_backward`, the means over a row."""
    xhat, sigma = normalise(x, eps)
    g = grad * gamma[:, None]
    dx = (g - g.mean(axis=-1, keepdims=True) - xhat * (g * xhat).mean(axis=-1, keepdims=True)) / sigma
    return dx, (grad * xhat).sum(axis=1), grad.sum(axis=1)


def normalise(x, eps):
    """xhat (N, T, C) and sigma (N, T, 1)"""
    sigma = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return (x - x.mean(axis=-1, keepdims=True)) / sigma, sigma
