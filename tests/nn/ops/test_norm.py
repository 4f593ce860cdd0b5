"""What normalisation owes beyond the properties of all ops: invariances, NaN, float32 far from zero, clear errors."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import functional as F
from nn.gradcheck import gradcheck
from nn.tensor import Parameter
from tests.oracles import normalisation as oracle
from tests.oracles.numeric import assert_close


@given(channels=st.sampled_from([8, 32, 40]), scale=st.floats(0.5, 100), shift=st.floats(-100, 100))
def test_scale_and_shift_of_the_input_do_not_matter(channels, scale, shift):
    """Catches: a variance that is not divided by, or a mean that is not subtracted everywhere."""
    x = np.random.default_rng(channels).standard_normal((2, 3, 5, channels))
    one, zero = np.ones(channels), np.zeros(channels)
    assert_close(
        F.group_norm(scale * x + shift, one, zero, groups=4, eps=0.0).data,
        F.group_norm(x, one, zero, groups=4, eps=0.0).data,
        1e-9,
    )


@pytest.mark.parametrize("function", [F.group_norm, F.group_norm_silu])
def test_gradients_with_many_channels(function):
    """Catches: groups that cross from one vector of channels to the next."""
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal((2, 3, 4, 48)), rng.uniform(0.5, 2, 48), rng.standard_normal(48)
    gradcheck(lambda x, gamma, beta: function(x, gamma, beta, groups=4), arrays, rng)


def test_float32_far_from_zero():
    """Catches: variance as the difference of two large numbers."""
    x = 1000 + np.random.default_rng(0).standard_normal((2, 9, 9, 16))
    x = x.astype(np.float32)
    one, zero = np.ones(16, np.float32), np.zeros(16, np.float32)
    expected = oracle.group_norm(x.astype(np.float64), one, zero, 4)
    assert_close(F.group_norm(x, one, zero, groups=4).data, expected, 3e-4)  # x itself has a rounding error of 6e-5


def test_a_modulation_is_a_scale_less_one_and_then_a_shift_for_each_channel_of_each_image():
    """Catches: halves exchanged, a scale without its 1, one image's modulation used for all, a modulation behind the
    normalisation."""
    rng = np.random.default_rng(0)
    x, gamma, beta = rng.standard_normal((3, 2, 2, 4)), rng.standard_normal(4), rng.standard_normal(4)
    scale, shift = rng.uniform(0.5, 2, (3, 4)), rng.standard_normal((3, 4))
    y = F.group_norm_silu(x, gamma, beta, groups=2, modulation=np.concatenate([scale - 1, shift], axis=1)).data
    modulated = scale[:, None, None] * x + shift[:, None, None]
    assert_close(y, oracle.silu(oracle.group_norm(modulated, gamma, beta, 2)), 1e-12)


@pytest.mark.parametrize("shape", [(3, 7), (3, 2, 7), (3, 2, 2, 7)])
def test_layer_norm_may_scale_and_shift_each_example_in_its_own_way(shape):
    """Catches: one example's numbers used for all, or for another; rows that are counted to the wrong example."""
    rng = np.random.default_rng(0)
    x, gamma, beta = rng.standard_normal(shape), rng.standard_normal((3, 7)), rng.standard_normal((3, 7))
    expected = [oracle.layer_norm(*example) for example in zip(x, gamma, beta, strict=True)]
    assert_close(F.layer_norm(x, gamma, beta).data, np.stack(expected), 1e-12)


def test_of_a_flat_channel_nothing_is_left_whatever_its_modulation():
    """The only channel of its group is its mean, exactly, so gamma gets no gradient.  Catches: rounding errors that
    1 / sqrt(eps) blows up."""
    rng = np.random.default_rng(0)
    x = np.full((2, 7, 7, 8), 1000, np.float32)
    gamma, modulation = Parameter(np.ones(8, np.float32)), rng.standard_normal((2, 16)).astype(np.float32)
    F.group_norm_silu(x, gamma, np.ones(8, np.float32), groups=8, modulation=modulation).sum().backward()
    np.testing.assert_array_equal(gamma.grad, 0)


def test_a_nan_in_a_modulation_spoils_its_own_group_and_no_other():
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 8)).astype(np.float32)
    modulation = np.zeros((2, 16), np.float32)
    modulation[0, 5] = np.nan
    y = F.group_norm_silu(x, np.ones(8, np.float32), np.zeros(8, np.float32), groups=2, modulation=modulation).data
    assert np.isnan(y[0, :, :, 4:]).all()
    assert np.isfinite(y[1]).all() and np.isfinite(y[0, :, :, :4]).all()


@pytest.mark.parametrize("function", [F.group_norm, F.group_norm_silu])
def test_a_nan_spoils_its_own_group_and_no_other(function):
    """Catches: a NaN that is clamped away by exp, or that reaches other images."""
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 8)).astype(np.float32)
    x[0, 2, 1, 5] = np.nan
    y = function(x, np.ones(8, np.float32), np.zeros(8, np.float32), groups=2).data
    assert np.isnan(y[0, :, :, 4:]).all()
    assert np.isfinite(y[1]).all() and np.isfinite(y[0, :, :, :4]).all()


def test_silu_of_large_values_stays_finite():
    """Catches: exp(1e4)."""
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 8)).astype(np.float32)
    large = np.full(8, 1e4, np.float32)
    y = F.group_norm_silu(x, large, np.zeros(8, np.float32), groups=2).data
    h = F.group_norm(x, large, np.zeros(8, np.float32), groups=2).data
    assert_close(y, np.maximum(h, 0), 1e-6)


ONES = np.ones((3, 2, 2, 4)), np.ones(4), np.ones(4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: F.group_norm(np.ones((1, 2, 2, 6)), np.ones(6), np.ones(6), groups=4), "4 groups"),
        (lambda: F.group_norm(np.ones((1, 2, 2, 6)), np.ones(5), np.ones(6), groups=3), "(6,)"),
        (lambda: F.group_norm_silu(*ONES, groups=2, modulation=np.ones((3, 4))), "(3, 8)"),
        (lambda: F.group_norm_silu(*ONES, groups=2, modulation=np.ones((1, 8))), "(3, 8)"),
        (lambda: F.group_norm(np.ones((2, 0, 3, 4)), np.ones(4), np.ones(4), groups=2), "(2, 0, 3, 4)"),
        (lambda: F.layer_norm(np.ones((2, 6)), np.ones(6), np.ones((1, 6))), "(6,)"),
        (lambda: F.layer_norm(np.ones((2, 3, 6)), np.ones((3, 6)), np.ones((3, 6))), "(6,)"),
    ],
)
def test_what_does_not_fit_is_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert words in str(error.value)
