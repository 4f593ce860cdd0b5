"""Arithmetic and other functions that work on each number by itself.

For y = f(x) elementwise the Jacobian is diagonal, so the gradient is dL/dx = dL/dy * f'(x).  Where inputs broadcast,
these gradients have the shape of the output; the engine sums them back.
"""

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


def neg(x) -> Tensor:
    """-x."""
    return mul(x, -1)


class Pow(Function, integers=True):
    """y = x^p;  dx = dy p x^(p - 1), which is 0 where p = 0, even at x = 0."""

    def forward(ctx, x, p):
        ctx.p = p
        ctx.save(x)
        return x * x if p == 2 else x**p

    def backward(ctx, grad):
        (x,) = ctx.saved
        if ctx.p == 2:
            return grad * x * 2
        return grad * (ctx.p * x ** (ctx.p - 1)) if ctx.p != 0 else np.zeros_like(grad)


def pow(x, p: float) -> Tensor:
    """x ** p elementwise, p one number.  Raises TypeError for another exponent."""
    return Pow.apply(x, p=_number("pow", p))


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
    """x limited to [low, high]; for one bound alone, the other is infinite.  TypeError unless both are numbers."""
    return Clip.apply(x, low=_number("clip", low), high=_number("clip", high))


def dropout(x, p: float, rng: np.random.Generator) -> Tensor:
    """y = x m / (1 - p) with m = 0 with probability p (0 <= p < 1), else 1, so that E[y] = x.

    With numbers set to zero at random, a network does not rely on any one of them.  Source: Srivastava et al. 2014, in
    the "inverted" form, which leaves nothing to do at test time.
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout() needs a probability with 0 <= p < 1; given {p}")
    # float32 whatever the dtype of x, so that both precisions drop the same numbers
    kept = rng.random(x.shape, dtype=np.float32) >= p
    return mul(x, (kept / (1 - p)).astype(x.dtype if x.dtype.kind == "f" else np.float32))


def _number(op: str, given):
    """A number of Python's, so that the dtype of x stays."""
    given = given.item() if isinstance(given, np.ndarray) and given.ndim == 0 else given
    if not isinstance(given, numbers.Real):
        raise TypeError(f"{op} takes plain numbers beside x, such as float(y) or math.inf; given {given!r}")
    return given if isinstance(given, numbers.Integral) else float(given)
