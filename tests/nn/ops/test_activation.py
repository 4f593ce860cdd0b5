"""What activations owe beyond the properties of all ops: they survive +-1e4 and let a NaN through."""
import math

import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor

ENTRYWISE = ["relu", "leaky_relu", "silu", "gelu", "sigmoid", "tanh", "softplus"]
LIMITS = {  # the values at -1e4 and 1e4
    "relu": (0, 1e4), "leaky_relu": (-2e3, 1e4), "silu": (0, 1e4), "gelu": (0, 1e4),
    "sigmoid": (0, 1), "tanh": (-1, 1), "softplus": (0, 1e4),
}  # fmt: skip
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@dtypes
@pytest.mark.parametrize("name", ENTRYWISE)
@pytest.mark.filterwarnings("error")
def test_large_arguments(name, dtype):
    """Catches: exp of a large number, and the inf / inf or 0 * inf that follows, forward or backward."""
    x = Tensor(np.array([-1e4, 1e4], dtype), requires_grad=True)
    y = getattr(F, name)(x)
    y.backward(np.ones(2, dtype))
    np.testing.assert_allclose(y.data, LIMITS[name], rtol=1e-6, atol=1e-30)
    slopes = {"leaky_relu": (0.2, 1), "sigmoid": (0, 0), "tanh": (0, 0)}.get(name, (0, 1))
    np.testing.assert_allclose(x.grad, slopes, rtol=1e-6, atol=1e-30)


@dtypes
@pytest.mark.parametrize("name", ENTRYWISE)
def test_a_nan_passes(name, dtype):
    """Catches: relu as `x if x > 0 else 0`, and a clamp inside exp that turns a NaN into a number."""
    y = getattr(F, name)(np.array([1.0, np.nan, -1.0], dtype)).data
    np.testing.assert_array_equal(np.isnan(y), [False, True, False])


def test_gelu_is_the_exact_one():
    """Catches: the tanh approximation, which differs by up to 5e-4."""
    x = np.linspace(-6, 6, 101)
    expected = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]
    np.testing.assert_allclose(F.gelu(x).data, expected, rtol=1e-12, atol=1e-15)


@dtypes
@pytest.mark.filterwarnings("error")
def test_softmax_of_large_arguments(dtype):
    """Catches: exp before the maximum is subtracted; a log of a softmax that has underflowed."""
    x = np.array([[1e4, -1e4, 1e4], [-1e4, -1e4, 0]], dtype)
    np.testing.assert_array_equal(F.softmax(x).data, [[0.5, 0, 0.5], [0, 0, 1]])
    np.testing.assert_allclose(F.log_softmax(x).data[1], [-1e4, -1e4, 0])


def test_softmax_does_not_see_a_constant():
    """softmax(x + c) = softmax(x).  Catches: a sum over the wrong axis."""
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    for axis in (0, 1, -1):
        np.testing.assert_allclose(F.softmax(x + 7, axis).data, F.softmax(x, axis).data, rtol=1e-12)
        np.testing.assert_allclose(F.softmax(x, axis).data.sum(axis), 1, rtol=1e-12)
        np.testing.assert_allclose(np.exp(F.log_softmax(x, axis).data), F.softmax(x, axis).data, rtol=1e-12)
