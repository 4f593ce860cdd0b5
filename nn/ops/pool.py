"""Pooling and nearest upsampling: averages, maxima and copies over the squares of a grid.  Images are (N, H, W, C)."""
import numpy as np

from nn.tensor import Function


class AvgPool2d(Function):
    """y = the mean of each size x size square; the gradient spreads evenly: dL/dx = dL/dy / size^2."""

    @staticmethod
    def forward(ctx, x, size):
        ctx.size = size
        return _squares(x, size).mean(axis=(2, 4))

    @staticmethod
    def backward(ctx, grad):
        return _enlarge(grad * (1.0 / ctx.size**2), ctx.size)


def avg_pool2d(x, size):
    """Mean over size x size squares: (N, H, W, C) -> (N, H/size, W/size, C).  ValueError where size does not divide."""
    _check("avg_pool2d", x, size)
    return AvgPool2d.apply(x, size=size)


class MaxPool2d(Function):
    """y = the largest value of each square; the gradient goes to the first place that holds it."""

    @staticmethod
    def forward(ctx, x, size):
        ctx.size = size
        count, height, width, channels = x.shape
        squares = _squares(x, size).transpose(0, 1, 3, 2, 4, 5)  # (N, H', W', size, size, C)
        squares = squares.reshape(count, height // size, width // size, size * size, channels)
        winners = squares.argmax(axis=3)[:, :, :, None]  # argmax takes a NaN for the largest, so NaN passes
        ctx.save(winners)
        return np.take_along_axis(squares, winners, axis=3)[:, :, :, 0]

    @staticmethod
    def backward(ctx, grad):
        (winners,) = ctx.saved
        size, (count, height, width, channels) = ctx.size, grad.shape
        squares = np.zeros((count, height, width, size * size, channels), grad.dtype)
        np.put_along_axis(squares, winners, grad[:, :, :, None], axis=3)
        squares = squares.reshape(count, height, width, size, size, channels).transpose(0, 1, 3, 2, 4, 5)
        return squares.reshape(count, height * size, width * size, channels)


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
        return _enlarge(x, scale)

    @staticmethod
    def backward(ctx, grad):
        return _squares(grad, ctx.scale).sum(axis=(2, 4))


def upsample_nearest(x, scale):
    """Repeat every pixel scale times both ways: (N, H, W, C) -> (N, H*scale, W*scale, C)."""
    return UpsampleNearest.apply(x, scale=scale)


def _squares(x, size):
    """(N, H, W, C) -> (N, H', size, W', size, C), a view."""
    count, height, width, channels = x.shape
    return x.reshape(count, height // size, size, width // size, size, channels)


def _enlarge(x, scale):
    """Every pixel repeated scale times both ways."""
    count, height, width, channels = x.shape
    wide = np.broadcast_to(x[:, :, None, :, None], (count, height, scale, width, scale, channels))
    return wide.reshape(count, height * scale, width * scale, channels)


def _check(name, x, size):
    if len(x.shape) != 4 or x.shape[1] % size or x.shape[2] % size:
        raise ValueError(f"{name}: expected (N, H, W, C) with H and W multiples of {size}; given {x.shape}")
