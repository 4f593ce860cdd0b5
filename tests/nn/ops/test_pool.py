"""What pooling owes beyond the properties of all ops: NaN passes, a tie is paid once, clear errors."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import functional as F
from nn.tensor import Tensor


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 7), st.sampled_from([1, 3, 16])),
    size=st.integers(1, 3),
    ties=st.booleans(),
)
def test_every_square_by_itself(shape, size, ties):
    """Catches: rows of two images mixed up, a tie that wins twice or in its last place, a lost NaN."""
    n, h, w, c = shape
    rng = np.random.default_rng([*shape, size])
    squares, grad = rng.standard_normal((n, h, w, c, size * size)), rng.standard_normal(shape)
    if ties:
        squares = np.round(squares)
        squares[rng.random(squares.shape) < 0.1] = np.nan

    def laid_out(squares):
        return squares.reshape(n, h, w, c, size, size).transpose(0, 1, 4, 2, 5, 3).reshape(n, h * size, w * size, c)

    x = Tensor(laid_out(squares), requires_grad=True)
    y = F.max_pool2d(x, size)
    y.backward(grad)
    first = squares.argmax(axis=-1)[..., None]  # a NaN is larger than all
    np.testing.assert_array_equal(y.data, np.take_along_axis(squares, first, axis=-1)[..., 0])
    np.testing.assert_array_equal(x.grad, laid_out((first == np.arange(size * size)) * grad[..., None]))


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
