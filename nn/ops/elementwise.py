"""Arithmetic and other functions that work on each number by itself.

For y = f(x) elementwise the Jacobian is diagonal, so the gradient is dL/dx = dL/dy * f'(x).  Where inputs broadcast,
these gradients have the shape of the output; the engine sums them back.
"""
from __future__ import annotations

import numbers

import numpy as np

from nn.tensor import Function, Tensor


class Add(Function, integers=True):
    """y = a + b;  da = dy,  db = dy."""

    def forward(ctx, a, b):
        return a + b

    def backward(ctx, grad):
        return grad, grad


def add(a, b) -> Tensor:
    """a + b, broadcast as NumPy does."""
    return Add.apply(a, b)


class Sub(Function, integers=True):
    """y = a - b;  da = dy,  db = -dy."""

    def forward(ctx, a, b):
        return a - b

    def backward(ctx, grad):
        return grad, -grad if ctx.needs[1] else None


def sub(a, b) -> Tensor:
    """a - b, broadcast as NumPy does."""
    return Sub.apply(a, b)


class Mul(Function, integers=True):
    """y = a b;  da = dy b,  db = dy a."""

    def forward(ctx, a, b):
        ctx.save(a if ctx.needs[1] else None, b if ctx.needs[0] else None)
        return a * b

    def backward(ctx, grad):
        a, b = ctx.saved
        return grad * b if ctx.needs[0] else None, grad * a if ctx.needs[1] else None


def mul(a, b) -> Tensor:
    """a * b elementwise, broadcast as NumPy does."""
    return Mul.apply(a, b)


class Div(Function):
    """y = a / b;  da = dy / b,  db = -dy y / b."""

    def forward(ctx, a, b):
        y = a / b
        ctx.save(b, y if ctx.needs[1] else None)
        return y

    def backward(ctx, grad):
        b, y = ctx.saved
        da = grad / b
        return da, -da * y if ctx.needs[1] else None


def div(a, b) -> Tensor:
    """a / b elementwise, broadcast as NumPy does."""
    return Div.apply(a, b)


class Neg(Function, integers=True):
    """y = -x;  dx = -dy."""

    def forward(ctx, x):
        return -x

    def backward(ctx, grad):
        return -grad


def neg(x) -> Tensor:
    """-x."""
    return Neg.apply(x)


class Pow(Function, integers=True):
    """y = x^p;  dx = dy p x^(p - 1),  dp = dy y log(x).

    Where p = 0, y is constant in x and dx = 0, even at x = 0.  Where x = 0 and p >= 0, dp = 0: the limit of y log(x).
    """

    def forward(ctx, x, p):
        ctx.square = np.ndim(p) == 0 and p == 2
        y = x * x if ctx.square else x**p
        ctx.save(x, p, y if ctx.needs[1] else None)
        return y

    def backward(ctx, grad):
        x, p, y = ctx.saved
        dx = dp = None
        if ctx.needs[0]:
            if ctx.square:
                dx = grad * x * 2
            elif isinstance(p, np.ndarray):
                # x^(-1) is infinite at x = 0 and would make 0 * inf = NaN of the zero gradient there
                dx = grad * p * x ** np.where(p == 0, 1, p - 1)
            else:
                dx = grad * (p * x ** (p - 1)) if p != 0 else np.zeros_like(grad)
        if ctx.needs[1]:
            flat = (x == 0) & (p >= 0)
            dp = grad * y * np.log(np.where(flat, 1, x).astype(y.dtype, copy=False))
        return dx, dp


def pow(x, p) -> Tensor:
    """x ** p elementwise; either may be a tensor, an array or a number."""
    return Pow.apply(x, p)


class Exp(Function):
    """y = e^x;  dx = dy y."""

    def forward(ctx, x):
        y = np.exp(x)
        ctx.save(y)
        return y

    def backward(ctx, grad):
        (y,) = ctx.saved
        return grad * y


def exp(x) -> Tensor:
    """e ** x elementwise."""
    return Exp.apply(x)


class Log(Function):
    """y = log(x);  dx = dy / x."""

    def forward(ctx, x):
        ctx.save(x)
        return np.log(x)

    def backward(ctx, grad):
        (x,) = ctx.saved
        return grad / x


def log(x) -> Tensor:
    """The natural logarithm, elementwise."""
    return Log.apply(x)


class Clip(Function, integers=True):
    """y = min(max(x, low), high);  dx = dy where low <= x <= high, else 0.  A NaN stays, and lets dy through."""

    def forward(ctx, x, low, high):
        ctx.save((x < low) | (x > high))
        return np.clip(x, low, high)

    def backward(ctx, grad):
        (outside,) = ctx.saved
        return np.where(outside, 0, grad)


def clip(x, low: float, high: float) -> Tensor:
    """x limited to [low, high].  Raises TypeError for bounds that are not single numbers."""
    return Clip.apply(x, low=_bound(low), high=_bound(high))


def _bound(given):
    """A number of Python's, so that the dtype of x stays."""
    number = given.item() if isinstance(given, np.ndarray | np.generic) and given.ndim == 0 else given
    if not isinstance(number, numbers.Real):
        raise TypeError(
            f"clip takes two plain numbers, float(low) and float(high); given {given!r} "
            "(for one bound alone, the other is math.inf or -math.inf)"
        )
    return number if isinstance(number, numbers.Integral) else float(number)


class Maximum(Function, integers=True):
    """y = max(a, b);  da = dy where a > b, dy / 2 where a = b, else 0;  db likewise.

    A NaN in either input makes y NaN and lets dy through to both.
    """

    def forward(ctx, a, b):
        ctx.save(a, b)
        return np.maximum(a, b)

    def backward(ctx, grad):
        a, b = ctx.saved
        shared = np.where(a == b, grad * 0.5, grad)
        return (
            np.where(a < b, 0, shared) if ctx.needs[0] else None,
            np.where(a > b, 0, shared) if ctx.needs[1] else None,
        )


def maximum(a, b) -> Tensor:
    """The larger of a and b elementwise; where they are equal each gets half of the gradient."""
    return Maximum.apply(a, b)
