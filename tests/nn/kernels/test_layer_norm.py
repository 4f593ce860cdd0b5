"""Layer normalisation in one pass, against its formula."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.kernels import layer_norm as kernels
from nn.kernels.reference import norm as simple
from tests.oracles.numeric import assert_close

EPS = 0.01  # large, because the variance of one number is 0, and 1 / sqrt(EPS) is then what its rounding grows by


def run(x, gamma, beta, grad):
    """Forward and the three gradients."""
    out, dx, dgamma, dbeta = np.empty_like(x), np.empty_like(x), np.empty_like(gamma), np.empty_like(beta)
    moments = np.empty((*x.shape[:2], 2), x.dtype)
    kernels.layer_norm(x, gamma, beta, EPS, moments, out)
    kernels.layer_norm_backward(x, gamma, moments, grad, dx, dgamma, dbeta)
    return out, dx, dgamma, dbeta


def by_formula(x, gamma, beta, grad):
    """The same in float64: each row is an image of one position and one group."""
    x, gamma, beta, grad = (array.astype(np.float64) for array in (x, gamma[:, None], beta[:, None], grad))
    rows, dh = x.reshape(-1, 1, x.shape[2]), (gamma * grad).reshape(-1, 1, x.shape[2])
    xhat = simple.group_norm(rows, 1, 0, 1, EPS).reshape(x.shape)
    dx, _, _ = simple.group_norm_backward(rows, 1, 1, EPS, dh)
    return gamma * xhat + beta, dx.reshape(x.shape), (grad * xhat).sum(axis=1), grad.sum(axis=1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])
@given(
    groups=st.integers(1, 3),
    rows=st.integers(1, 5),
    channels=st.sampled_from([1, 3, 8, 16, 17, 40]),
    shift=st.sampled_from([0.0, 30.0]),
)
def test_forward_and_backward(dtype, tolerance, groups, rows, channels, shift):
    """Catches: lanes beyond a row's end that count in its variance; a scale of one group used for another; gradients
    that are not summed over rows, or over those of all groups; a mean far from zero that costs digits."""
    rng = np.random.default_rng([groups, rows, channels])
    x, grad = rng.standard_normal((2, groups, rows, channels)).astype(dtype)
    x += dtype(shift)
    gamma, beta = rng.standard_normal((2, groups, channels)).astype(dtype)
    results, expected = run(x, gamma, beta, grad), by_formula(x, gamma, beta, grad)
    for name, ours, truth in zip(("y", "dx", "dgamma", "dbeta"), results, expected, strict=True):
        assert_close(ours, truth, tolerance * (1 + shift), name, floor=1)


def test_a_large_mean_costs_no_more_than_its_own_digits():
    """Catches: the variance as E[x^2] - E[x]^2, which in float32 is nonsense where the mean is 1000 sigma."""
    rng = np.random.default_rng(0)
    x = (1000 + rng.standard_normal((1, 4, 100))).astype(np.float32)
    ones, zeros = np.ones((1, 100), np.float32), np.zeros((1, 100), np.float32)
    y, *_ = run(x, ones, zeros, np.zeros_like(x))
    assert_close(y, by_formula(x, ones, zeros, np.zeros_like(x))[0], 2e-4, "y")


def test_a_nan_spoils_its_own_row_and_no_other():
    x = np.random.default_rng(0).standard_normal((2, 3, 20)).astype(np.float32)
    x[1, 1, 18] = np.nan
    ones = np.ones((2, 20), np.float32)
    y, *_ = run(x, ones, 0 * ones, x * 0)
    assert np.isnan(y[1, 1]).all() and np.isfinite(np.delete(y.reshape(6, 20), 4, axis=0)).all()
