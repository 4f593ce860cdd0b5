"""Group normalisation by its formula, alone and with SiLU; x (N, P, C), gamma and beta (C,)."""
import numpy as np

from nn.kernels.reference import activation


def channel_moments(x, image):
    """The mean and variance (C,) of each channel of one image."""
    return x[image].mean(axis=0), x[image].var(axis=0)


def _normalise(x, groups, eps):
    grouped = x.reshape(x.shape[0], x.shape[1], groups, -1)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    inverse_sigma = 1 / np.sqrt(grouped.var(axis=(1, 3), keepdims=True) + eps)
    return ((grouped - mean) * inverse_sigma).reshape(x.shape), inverse_sigma


def group_norm(x, gamma, beta, groups, eps):
    return _normalise(x, groups, eps)[0] * gamma + beta


def group_norm_backward(x, gamma, groups, eps, grad):
    """The gradients of x, gamma and beta."""
    xhat, inverse_sigma = _normalise(x, groups, eps)
    shape = (x.shape[0], x.shape[1], groups, -1)
    g, grouped = (grad * gamma).reshape(shape), xhat.reshape(shape)
    mean_g = g.mean(axis=(1, 3), keepdims=True)
    mean_gx = (g * grouped).mean(axis=(1, 3), keepdims=True)
    dx = (g - mean_g - grouped * mean_gx) * inverse_sigma
    return dx.reshape(x.shape), (grad * xhat).sum(axis=(0, 1)), grad.sum(axis=(0, 1))


def group_norm_silu(x, gamma, beta, groups, eps):
    return activation.silu(group_norm(x, gamma, beta, groups, eps))


def group_norm_silu_backward(x, gamma, beta, groups, eps, grad):
    h = group_norm(x, gamma, beta, groups, eps)
    return group_norm_backward(x, gamma, groups, eps, activation.silu_backward(h, grad))
