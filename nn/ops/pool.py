"""Pooling and nearest upsampling: averages, maxima and copies over the squares of a grid.  Images are (N, H, W, C)."""
import numpy as np

from nn.kernels import pool as kernels
from nn.tensor import Function


class AvgPool2d(Function):
    """y = the mean of each size x size square; the gradient spreads evenly: dL/dx = dL/dy / size^2."""

    @staticmethod
    def forward(ctx, x, size):
        ctx.size = size
        return _sum_squares(x, size, 1 / size**2)

    @staticmethod
    def backward(ctx, grad):
        return _spread(grad, ctx.size, 1 / ctx.size**2)


def avg_pool2d(x, size):
    """Mean over size x size squares: (N, H, W, C) -> (N, H/size, W/size, C).  ValueError where size does not divide."""
    _check("avg_pool2d", x, size)
    return AvgPool2d.apply(x, size=size)


class MaxPool2d(Function):
    """y = the largest value of each square; the gradient goes to the first place that holds it."""

    @staticmethod
    def forward(ctx, x, size):
        count, height, width, channels = x.shape
        ctx.size = size
        out = np.empty((count, height // size, width // size, channels), x.dtype)
        winners = np.empty(out.shape, np.int32)
        kernels.largest(np.ascontiguousarray(x), winners, out)
        ctx.save(winners)
        return out

    @staticmethod
    def backward(ctx, grad):
        (winners,) = ctx.saved
        count, height, width, channels = grad.shape
        dx = np.empty((count, height * ctx.size, width * ctx.size, channels), grad.dtype)
        kernels.to_winners(np.ascontiguousarray(grad), winners, dx)
        return dx


def max_pool2d(x, size):
    """Largest value of size x size squares: (N, H, W, C) -> (N, H/size, W/size, C); NaN wins.

    Raises ValueError where size does not divide H and W.
    """
    _check("max_pool2d", x, size)
    return MaxPool2d.apply(x, size=size)


class UpsampleNearest(Function):
    """y[n, i, j] = x[n, i // scale, j // scale]; the gradient is the sum over each copied square."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        return _spread(x, scale, 1.0)

    @staticmethod
    def backward(ctx, grad):
        return _sum_squares(grad, ctx.scale, 1.0)


def upsample_nearest(x, scale):
    """Repeat every pixel scale times both ways: (N, H, W, C) -> (N, H*scale, W*scale, C)."""
    return UpsampleNearest.apply(x, scale=scale)


def _sum_squares(x, size, scale):
    """scale times the sum of each square of x."""
    count, height, width, channels = x.shape
    out = np.empty((count, height // size, width // size, channels), x.dtype)
    kernels.sum_squares(np.ascontiguousarray(x), scale, out)
    return out


def _spread(x, size, scale):
    """scale times x, each pixel repeated over a square."""
    count, height, width, channels = x.shape
    out = np.empty((count, height * size, width * size, channels), x.dtype)
    kernels.spread(np.ascontiguousarray(x), scale, out)
    return out


def _check(name, x, size):
    if len(x.shape) != 4 or x.shape[1] % size or x.shape[2] % size:
        raise ValueError(f"{name}: expected (N, H, W, C) with H and W multiples of {size}; given {x.shape}")
