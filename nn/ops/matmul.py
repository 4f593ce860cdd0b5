"""Matrix products: matmul over stacks of matrices, and linear, the affine layer."""

import math

import numpy as np

from nn.kernels.rows import add_row, sum_rows
from nn.tensor import Function, Tensor


class MatMul(Function, integers=True):
    """Y = A B on the last two axes;  dA = dY B^T,  dB = A^T dY."""

    def forward(ctx, a, b):
        ctx.save(a if ctx.needs[1] else None, b if ctx.needs[0] else None)
        ctx.one_b = b.ndim == 2
        return a @ b

    def backward(ctx, grad):
        a, b = ctx.saved
        da = db = None
        if ctx.needs[0]:
            da = grad @ b.swapaxes(-1, -2)
        if ctx.needs[1]:
            if ctx.one_b:  # one matrix for the whole stack: one product instead of a stack to sum
                db = _rows(a).T @ _rows(grad)
            else:
                db = a.swapaxes(-1, -2) @ grad
        return da, db


def matmul(a, b) -> Tensor:
    """The matrix product of (..., m, k) and (..., k, n): (..., m, n); the axes in front broadcast."""
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul() needs shapes (..., m, k) and (..., k, n); given {a.shape} and {b.shape}")
    return MatMul.apply(a, b)


class Linear(Function):
    """Y = X W + b;  dX = dY W^T,  dW = X^T dY,  db = the sum of dY over all rows."""

    def forward(ctx, x, w, b):
        ctx.save(x if ctx.needs[1] else None, w if ctx.needs[0] else None)
        y = _rows(x) @ w
        if b is not None:
            add_row(y, b)
        return y.reshape(*x.shape[:-1], w.shape[1])

    def backward(ctx, grad):
        x, w = ctx.saved
        rows = _rows(grad)
        return (
            (rows @ w.T).reshape(*grad.shape[:-1], w.shape[0]) if ctx.needs[0] else None,
            _rows(x).T @ rows if ctx.needs[1] else None,
            sum_rows(rows) if ctx.needs[2] else None,
        )


def linear(x, w, b=None) -> Tensor:
    """x (..., in), w (in, out), b (out,) or None: x w + b of shape (..., out).

    >>> linear(Tensor([[1, 2]]), np.eye(2), np.array([0.5, 0.25]))
    Tensor([[1.5 , 2.25]], shape=(1, 2), float64)
    """
    if len(w.shape) != 2 or not x.shape or x.shape[-1] != w.shape[0]:
        raise ValueError(f"linear() needs x (..., in) and w (in, out); given shapes {x.shape} and {w.shape}")
    if b is not None and b.shape != w.shape[1:]:
        raise ValueError(f"linear() needs a bias of shape {w.shape[1:]} for w of shape {w.shape}; given {b.shape}")
    return Linear.apply(x, w, b)


def _rows(x: np.ndarray) -> np.ndarray:
    """(..., k) as a matrix (rows, k)."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
