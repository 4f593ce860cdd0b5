"""Moving numbers about: reshape, transpose, broadcast, concat, split, stack, indexing.

Each of these is y = P x with a matrix P of zeros and ones, so the gradient is P^T dy: every number goes back to where
it came from, and numbers that came from the same place are added.  Results may be views of the input.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nn.tensor import Function, Tensor


class Reshape(Function):
    """y = x in another shape;  dx = dy in the shape of x."""

    integers = True

    @staticmethod
    def forward(ctx, x, shape):
        ctx.shape = x.shape
        return x.reshape(shape)

    @staticmethod
    def backward(ctx, grad):
        return grad.reshape(ctx.shape)


def reshape(x, shape: int | Sequence[int]) -> Tensor:
    """The same numbers in another shape; one length may be -1."""
    return Reshape.apply(x, shape=shape)


class Transpose(Function):
    """Axis i of y is axis axes[i] of x;  dx = dy with the axes put back."""

    integers = True

    @staticmethod
    def forward(ctx, x, axes):
        y = x.transpose(axes)
        if axes is not None:
            inverse = [0] * x.ndim
            for i, axis in enumerate(axes):
                inverse[axis] = i
            axes = inverse
        ctx.inverse = axes
        return y

    @staticmethod
    def backward(ctx, grad):
        return grad.transpose(ctx.inverse)


def transpose(x, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in the order `axes`; without it in reverse order."""
    return Transpose.apply(x, axes=axes)


class BroadcastTo(Function):
    """y_ij = x_j;  dx_j = sum_i dy_ij, a sum that the engine makes."""

    integers = True

    @staticmethod
    def forward(ctx, x, shape):
        return np.broadcast_to(x, shape)

    @staticmethod
    def backward(ctx, grad):
        return grad


def broadcast_to(x, shape: Sequence[int]) -> Tensor:
    """x repeated, without a copy, to `shape`."""
    return BroadcastTo.apply(x, shape=shape)


class Concat(Function):
    """y = (x_1, x_2, ...) end to end along an axis;  each dx_i is its piece of dy."""

    integers = True

    @staticmethod
    def forward(ctx, *arrays, axis):
        y = np.concatenate(arrays, axis)
        ctx.pieces = _pieces([x.shape[axis] for x in arrays], axis, y.ndim)
        return y

    @staticmethod
    def backward(ctx, grad):
        return tuple(grad[piece] if need else None for piece, need in zip(ctx.pieces, ctx.needs, strict=True))


def concat(tensors: Sequence, axis: int = 0) -> Tensor:
    """The tensors one after another along `axis`; their other lengths must be equal, else ValueError."""
    return Concat.apply(*tensors, axis=axis)


class Split(Function):
    """(y_1, y_2, ...) = pieces of x along an axis;  dx = (dy_1, dy_2, ...) end to end."""

    integers = True

    @staticmethod
    def forward(ctx, x, sizes, axis):
        ctx.axis = axis
        return tuple(x[piece] for piece in _pieces(sizes, axis, x.ndim))

    @staticmethod
    def backward(ctx, *grads):
        return np.concatenate(grads, ctx.axis)


def split(x, sizes_or_sections: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """x cut along `axis`: into that many equal sections (a number), or into pieces of these sizes (a sequence).

    Raises ValueError if the pieces do not make up the whole axis.

    >>> split(Tensor([1, 2, 3]), [1, 2])
    (Tensor([1], shape=(1,), int64), Tensor([2, 3], shape=(2,), int64))
    """
    length = x.shape[axis]
    if np.ndim(sizes_or_sections) == 0:
        if sizes_or_sections < 1 or length % sizes_or_sections:
            raise ValueError(f"split() cannot cut axis {axis} of {x.shape} into {sizes_or_sections} equal sections")
        sizes = [length // sizes_or_sections] * int(sizes_or_sections)
    else:
        sizes = list(sizes_or_sections)
        if np.sum(sizes) != length:
            raise ValueError(f"split() into sizes {sizes}, which do not add up to axis {axis} of shape {x.shape}")
    return Split.apply(x, sizes=sizes, axis=axis)


class Stack(Function):
    """y_i = x_i along a new axis;  dx_i = dy_i."""

    integers = True

    @staticmethod
    def forward(ctx, *arrays, axis):
        y = np.stack(arrays, axis)
        ctx.axis = axis % y.ndim
        return y

    @staticmethod
    def backward(ctx, grad):
        before = (slice(None),) * ctx.axis
        return tuple(grad[(*before, i)] if need else None for i, need in enumerate(ctx.needs))


def stack(tensors: Sequence, axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis, which becomes axis `axis` of the result."""
    shapes = [x.shape for x in tensors]
    if len(set(shapes)) != 1:
        raise ValueError(f"stack() needs tensors of one shape; given shapes {shapes}")
    return Stack.apply(*tensors, axis=axis)


class GetItem(Function):
    """y_k = x_i(k);  dx_i = the sum of dy_k over all k with i(k) = i."""

    integers = True

    @staticmethod
    def forward(ctx, x, index):
        ctx.shape, ctx.index = x.shape, index
        return x[index]

    @staticmethod
    def backward(ctx, grad):
        dx = np.zeros(ctx.shape, grad.dtype)
        if _may_repeat(ctx.index):
            np.add.at(dx, ctx.index, grad)
        else:
            dx[ctx.index] = grad
        return dx


def getitem(x, index) -> Tensor:
    """x[index] with numbers, slices, ..., None, boolean masks and integer arrays, as NumPy understands them."""
    return GetItem.apply(x, index=_to_arrays(index))


def _pieces(sizes: Sequence[int], axis: int, ndim: int) -> list[tuple[slice, ...]]:
    """The index of each piece of these sizes, one after another along `axis`."""
    before = (slice(None),) * (axis % ndim)
    pieces, start = [], 0
    for size in sizes:
        pieces.append((*before, slice(start, start + size)))
        start += size
    return pieces


def _to_arrays(index):
    """The index with tensors and lists in it turned into arrays."""
    if isinstance(index, tuple):
        return tuple(_to_arrays(part) for part in index)
    if isinstance(index, Tensor):
        return index.data
    return np.asarray(index) if isinstance(index, list) else index


def _may_repeat(index) -> bool:
    """Whether the index can name the same place twice: only an array of integers can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, np.ndarray) and part.dtype != np.bool_ for part in parts)
