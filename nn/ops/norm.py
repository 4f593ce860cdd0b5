"""Normalisation: shift and scale to mean 0 and variance 1 over some axes, then y = gamma * xhat + beta per channel.

GroupNorm averages over a group of channels of one image, LayerNorm over all features of one position.  With
xhat = (x - mean) / sigma, sigma = sqrt(var + eps) and g = gamma * dL/dy, both have
    dL/dx = (g - mean(g) - xhat * mean(g * xhat)) / sigma,       the means over the axes that were normalised,
    dL/dgamma = sum of dL/dy * xhat,   dL/dbeta = sum of dL/dy,  the sums over all axes but the channels.
"""
import math

import numpy as np

from nn.kernels import layer_norm as kernels_of_rows
from nn.kernels import norm as kernels
from nn.kernels.scratch import scratch
from nn.tensor import Function

EPS = 1e-5  # added to every variance, so that a flat input is not divided by 0


class GroupNorm(Function):
    """h = gamma * xhat + beta, normalised for each image and group of channels (Wu and He 2018); or SiLU of h."""

    def forward(ctx, x, gamma, beta, modulation, groups, silu):
        channels = x.shape[-1]
        if modulation is None:
            modulation = np.zeros((len(x), 2 * channels), x.dtype)
        x, gamma, beta, modulation = (np.ascontiguousarray(array) for array in (x, gamma, beta, modulation))
        pixels = x.reshape(len(x), math.prod(x.shape[1:-1]), channels)  # (N, P, C)
        constants, inverse_sigma = np.empty((len(x), 4, channels), x.dtype), np.empty((len(x), groups), x.dtype)
        out = np.empty_like(x)
        run = kernels.group_norm_silu if silu else kernels.group_norm
        if x.size:
            run(pixels, gamma, beta, modulation, EPS, constants, inverse_sigma, out.reshape(pixels.shape))
        ctx.silu = silu
        ctx.save(pixels, gamma, beta, constants, inverse_sigma)
        return out

    def backward(ctx, grad):
        pixels, gamma, *_ = ctx.saved
        dx, (dgamma, dbeta) = np.empty_like(grad, order="C"), np.zeros((2, len(gamma)), grad.dtype)
        dmodulation = np.zeros((len(pixels), 2 * len(gamma)), grad.dtype)
        grad = np.ascontiguousarray(grad).reshape(pixels.shape)
        per_channel = scratch("per channel", (4, len(gamma)), grad.dtype)
        run = kernels.group_norm_silu_backward if ctx.silu else kernels.group_norm_backward
        if pixels.size:
            run(*ctx.saved, grad, per_channel, dx.reshape(pixels.shape), dgamma, dbeta, dmodulation)
        return dx, dgamma, dbeta, dmodulation


def group_norm(x, gamma, beta, groups):
    """Normalise x (N, ..., C) over the positions and channels of each of `groups` groups; gamma, beta (C,)."""
    _check_groups("group_norm", x, gamma, beta, groups)
    return GroupNorm.apply(x, gamma, beta, None, groups=groups, silu=False)


def group_norm_silu(x, gamma, beta, groups, modulation=None):
    """silu(group_norm(x, ...)) in one pass; same arguments.

    modulation: (N, 2C), if given, scales and shifts the channels of each image first (Perez et al. 2018): with its
        halves s and t, (1 + s) x + t is normalised.  What all channels of a group share of it is normalised away.
    """
    _check_groups("group_norm_silu", x, gamma, beta, groups)
    expected = (len(x), 2 * x.shape[-1])
    if modulation is not None and tuple(modulation.shape) != expected:
        given = f"given {modulation.shape}"
        raise ValueError(f"group_norm_silu: the modulation must have shape {expected} for x {x.shape}; {given}")
    return GroupNorm.apply(x, gamma, beta, modulation, groups=groups, silu=True)


class LayerNorm(Function):
    """Normalise over the last axis (Ba et al. 2016)."""

    def forward(ctx, x, gamma, beta):
        ctx.scale_shape, groups = gamma.shape, len(gamma) if gamma.ndim == 2 else 1
        rows = math.prod(x.shape[:-1]) // max(groups, 1)
        rows = np.ascontiguousarray(x).reshape(groups, rows, x.shape[-1])  # (N, T, C), or (1, all rows, C)
        gamma, beta = (np.ascontiguousarray(array).reshape(groups, x.shape[-1]) for array in (gamma, beta))
        out, moments = np.empty_like(rows), np.empty((*rows.shape[:2], 2), x.dtype)
        kernels_of_rows.layer_norm(rows, gamma, beta, EPS, moments, out)
        ctx.save(rows, gamma, moments)
        return out.reshape(x.shape)

    def backward(ctx, grad):
        rows, gamma, moments = ctx.saved
        dx, dgamma, dbeta = np.empty_like(rows), np.empty_like(gamma), np.empty_like(gamma)
        kernels_of_rows.layer_norm_backward(
            rows, gamma, moments, np.ascontiguousarray(grad).reshape(rows.shape), dx, dgamma, dbeta
        )
        return dx.reshape(grad.shape), *(array.reshape(ctx.scale_shape) for array in (dgamma, dbeta))


def layer_norm(x, gamma, beta):
    """Normalise x (..., C) over its last axis; gamma, beta (C,), or of each example, (N, C)."""
    channels = x.shape[-1]
    if tuple(gamma.shape) != (len(x), channels) or tuple(beta.shape) != tuple(gamma.shape):
        _check("layer_norm", x, gamma, beta)
    return LayerNorm.apply(x, gamma, beta)


def _check(name, x, gamma, beta):
    channels = x.shape[-1]
    if tuple(gamma.shape) != (channels,) or tuple(beta.shape) != (channels,):
        given = f"given {gamma.shape} and {beta.shape}"
        raise ValueError(f"{name}: gamma and beta must have shape ({channels},) for x {x.shape}; {given}")


def _check_groups(name, x, gamma, beta, groups):
    _check(name, x, gamma, beta)
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(f"{name}: {x.shape[-1]} channels do not divide into {groups} groups")
