"""A row added to all rows, and the sum of all rows, against NumPy."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nn.kernels import rows
from tests.oracles.numeric import assert_close


@given(count=st.integers(0, 200), columns=st.integers(1, 80), dtype=st.sampled_from([np.float32, np.float64]))
def test_rows(count, columns, dtype):
    """Catches: rows taken together that are no whole number of them, a bias that is shifted, a sum along the rows."""
    rng = np.random.default_rng(count * 100 + columns)
    matrix, row = rng.normal(size=(count, columns)).astype(dtype), rng.normal(size=columns).astype(dtype)
    kept = row.copy()
    summed = matrix + row
    total = rows.sum_rows(matrix)
    assert total.dtype == dtype and total.shape == (columns,)
    assert_close(total, matrix.sum(axis=0, dtype=np.float64), 1e-4 if dtype == np.float32 else 1e-12)
    rows.add_row(matrix, row)
    np.testing.assert_array_equal(matrix, summed)
    np.testing.assert_array_equal(row, kept)
