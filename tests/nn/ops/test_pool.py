"""What pooling owes beyond the properties of all ops: NaN passes, a tie is paid once, clear errors."""
import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor


def test_a_nan_passes():
    """Catches: a maximum that prefers numbers, so that the loss looks healthy."""
    x = np.zeros((1, 2, 4, 3), np.float32)
    x[0, 1, 0, 1] = np.nan
    y = F.max_pool2d(x, 2).data
    assert np.isnan(y[0, 0, 0, 1]) and np.isnan(y).sum() == 1


def test_the_gradient_of_a_tie_goes_to_one_place():
    """Catches: a gradient that is counted once for every equal number."""
    x = Tensor(np.ones((1, 4, 4, 2)), requires_grad=True)
    F.max_pool2d(x, 2).backward(np.full((1, 2, 2, 2), 3.0))
    np.testing.assert_array_equal(np.unique(x.grad), [0, 3])
    assert x.grad.sum() == 24


def test_a_size_that_does_not_divide_is_an_error():
    with pytest.raises(ValueError, match="multiples of 2"):
        F.max_pool2d(np.ones((1, 5, 4, 1)), 2)
