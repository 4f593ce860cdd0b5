"""The direct kernels for few channels, against the convolution that they are."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.kernels import direct
from nn.kernels.convolution import _padded_for_fours, output_size
from nn.kernels.reference import convolution as simple
from tests.oracles.numeric import assert_close

TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    few=st.integers(1, 4),
    many=st.sampled_from([1, 3, 16, 37]),
    kernel=st.sampled_from([(3, 3), (2, 4), (1, 5)]),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
)
def test_few_channels(dtype, shape, few, many, kernel, stride, padding):
    """Catches: a group of four pixels or weights whose last members are wrong; lanes beyond the last channel."""
    rng = np.random.default_rng(shape)
    count, height, width = shape
    height, width = max(height, kernel[0]), max(width, kernel[1])
    for channels, out_channels, forward, backward in (
        (few, many, "wide", "wide_weight_gradient"),
        (many, few, "narrow", "narrow_weight_gradient"),
    ):
        x = rng.standard_normal((count, height, width, channels)).astype(dtype)
        out_shape = (count, *output_size(x.shape, kernel, stride, padding), out_channels)
        weight_shape = (*kernel, few, many) if forward == "wide" else (few, kernel[0], kernel[1] * many)
        weight = rng.standard_normal(weight_shape).astype(dtype)
        bias, grad = rng.standard_normal(out_channels).astype(dtype), rng.standard_normal(out_shape).astype(dtype)
        padded = _padded_for_fours(x, kernel, stride, padding, out_shape[2])
        out, dw = np.empty(out_shape, dtype), np.empty_like(weight)
        getattr(direct, forward)(x, weight, bias, stride, padding, padded, out)
        getattr(direct, backward)(x, grad, stride, padding, padded, dw)
        x, weight, bias, grad = (array.astype(np.float64) for array in (x, weight, bias, grad))
        if forward == "narrow":  # (few, kh, kw*C)
            weight, dw = (w.reshape(few, *kernel, many).transpose(1, 2, 3, 0) for w in (weight, dw))
        assert_close(out, simple.convolve(x, weight, bias, stride, padding), TOLERANCE[dtype], forward, 1)
        assert_close(dw, simple.weight_gradient(x, grad, kernel, stride, padding), TOLERANCE[dtype], backward, 1)
