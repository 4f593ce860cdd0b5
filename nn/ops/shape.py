"""Moving numbers about: reshape, transpose, broadcast, concat, split, stack, indexing.

Each is y = P x with a matrix P of zeros and ones, so the gradient is P^T dy: every number goes back to where it came
from, and those from the same place are added.  Results may be views of the input.
"""

from collections.abc import Sequence

import numpy as np

from nn.tensor import Function, Tensor

WIDE = {8: np.float64, 16: np.complex128}  # numbers of so many bytes


class Reshape(Function, integers=True):
    """y = x in another shape;  dx = dy in the shape of x."""

    def forward(ctx, x, shape):
        ctx.shape = x.shape
        return x.reshape(shape)

    def backward(ctx, grad):
        return grad.reshape(ctx.shape)


def reshape(x, shape: int | Sequence[int]) -> Tensor:
    """The same numbers in another shape; one length may be -1."""
    return Reshape.apply(x, shape=shape)


class Transpose(Function, integers=True):
    """Axis i of y is axis axes[i] of x;  dx = dy with the axes put back."""

    def forward(ctx, x, axes):
        y = x.transpose(axes)  # which also refuses what are no axes of x
        ctx.inverse = None if axes is None else np.argsort([axis % x.ndim for axis in axes])
        return y

    def backward(ctx, grad):
        return grad.transpose(ctx.inverse)


def transpose(x, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in the order `axes`; without it in reverse order."""
    return Transpose.apply(x, axes=axes)


class BroadcastTo(Function, integers=True):
    """y_ij = x_j;  dx_j = sum_i dy_ij, a sum that the engine makes."""

    def forward(ctx, x, shape):
        return np.broadcast_to(x, shape)

    def backward(ctx, grad):
        return grad


def broadcast_to(x, shape: Sequence[int]) -> Tensor:
    """x repeated, without a copy, to `shape`."""
    return BroadcastTo.apply(x, shape=shape)


class Concat(Function, integers=True):
    """y = (x_1, x_2, ...) end to end along an axis;  each dx_i is its piece of dy."""

    def forward(ctx, *arrays, axis):
        ctx.axis, ctx.ends = axis, np.cumsum([x.shape[axis] for x in arrays[:-1]], dtype=int)
        return _end_to_end(arrays, axis)

    def backward(ctx, grad):
        return tuple(np.split(grad, ctx.ends, ctx.axis))


def concat(tensors: Sequence, axis: int = 0) -> Tensor:
    """The tensors one after another along `axis`; their other lengths must be equal, else ValueError."""
    if not tensors:
        raise ValueError("concat() needs at least one tensor; given none")
    return Concat.apply(*tensors, axis=axis)


class Split(Function, integers=True):
    """(y_1, y_2, ...) = equal pieces of x along an axis;  dx = (dy_1, dy_2, ...) end to end."""

    def forward(ctx, x, sections, axis):
        ctx.axis = axis
        return tuple(np.split(x, sections, axis))

    def backward(ctx, *grads):
        return _end_to_end(grads, ctx.axis)


def split(x, sections: int, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut along `axis` into so many equal pieces; ValueError if its length is no multiple of that.

    >>> split(Tensor([1, 2, 3, 4]), 2)
    (Tensor([1, 2], shape=(2,), int64), Tensor([3, 4], shape=(2,), int64))
    """
    if sections < 1 or x.shape[axis] % sections:
        raise ValueError(f"split() cannot cut axis {axis} of {x.shape} into {sections} equal sections")
    return Split.apply(x, sections=sections, axis=axis)


def _end_to_end(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """np.concatenate.  Short pieces are moved as one large number each: 6,272 pixels of 2 + 2 take 5 us, not 38."""
    first = arrays[0]  # such a view needs pieces of one width, whose last axis lies in one run; it changes no bit
    wide = WIDE.get(first.itemsize * first.shape[-1]) if first.ndim > 1 and axis in (-1, first.ndim - 1) else None
    if not wide or any((x.shape, x.dtype, x.strides[-1]) != (first.shape, first.dtype, x.itemsize) for x in arrays):
        return np.concatenate(arrays, axis)
    return np.concatenate([x.view(wide) for x in arrays], axis).view(first.dtype)


def stack(tensors: Sequence, axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis, which becomes axis `axis` of the result."""
    shapes = [x.shape for x in tensors]
    if len(set(shapes)) != 1:
        raise ValueError(f"stack() needs tensors of one shape; given shapes {shapes}")
    longer = np.expand_dims(np.broadcast_to(0, shapes[0]), axis).shape
    return concat([reshape(x, longer) for x in tensors], axis)


class GetItem(Function, integers=True):
    """y_k = x_i(k);  dx_i = the sum of dy_k over all k with i(k) = i."""

    def forward(ctx, x, index):
        ctx.shape, ctx.index = x.shape, index
        return x[index]

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


def _to_arrays(index):
    """The index with tensors and lists in it turned into arrays."""
    if isinstance(index, tuple):
        return tuple(_to_arrays(part) for part in index)
    if isinstance(index, Tensor):
        return index.data
    return np.asarray(index, dtype=None if index else int) if isinstance(index, list) else index


def _may_repeat(index) -> bool:
    """Whether the index can name the same place twice: only an array of integers can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, np.ndarray) and part.dtype != np.bool_ for part in parts)
