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


LENGTHS = st.tuples(*[st.integers(1, 3)] * 3)


@given(counts=LENGTHS, edges=LENGTHS, channels=st.integers(1, 2))
def test_tubelets_and_back(counts, edges, channels):
    """The number of a tubelet is its (t, y, x). Catches axes exchanged, and edges given to the wrong one."""
    sizes = [count * edge for count, edge in zip(counts, edges, strict=True)]
    x = np.random.default_rng(0).standard_normal((2, *sizes, channels))
    tubelets = squeeze(Tensor(x), edges)
    in_order = tubelets.data.reshape(2, -1, tubelets.shape[-1])
    for number, place in enumerate(np.ndindex(counts)):
        cut = [slice(i * edge, (i + 1) * edge) for i, edge in zip(place, edges, strict=True)]
        np.testing.assert_array_equal(in_order[:, number], x[(slice(None), *cut)].reshape(2, -1))
    np.testing.assert_array_equal(unsqueeze(tubelets, edges).data, x)
