"""Winograd's matrices, the transforms by them, and the memo of transformed weights."""
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.kernels import winograd
from nn.kernels.memo import Memo
from nn.kernels.padding import copy_into
from nn.kernels.winograd_matrices import MATRICES, POINTS, cook_toom
from tests.oracles.numeric import assert_close


@pytest.mark.parametrize(("m", "r", "points"), [(4, 3, POINTS), (2, 3, (0, 1, -1)), (3, 2, (0, 1, -1))])
def test_the_matrices_convolve(m, r, points):
    """Catches: a sign or a scale wrong in the construction: y_i = sum over k of d[i+k] g[k]."""
    output, weights, inputs = cook_toom(m, r, points)
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(m + r - 1), rng.standard_normal(r)
    np.testing.assert_allclose(output @ ((weights @ g) * (inputs @ d)), np.correlate(d, g), atol=1e-13)


@given(height=st.integers(1, 9), width=st.integers(1, 9), added=st.booleans())
def test_the_last_tiles_end_with_the_image(height, width, added):
    """Catches: a tile that writes, or adds what lies, beyond the image, in the next row or the next image."""
    flat, planes = winograd.planes(2 * winograd.tile_count(height, width), 16, np.dtype(np.float64), "test")
    planes[:] = np.random.default_rng([height, width]).standard_normal(planes.shape)
    guarded = np.full((4, height, width, 16), 7.0)
    onto = np.random.default_rng(0).standard_normal(guarded.shape) if added else None
    winograd.scatter(flat, np.zeros(16), onto if onto is None else onto[1:-1], guarded[1:-1])
    tiles = planes.reshape(6, 6, 2, -(-height // 4), -(-width // 4), 16)
    whole = np.einsum("ia,abnrsc,jb->nrisjc", MATRICES["output"], tiles, MATRICES["output"])
    whole = whole.reshape(2, 4 * tiles.shape[3], 4 * tiles.shape[4], 16)
    expected = whole[:, :height, :width] + (0 if onto is None else onto[1:-1])
    assert_close(guarded[1:-1], expected, 1e-14)
    assert (guarded[[0, -1]] == 7).all()


@pytest.mark.parametrize("shape", [(3, 3, 1, 16), (3, 3, 5, 48)])
def test_weights_are_transformed_to_their_end(shape):
    """Catches: weights transformed along the wrong axis, or beyond where they end."""
    weight = np.random.default_rng(0).standard_normal(shape)
    flat, planes = winograd.planes(*shape[2:], weight.dtype)
    flat[:] = 7
    winograd.weights(weight.reshape(9, -1), flat, planes[0].size)
    expected = np.einsum("ai,ijkl,bj->abkl", MATRICES["weights"], weight, MATRICES["weights"])
    assert_close(planes.reshape(expected.shape), expected, 1e-14)
    assert (flat[:, planes[0].size :] == 7).all()


def test_copy_into():
    """Catches: an image copied to the wrong place, or past the end of a row."""
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 3))
    padded = np.zeros((6, 9, 3))
    copy_into(x, 1, 2, padded)
    expected = np.zeros_like(padded)
    expected[2 : 2 + x.shape[1], 2 : 2 + x.shape[2]] = x[1]
    np.testing.assert_array_equal(padded, expected)


def test_transformed_weights_follow_the_weights():
    """Catches: a memo that gives yesterday's result after an optimiser has changed the weights in place."""
    weight = np.random.default_rng(0).standard_normal((3, 3, 16, 16))
    first = winograd.transform_weights(weight)
    assert winograd.transform_weights(weight) is first
    assert winograd.transform_weights(weight, flipped=True) is not first
    weight[2, 1, 3, 4] += 1e-12
    second = winograd.transform_weights(weight)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(second, winograd.transform_weights(weight.copy()))


def test_the_memo_forgets_the_oldest_beyond_its_limit():
    """Catches: memory that grows with every set of weights ever seen, and threads that corrupt the count of it."""
    memo = Memo(limit=4000)
    weights = [np.full(100, float(i)) for i in range(20)]

    def use():
        for _ in range(50):
            for weight in weights:
                assert memo.get(weight, "twice", lambda w: 2 * w)[0] == 2 * weight[0]

    threads = [threading.Thread(target=use) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert 0 < memo.size() <= 4000
