"""Dropout."""
import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor
from tests.nn.ops.run import backward, forward

rng = np.random.default_rng(0)


def test_dropout_keeps_the_mean():
    """Catches: p taken for the probability of keeping; survivors not scaled up."""
    y = F.dropout(Tensor(np.ones((100, 100))), 0.8, np.random.default_rng(0)).data
    assert 0.18 < np.count_nonzero(y) / y.size < 0.22
    np.testing.assert_allclose(y[y != 0], 5)


def test_dropout_uses_the_same_mask_both_ways():
    """Catches: a new mask in the backward pass; a backward without the scale."""
    x = np.ones((20, 20))
    function = lambda x: F.dropout(x, 0.5, np.random.default_rng(1))  # noqa: E731
    np.testing.assert_array_equal(backward(function, [x], [x])[0], forward(function, [x])[0])


def test_dropout_is_the_same_in_both_dtypes():
    """Catches: random numbers drawn in the dtype of x, so that a float64 check is of another mask."""
    single, double = (Tensor(np.ones(50, dtype)) for dtype in (np.float32, np.float64))
    masks = [F.dropout(x, 0.5, np.random.default_rng(3)).data != 0 for x in (single, double)]
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_dropout_of_everything(p):
    """Catches: p = 1, which divides by zero."""
    with pytest.raises(ValueError, match="probability"):
        F.dropout(Tensor(np.ones(3)), p, rng)
