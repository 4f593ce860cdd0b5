"""Pooling and upsampling of squares, against their twins."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.kernels import pool
from nn.kernels.reference import pool as simple
from tests.oracles.numeric import assert_close


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
    pool.sum_squares(large, 0.25, out_small)
    assert_close(out_small, simple.sum_squares(large.astype(float), size, 0.25), 1e-6 if dtype == np.float32 else 1e-14)
    pool.spread(small, 0.25, out_large)
    np.testing.assert_array_equal(out_large, simple.spread(small, size, dtype(0.25)))
    pool.largest(large, winners, out_small)
    expected, places = simple.largest(large, size)
    np.testing.assert_array_equal(out_small, expected)
    np.testing.assert_array_equal(winners, places)
    pool.to_winners(small, winners, out_large)
    np.testing.assert_array_equal(out_large, simple.to_winners(small, winners, size))
