"""Arithmetic: values, broadcasting, and the rules where a function has no derivative."""
import math

import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor
from tests.nn.ops.judge import judge
from tests.nn.ops.run import backward, forward
from tests.oracles.elementary import each

rng = np.random.default_rng(0)
A, B = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
POSITIVE = rng.uniform(0.5, 2, (2, 3))
NAN = np.array([np.nan, 1.0, -1.0])


@pytest.mark.parametrize(
    ("function", "a", "b", "expected"),
    [
        (F.add, A, B, A + B),
        (F.sub, A, B, A - B),
        (F.mul, A, B, A * B),
        (F.div, A, POSITIVE, A / POSITIVE),
    ],
    ids=["add", "sub", "mul", "div"],
)
def test_of_two(function, a, b, expected):
    """Catches: operands swapped, a sign lost, the gradient of one operand given to the other."""
    judge(function, [a, b], expected)


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 3)), ((4, 1, 3), (2, 1))], ids=str)
def test_broadcasting(shapes):
    """Catches: a gradient that keeps the shape of the output, or is summed over the wrong axis, where one broadcast."""
    a, b = (rng.standard_normal(shape) for shape in shapes)
    judge(F.mul, [a, b], a * b)
    judge(F.div, [a, 2 + b * b], a / (2 + b * b))


@pytest.mark.parametrize(
    ("function", "x", "exact"),
    [
        (F.neg, A, lambda x: -x),
        (F.exp, A, math.exp),
        (F.log, POSITIVE, math.log),
    ],
    ids=["neg", "exp", "log"],
)
def test_of_one(function, x, exact):
    """Catches: another function's formula, or the derivative taken at y where it belongs at x."""
    judge(function, [x], each(exact, x))


@pytest.mark.parametrize("p", [2, 3, -1, 0.5, 0, 1, np.float32(2), np.array(3)])
def test_pow(p):
    """Catches: p x^p for p x^(p - 1); a special case for one exponent that leaks into another."""
    judge(lambda x: F.pow(x, p), [POSITIVE], each(lambda x: x ** float(p), POSITIVE))


def test_pow_at_zero():
    """Catches: 0 * inf = NaN in the gradient of x^0, where the derivative is 0."""
    assert backward(lambda x: F.pow(x, 0), [np.array([0.0, 3.0])], [np.ones(2)])[0].tolist() == [0, 0]


def test_an_exponent_is_a_number():
    """Catches: an exponent whose gradient is lost without a word."""
    for base, p in ((Tensor(A), Tensor(A)), (Tensor(A), A), (2.0, Tensor(A)), (A, Tensor(A))):
        with pytest.raises(TypeError, match="pow takes plain numbers"):
            base**p


def test_a_number_stays_a_number():
    """Catches: a Python or NumPy number that turns a float32 tensor into float64."""
    x = Tensor(np.ones(3, np.float32))
    for y in (x + 1.5, 2 * x, x / np.float64(3), 1 - x, x**2.0, F.clip(x, np.float64(0), 2)):
        assert y.dtype == np.float32


def test_clip():
    """Catches: the bounds swapped, the gradient let through outside or stopped on the bound."""
    x = np.array([-2.0, -1.0, 0.3, 2.0, 2.5])
    assert forward(F.clip, [x], low=-1, high=2)[0].tolist() == [-1, -1, 0.3, 2, 2]
    u = np.array([1.0, 2, 3, 4, 5])
    assert backward(F.clip, [x], [u], low=-1, high=2)[0].tolist() == [0, 2, 3, 4, 0]
    for bounds in ((None, 1), (0.0, None), (np.zeros(5), 1), (0.0, Tensor(1.0))):  # arrays would make it float64
        with pytest.raises(TypeError, match="clip takes plain numbers"):
            F.clip(Tensor(x.astype(np.float32)), *bounds)


def test_a_nan_passes():
    """Catches: a clip that quietly replaces a NaN by a number, so that a broken run looks healthy."""
    y = forward(F.clip, [NAN], low=-0.5, high=0.5)[0]
    assert np.isnan(y[0]) and not np.isnan(y[1:]).any()
