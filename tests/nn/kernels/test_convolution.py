"""Every algorithm for a convolution, against the definition: 1x1 maps, odd sizes, one channel, one image."""
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nn.kernels import convolution, im2col
from nn.kernels.reference import convolution as simple
from nn.kernels.reference import im2col as simple_im2col
from nn.kernels.scratch import scratch
from tests.oracles.numeric import assert_close

TOLERANCE = {np.float32: 5e-6, np.float64: 1e-13}  # Winograd's share of the error included

shapes = st.fixed_dictionaries(
    {
        "count": st.integers(1, 3),
        "height": st.integers(1, 9),
        "width": st.integers(1, 9),
        "channels": st.sampled_from([1, 2, 3, 5, 8, 16, 32]),
        "out_channels": st.sampled_from([1, 2, 3, 5, 8, 16, 48]),
        "kernel": st.sampled_from([(1, 1), (3, 3), (4, 4), (2, 3), (5, 5)]),
        "stride": st.integers(1, 3),
        "padding": st.integers(0, 2),
    }
)


def case(count, height, width, channels, out_channels, kernel, stride, padding):
    return dict(
        count=count, height=height, width=width, channels=channels, out_channels=out_channels,
        kernel=kernel, stride=stride, padding=padding,
    )  # fmt: skip


def draw(count, height, width, channels, out_channels, kernel, dtype, stride, padding):
    rng = np.random.default_rng([count, height, width, channels, out_channels, *kernel])
    height, width = (max(n, k - 2 * padding) for n, k in zip((height, width), kernel, strict=True))
    x = rng.standard_normal((count, height, width, channels)).astype(dtype)
    weight = rng.standard_normal((*kernel, channels, out_channels)).astype(dtype)
    bias = rng.standard_normal(out_channels).astype(dtype)
    grad = rng.standard_normal(simple.convolve(x, weight, bias, stride, padding).shape).astype(dtype)
    return x, weight, bias, grad


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(shape=shapes)
@example(shape=case(1, 1, 1, 16, 16, (3, 3), 1, 1))  # Winograd, a single tile, mostly padding
@example(shape=case(3, 5, 7, 32, 48, (3, 3), 1, 1))  # Winograd, tiles that stick out
@example(shape=case(2, 4, 4, 16, 16, (3, 3), 1, 0))
@example(shape=case(2, 4, 4, 16, 16, (3, 3), 1, 2))
@example(shape=case(2, 9, 6, 1, 16, (3, 3), 1, 1))  # few channels in
@example(shape=case(2, 6, 9, 16, 3, (3, 3), 1, 1))  # few out, "narrow"
@example(shape=case(1, 5, 7, 1, 1, (3, 3), 1, 1))
@example(shape=case(2, 8, 8, 16, 48, (4, 4), 2, 1))  # im2col
def test_convolution_and_its_gradients_are_what_the_definition_says(dtype, shape):
    """Catches: a border computed wrong, a tile left out, a kernel that ignores stride or padding, stale scratch."""
    x, weight, bias, grad = draw(dtype=dtype, **shape)
    options = shape["stride"], shape["padding"]
    wide = [array.astype(np.float64) for array in (x, weight, bias, grad)]
    y = convolution.convolve(x, weight, bias, *options)
    dx = convolution.input_gradient(grad, weight, x.shape, *options)
    dw = convolution.weight_gradient(x, grad, shape["kernel"], *options)
    assert y.dtype == dx.dtype == dw.dtype == dtype
    assert_close(y, simple.convolve(*wide[:3], *options), TOLERANCE[dtype], "the output")
    onto = convolution.convolve(x, weight, bias, *options, onto=grad)
    assert_close(onto, wide[3] + simple.convolve(*wide[:3], *options), TOLERANCE[dtype], "the output onto something")
    assert_close(dx, simple.input_gradient(wide[3], wide[1], x.shape, *options), TOLERANCE[dtype], "dx", floor=1)
    assert_close(dw, simple.weight_gradient(wide[0], wide[3], shape["kernel"], *options), TOLERANCE[dtype], "dw", 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(shape=shapes)
def test_im2col_and_col2im(dtype, shape):
    """Catches: patches cut wrong at the border, contributions to a pixel lost or added to the next row."""
    x, weight, _, grad = draw(dtype=dtype, **shape)
    options = *shape["kernel"], shape["stride"], shape["padding"], *grad.shape[1:3]
    expected = simple_im2col.im2col(x, shape["kernel"], shape["stride"], shape["padding"])
    columns = scratch("columns", (math.prod(expected.shape[:3]), math.prod(expected.shape[3:])), dtype)
    columns[...] = np.nan
    padded = convolution._padded(x.shape, shape["padding"], x.dtype)
    im2col.im2col(x, *options, padded, columns)
    np.testing.assert_array_equal(columns.reshape(expected.shape), expected)
    out = np.full_like(x, np.nan)
    im2col.col2im(columns.ravel(), *options, padded.ravel(), out)
    assert_close(out, simple_im2col.col2im(expected, x.shape, shape["stride"], shape["padding"]), 1e-6, floor=1)


@pytest.mark.parametrize(
    ("method", "kernel", "stride", "padding", "channels"),
    [
        ("matmul", (1, 1), 1, 0, (32, 64)),
        ("im2col", (1, 1), 2, 0, (32, 64)),
        ("winograd", (3, 3), 1, 1, (32, 32)),
        ("im2col", (3, 3), 2, 1, (32, 64)),
        ("im2col", (3, 3), 1, 1, (32, 24)),
        ("im2col", (3, 3), 1, 1, (1, 32)),
        ("narrow", (3, 3), 1, 1, (32, 1)),
        ("im2col", (3, 3), 2, 1, (32, 1)),  # an output's patches overlap as the pixels do only with stride 1
        ("im2col", (3, 3), 1, 3, (32, 1)),
        ("im2col", (2, 3), 1, 1, (32, 1)),
    ],
)
def test_the_algorithm_follows_from_the_shape(method, kernel, stride, padding, channels):
    """Catches: a change that sends the layers of a network to a slower algorithm, or one that does not fit."""
    assert convolution.choose(kernel, stride, padding, channels) == method


def test_a_large_batch_is_cut_into_chunks_that_add_up():
    """Catches: chunks of Winograd's planes that overlap, are dropped, overwrite the weights' gradient, or are all added
    to the first images."""
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, 23, 12, 12, 32))
    weight = rng.standard_normal((3, 3, 32, 32))
    assert len(convolution._chunks(23, (12, 12), 32, 32, 8)) > 1
    assert_close(convolution.convolve(x, weight, None, 1, 1), simple.convolve(x, weight, 0, 1, 1), 1e-13)
    onto = convolution.convolve(x, weight, None, 1, 1, onto=grad)
    assert_close(onto, grad + simple.convolve(x, weight, 0, 1, 1), 1e-13)
    expected = simple.weight_gradient(x, grad, (3, 3), 1, 1)
    assert_close(convolution.weight_gradient(x, grad, (3, 3), 1, 1), expected, 1e-13)


@pytest.mark.parametrize(("channels", "kernel"), [(32, 3), (1, 3), (32, 1), (32, 4)])
def test_the_weights_gradient_of_no_images_is_zero(channels, kernel):
    """Catches: what scratch memory held before, taken for a sum."""
    ones = np.ones((2, 8, 8, channels), np.float32)
    convolution.weight_gradient(ones, ones[:, : 9 - kernel, : 9 - kernel], (kernel, kernel), 1, 0)
    none = np.empty((0, 8, 8, channels), np.float32)
    found = convolution.weight_gradient(none, none[:, : 9 - kernel, : 9 - kernel], (kernel, kernel), 1, 0)
    np.testing.assert_array_equal(found, np.zeros((kernel, kernel, channels, channels), np.float32))


@pytest.mark.parametrize("channels", [32, 128, 512])
def test_chunks_are_worth_their_weights(channels):
    """Catches: chunks of a few tiles where there are many channels, for each of which all weights come from memory."""
    chunks = convolution._chunks(64, (7, 7), channels, channels, 4)
    assert [part.start for part in chunks] == [0, *(part.stop for part in chunks[:-1])] and chunks[-1].stop == 64
    assert min(4 * (part.stop - part.start) for part in chunks) >= 128  # four tiles an image


def test_the_bias_gradient_is_the_sum_over_pixels():
    grad = np.random.default_rng(0).standard_normal((2, 5, 7, 3))
    assert_close(convolution.bias_gradient(grad), grad.sum(axis=(0, 1, 2)), 1e-14)
