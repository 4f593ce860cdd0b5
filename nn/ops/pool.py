"""Pooling: the largest number of each square of an image (N, H, W, C)."""
import numpy as np

from nn.kernels import pool as kernels
from nn.tensor import Function


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
    if len(x.shape) != 4 or size < 1 or x.shape[1] % size or x.shape[2] % size:
        raise ValueError(f"max_pool2d: expected (N, H, W, C) with H and W multiples of {size}; given {x.shape}")
    return MaxPool2d.apply(x, size=size)
