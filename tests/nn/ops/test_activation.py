"""What activations owe beyond the properties of all ops: they survive +-1e4 and let a NaN through."""
import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor

ENTRYWISE = ["relu", "leaky_relu", "silu", "sigmoid", "tanh", "softplus"]
LIMITS = {  # the values at -1e4 and 1e4
    "relu": (0, 1e4), "leaky_relu": (-2e3, 1e4), "silu": (0, 1e4),
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


@dtypes
@pytest.mark.filterwarnings("error")
def test_log_softmax_of_large_arguments(dtype):
    """Catches: exp before the maximum is subtracted; a log of a softmax that has underflowed."""
    x = np.array([[1e4, -1e4, 1e4], [-1e4, -1e4, 0]], dtype)
    np.testing.assert_allclose(F.log_softmax(x).data, [[-np.log(2), -2e4, -np.log(2)], [-1e4, -1e4, 0]], rtol=1e-4)
