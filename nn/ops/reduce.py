"""Reductions over axes: sum, mean, logsumexp.

`axis` is None (all axes), a number or a tuple of numbers; `keepdims` leaves axes of length 1 where they were.  Each
forward reduces with the axes kept and drops them last, so that each backward can broadcast against the input.
"""

import numpy as np

from nn.tensor import Function, Tensor

Axis = int | tuple[int, ...] | None


class Sum(Function, integers=True):
    """y = sum_i x_i;  dx_i = dy."""

    def forward(ctx, x, axis, keepdims):
        y = _keep_axes(ctx, x, x.sum(axis=axis, keepdims=True))
        return y if keepdims else y.squeeze(axis)

    def backward(ctx, grad):
        return _spread(grad, ctx)


def sum(x, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis`."""
    return Sum.apply(x, axis=axis, keepdims=keepdims)


class Mean(Function):
    """y = (1/n) sum_i x_i;  dx_i = dy / n.  The mean of nothing is NaN."""

    def forward(ctx, x, axis, keepdims):
        with np.errstate(invalid="ignore"):
            return Sum.forward(ctx, x, axis, keepdims) / ctx.count

    def backward(ctx, grad):
        return _spread(grad / max(ctx.count, 1), ctx)


def mean(x, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`."""
    return Mean.apply(x, axis=axis, keepdims=keepdims)


class LogSumExp(Function):
    """y = log sum_i e^(x_i) = m + log s  with  m = max_i x_i,  s = sum_i e^(x_i - m),  so that nothing overflows.

    dx_i = dy e^(x_i - m) / s, the softmax.  Not dy e^(x_i - y): next to a large m, y has lost the digits of log s.
    """

    def forward(ctx, x, axis, keepdims):
        m = x.max(axis=axis, keepdims=True, initial=-np.inf)
        m = np.where(np.isfinite(m), m, 0)  # a row of -inf gives -inf, not -inf - (-inf) = NaN
        s = _keep_axes(ctx, x, np.exp(x - m).sum(axis=axis, keepdims=True))
        ctx.save(x, m, s)
        with np.errstate(divide="ignore"):
            y = m + np.log(s)
        return y if keepdims else y.squeeze(axis)

    def backward(ctx, grad):
        x, m, s = ctx.saved
        dx = np.exp(x - m)
        dx *= grad.reshape(ctx.kept_shape) / np.where(s == 0, 1, s)
        return dx


def logsumexp(x, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, for x of any size."""
    return LogSumExp.apply(x, axis=axis, keepdims=keepdims)


def _keep_axes(ctx, x, y):
    """Note for the backward what was reduced: the shape with the axes kept, and how many numbers went into each."""
    ctx.shape, ctx.kept_shape = x.shape, y.shape
    ctx.count = x.size // y.size if y.size else 0
    return y


def _spread(grad, ctx) -> np.ndarray:
    """The gradient of each result, written to all the places that it was reduced from."""
    dx = np.empty(ctx.shape, grad.dtype)
    dx[...] = grad.reshape(ctx.kept_shape)
    return dx
