"""Pixels into patches and back."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from generators.parts.patches import squeeze, unsqueeze
from nn.tensor import Tensor


@given(rows=st.integers(1, 3), columns=st.integers(1, 3), patch=st.integers(1, 4), channels=st.integers(1, 3))
def test_patches_and_back(rows, columns, patch, channels):
    """Catches: rows and columns exchanged, in the picture or within a patch; an inverse that is none."""
    x = np.random.default_rng(0).standard_normal((2, rows * patch, columns * patch, channels))
    patches = squeeze(Tensor(x), patch)
    assert patches.shape == (2, rows, columns, patch * patch * channels)
    for row, column in np.ndindex(rows, columns):
        expected = x[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch].reshape(2, -1)
        np.testing.assert_array_equal(patches.data[:, row, column], expected)
    np.testing.assert_array_equal(unsqueeze(patches, patch).data, x)
