"""Pooling: the largest number of each square of an image (N, H, W, C)."""
from functools import reduce

import numpy as np

from nn.tensor import Function


class MaxPool2d(Function):
    """y = the largest value of each square; the gradient goes to the first place that holds it."""

    def forward(ctx, x, size):
        ctx.size = size
        y = reduce(np.maximum, _places(x, size))
        ctx.save(x, y)
        return y

    def backward(ctx, grad):
        x, y = ctx.saved
        dx, free = np.empty_like(x), np.ones(y.shape, bool)  # free: squares whose gradient no place has taken yet
        for part, d in zip(_places(x, ctx.size), _places(dx, ctx.size), strict=True):
            wins = ((part == y) | np.isnan(part)) & free
            np.multiply(grad, wins, out=d)
            free &= ~wins
        return dx


def max_pool2d(x, size):
    """The largest of each square, or NaN: (N, H, W, C) -> (N, H/size, W/size, C).  ValueError for other H or W."""
    if len(x.shape) != 4 or size < 1 or x.shape[1] % size or x.shape[2] % size:
        raise ValueError(f"max_pool2d: expected (N, H, W, C) with H and W multiples of {size}; given {x.shape}")
    return MaxPool2d.apply(x, size=size)


def _places(x: np.ndarray, size: int) -> list[np.ndarray]:
    """Views (N, H/size, W/size, C) of x: the first place of every square, the second, ..., row by row."""
    return [x[:, i::size, j::size] for i in range(size) for j in range(size)]
