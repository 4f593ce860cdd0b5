"""Winograd's matrices, the transforms by them, and the memo of transformed weights."""
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.kernels import winograd
from nn.kernels.memo import Memo
from nn.kernels.padding import copy_into
from nn.kernels.reference import winograd as simple
from nn.kernels.winograd_matrices import MATRICES, POINTS, M, cook_toom
from tests.oracles.numeric import assert_close

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
sizes = {"count": st.integers(1, 2), "height": st.integers(1, 9), "width": st.integers(1, 9)}
TOLERANCE = {np.float32: 3e-6, np.float64: 1e-14}


@pytest.mark.parametrize(("m", "r", "points"), [(4, 3, POINTS), (2, 3, (0, 1, -1)), (3, 2, (0, 1, -1))])
def test_the_matrices_convolve(m, r, points):
    """Catches: a sign or a scale wrong in the construction: y_i = sum over k of d[i+k] g[k]."""
    output, weights, inputs = cook_toom(m, r, points)
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(m + r - 1), rng.standard_normal(r)
    np.testing.assert_allclose(output @ ((weights @ g) * (inputs @ d)), np.correlate(d, g), atol=1e-13)


@dtypes
@given(**sizes, channels=st.sampled_from([16, 48]), padding=st.integers(0, 2))
def test_gather(dtype, count, height, width, channels, padding):
    """Catches: a row or column of a tile transformed by the wrong coefficients; borders of another image left over."""
    rng = np.random.default_rng([count, height, width])
    x = rng.standard_normal((count, height, width, channels)).astype(dtype)
    out_height, out_width = max(1, height + 2 * padding - 2), max(1, width + 2 * padding - 2)
    if height + 2 * padding < 3 or width + 2 * padding < 3:
        return
    flat, planes = winograd.planes(count * winograd.tile_count(out_height, out_width), channels, x.dtype, "test")
    flat[:] = np.nan
    winograd.gather(x, padding, winograd.padded(out_height, out_width, channels, 2, x.dtype), flat)
    expected = simple.gather(x.astype(float), MATRICES["input"], M, padding, out_height, out_width)
    assert_close(planes, expected, TOLERANCE[dtype], "the image's planes")
    flat, planes = winograd.planes(count * winograd.tile_count(height, width), channels, x.dtype, "test")
    winograd.gather_gradient(x, 0, winograd.padded(height, width, channels, 0, x.dtype), flat)
    expected = simple.gather(x.astype(float), MATRICES["output adjoint"], M, 0, height, width)
    assert_close(planes, expected, TOLERANCE[dtype], "the gradient's planes")


@dtypes
@given(**sizes)
def test_scatter(dtype, count, height, width):
    """Catches: a tile that writes beyond the image, into the next row or the next image."""
    rng = np.random.default_rng([count, height, width])
    flat, planes = winograd.planes(count * winograd.tile_count(height, width), 16, np.dtype(dtype), "test")
    planes[:] = rng.standard_normal(planes.shape)
    bias = rng.standard_normal(16).astype(dtype)
    guarded = np.full((count + 2, height, width, 16), 7, dtype)
    winograd.scatter(flat, bias, guarded[1:-1])
    expected = simple.scatter(planes.astype(float), MATRICES["output"], bias, (count, height, width, 16))
    assert_close(guarded[1:-1], expected, TOLERANCE[dtype])
    assert (guarded[0] == 7).all() and (guarded[-1] == 7).all()


@dtypes
@given(inputs=st.sampled_from([1, 2, 4, 5]), outputs=st.sampled_from([16, 48]))
def test_flat(dtype, inputs, outputs):
    """Catches: weights transformed along the wrong axis, or beyond where they end."""
    weight = np.random.default_rng([inputs, outputs]).standard_normal((3, 3, inputs, outputs)).astype(dtype)
    length = inputs * outputs
    flat, planes = winograd.planes(inputs, outputs, weight.dtype)
    flat[:] = 7
    winograd.weights(weight.reshape(9, -1), flat, length)
    expected = simple.flat(weight.reshape(3, 3, -1).astype(float), MATRICES["weights"])
    assert_close(planes.reshape(expected.shape), expected, TOLERANCE[dtype])
    assert (flat[:, length:] == 7).all()
    back = np.empty((9, length), dtype)
    winograd.weights_adjoint(flat, back, length)
    expected = simple.flat(expected, MATRICES["weights adjoint"])
    assert_close(back.reshape(expected.shape), expected, TOLERANCE[dtype])


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
    np.testing.assert_array_equal(second, winograd._transform(weight))


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
