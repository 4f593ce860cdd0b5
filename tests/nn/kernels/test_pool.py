"""Pooling of squares, against its twin."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.kernels import pool
from nn.kernels.reference import pool as simple


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 7), st.sampled_from([1, 3, 16, 37])),
    size=st.integers(1, 3),
    ties=st.booleans(),
)
def test_squares(dtype, shape, size, ties):
    """Catches: rows of two images mixed up, channels beyond the last vector, a tie that wins twice, a lost NaN."""
    rng = np.random.default_rng([*shape, size])
    small = rng.standard_normal(shape).astype(dtype)
    large = rng.standard_normal((shape[0], shape[1] * size, shape[2] * size, shape[3])).astype(dtype)
    if ties:
        large = np.round(large)
        large[rng.random(large.shape) < 0.1] = np.nan
    out_small, out_large, winners = np.empty_like(small), np.empty_like(large), np.empty(shape, np.int32)
    pool.largest(large, winners, out_small)
    expected, places = simple.largest(large, size)
    np.testing.assert_array_equal(out_small, expected)
    np.testing.assert_array_equal(winners, places)
    pool.to_winners(small, winners, out_large)
    np.testing.assert_array_equal(out_large, simple.to_winners(small, winners, size))
