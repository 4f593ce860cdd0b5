"""Reductions: values against sums in plain loops, every kind of axis, ties and extremes."""
import math

import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor
from tests.nn.ops.judge import judge
from tests.nn.ops.run import backward, forward

rng = np.random.default_rng(0)
X = rng.permutation(24).reshape(2, 3, 4) * 0.1 + rng.uniform(0, 0.03, (2, 3, 4))  # no two numbers are close
AXES = [None, 0, -1, (0, 2), (-1, 0), (1,), (0, 1, 2)]

EXACT = {
    "sum": math.fsum,
    "mean": lambda v: math.fsum(v) / len(v),
    "logsumexp": lambda v: math.log(math.fsum(math.exp(x) for x in v)),
}


def reduced(x, axis, keepdims, f):
    """f of the list of all numbers that share their other indices."""
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in np.atleast_1d(axis)]
    kept = [a for a in range(x.ndim) if a not in axes]
    y = np.zeros([1 if a in axes else n for a, n in enumerate(x.shape)])
    for index in np.ndindex(y.shape):
        y[index] = f(x[tuple(slice(None) if a in axes else i for a, i in enumerate(index))].ravel().tolist())
    return y if keepdims else y.reshape([x.shape[a] for a in kept])


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_reduction(name, axis, keepdims):
    """Catches: the wrong axis, a count of the wrong axes, an axis lost or kept, a gradient spread over another."""
    judge(getattr(F, name), [X], reduced(X, axis, keepdims, EXACT[name]), axis=axis, keepdims=keepdims)


def test_of_a_single_number():
    """Catches: a reduction that fails on a tensor without axes."""
    for name in EXACT:
        judge(getattr(F, name), [np.array(1.5)], np.array(EXACT[name]([1.5])))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logsumexp_at_extremes(dtype):
    """Catches: overflow at 1e4; log(0) at -1e4; NaN for a row of -inf; the gradient's digits lost next to 1e4."""
    x = np.array([[1e4, 1e4], [-1e4, -1e4], [-np.inf, -np.inf], [-np.inf, 0]], dtype)
    y = forward(F.logsumexp, [x], axis=1)[0]
    np.testing.assert_allclose(y, [1e4 + math.log(2), -1e4 + math.log(2), -np.inf, 0], rtol=1e-6)
    (dx,) = backward(F.logsumexp, [x], [np.ones(4, dtype)], axis=1)
    np.testing.assert_allclose(dx, [[0.5, 0.5], [0.5, 0.5], [0, 0], [0, 1]], rtol=1e-6)


def test_methods():
    """Catches: a method of Tensor that drops axis or keepdims, or is attached to another op."""
    x = Tensor(X)
    for name in ("sum", "mean"):
        expected = reduced(X, (0, 2), True, EXACT[name])
        np.testing.assert_allclose(getattr(x, name)(axis=(0, 2), keepdims=True).data, expected, rtol=1e-12)
        np.testing.assert_allclose(getattr(x, name)(1).data, reduced(X, 1, False, EXACT[name]), rtol=1e-12)
