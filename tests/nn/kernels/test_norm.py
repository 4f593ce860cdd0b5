"""The fused group normalisation, against its formula."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.kernels import norm
from nn.kernels.reference import norm as simple
from tests.oracles import elementary
from tests.oracles.numeric import assert_close

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EPS = 0.01  # large, because the variance of one number is 0, and 1 / sqrt(EPS) is then what its rounding grows by
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def run(x, gamma, beta, modulation, groups, grad, with_silu):
    """Forward and the four gradients."""
    out, dx, dgamma, dbeta = np.empty_like(x), np.empty_like(x), np.empty_like(gamma), np.empty_like(beta)
    dmodulation = np.empty_like(modulation)
    kept = np.empty((len(x), 4, x.shape[2]), x.dtype), np.empty((len(x), groups), x.dtype)
    per_channel = np.empty((4, x.shape[2]), x.dtype)
    forward = norm.group_norm_silu if with_silu else norm.group_norm
    backward = norm.group_norm_silu_backward if with_silu else norm.group_norm_backward
    forward(x, gamma, beta, modulation, EPS, *kept, out)
    backward(x, gamma, beta, *kept, grad, per_channel, dx, dgamma, dbeta, dmodulation)
    return out, dx, dgamma, dbeta, dmodulation


def by_formula(x, gamma, beta, modulation, groups, grad, with_silu):
    """The same in float64, step by step."""
    less, shift = np.split(modulation[:, None], 2, axis=-1)  # (N, 1, C)
    u = (1 + less) * x + shift
    h = simple.group_norm(u, gamma, beta, groups, EPS)
    s = elementary.each(elementary.sigmoid, h)
    dh = grad * s * (1 + h * (1 - s)) if with_silu else grad
    du, dgamma, dbeta = simple.group_norm_backward(u, gamma, groups, EPS, dh)
    dmodulation = np.concatenate([(du * x).sum(axis=1), du.sum(axis=1)], axis=1)
    return h * s if with_silu else h, (1 + less) * du, dgamma, dbeta, dmodulation


@dtypes
@pytest.mark.parametrize("with_silu", [False, True])
@given(
    count=st.integers(1, 3),
    positions=st.integers(1, 35),
    groups=st.integers(1, 4),
    width=st.sampled_from([1, 2, 5, 16]),
    shift=st.sampled_from([0.0, 30.0]),
    modulated=st.sampled_from([0.0, 1.0]),
)
def test_forward_and_backward(dtype, with_silu, count, positions, groups, width, shift, modulated):
    """Catches: sums that miss the last odd position; channels of one vector that belong to two groups; a mean far
    from zero that costs digits; a gradient that forgets that mean and variance depend on x, or what they depend on of
    the modulation; one image's modulation used for all."""
    rng = np.random.default_rng([count, positions, groups, width])
    x, grad = rng.standard_normal((2, count, positions, groups * width)).astype(dtype)
    x += dtype(shift)
    gamma, beta = rng.standard_normal((2, groups * width)).astype(dtype)
    modulation = (modulated * rng.standard_normal((count, 2 * groups * width))).astype(dtype)
    tolerance = TOLERANCE[dtype] * (1 + shift)
    results = run(x, gamma, beta, modulation, groups, grad, with_silu)
    wide = [array.astype(np.float64) for array in (x, gamma, beta, modulation)]
    expected = by_formula(*wide, groups, grad.astype(np.float64), with_silu)
    for name, ours, truth in zip(("y", "dx", "dgamma", "dbeta", "dmodulation"), results, expected, strict=True):
        assert_close(ours, truth, tolerance, name, floor=1)


@dtypes
def test_moments_survive_a_large_mean(dtype):
    """Catches: variance as E[x^2] - E[x]^2, which in float32 is nonsense where the mean is 1000 sigma."""
    x = (1000 + np.random.default_rng(0).standard_normal((2, 784, 5))).astype(dtype)
    mean, variance = np.empty((2, 5), dtype)
    norm.channel_moments(x, 1, mean, variance)
    assert_close(mean, x[1].astype(np.float64).mean(axis=0), 1e-6)
    assert_close(variance, x[1].astype(np.float64).var(axis=0), 1e-5)


@pytest.mark.parametrize("with_silu", [False, True])
def test_gradients_survive_a_large_mean(with_silu):
    """Catches: a sum of dh x that is not taken around the mean of x."""
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, 2, 784, 32)).astype(np.float32)
    x += np.float32(1000)
    gamma, beta = rng.standard_normal((2, 32)).astype(np.float32)
    modulation = np.concatenate([rng.uniform(-0.5, 1, (2, 32)), -1000 * np.ones((2, 32))], axis=1).astype(np.float32)
    results = run(x, gamma, beta, modulation, 8, grad, with_silu)
    wide = [array.astype(np.float64) for array in (x, gamma, beta, modulation)]
    expected = by_formula(*wide, 8, grad.astype(np.float64), with_silu)
    for name, ours, truth in zip(("y", "dx", "dgamma", "dbeta", "dmodulation"), results, expected, strict=True):
        assert_close(ours, truth, 4e-6, name)
