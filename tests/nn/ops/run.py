"""Running an op forward and backward on plain arrays, as the tests need it."""
from __future__ import annotations

import numpy as np

from nn.tensor import Function, Tensor, no_grad


class _Join(Function):
    """All outputs of an op as one vector, so that one backward call can bring each its gradient."""

    @staticmethod
    def forward(ctx, *outputs):
        ctx.shapes = [y.shape for y in outputs]
        return np.concatenate([y.ravel() for y in outputs])

    @staticmethod
    def backward(ctx, grad):
        ends = np.cumsum([int(np.prod(shape)) for shape in ctx.shapes])
        return tuple(part.reshape(s) for part, s in zip(np.split(grad, ends[:-1]), ctx.shapes, strict=True))


def is_float(array) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind == "f"


def forward(function, arrays, **options) -> tuple[np.ndarray, ...]:
    """The op's outputs, always as a tuple."""
    with no_grad():
        outputs = function(*(Tensor(a) if is_float(a) else a for a in arrays), **options)
    return tuple(y.data for y in outputs) if isinstance(outputs, tuple) else (outputs.data,)


def backward(function, arrays, cotangents, constant=(), **options) -> list[np.ndarray | None]:
    """The gradient of <cotangents, outputs> with respect to each float array but those numbered in `constant`."""
    inputs = [Tensor(a, requires_grad=i not in constant) if is_float(a) else a for i, a in enumerate(arrays)]
    outputs = function(*inputs, **options)
    if isinstance(outputs, tuple):
        _Join.apply(*outputs).backward(np.concatenate([u.ravel() for u in cotangents]))
    else:
        outputs.backward(cotangents[0])
    return [x.grad if isinstance(x, Tensor) else None for x in inputs]


def as_dtype(arrays, dtype) -> list:
    return [a.astype(dtype) if is_float(a) else a for a in arrays]
