"""What normalisation owes beyond the properties of all ops: invariances, NaN, float32 far from zero, clear errors."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import functional as F
from nn.tensor import Parameter
from tests.nn.gradcheck import gradcheck
from tests.nn.ops.run import as_dtype, backward, forward
from tests.oracles import normalisation as oracle
from tests.oracles.numeric import assert_close


@given(channels=st.sampled_from([8, 32, 40]), scale=st.floats(0.5, 100), shift=st.floats(-100, 100))
def test_scale_and_shift_of_the_input_do_not_matter(channels, scale, shift):
    """Catches: a variance that is not divided by, or a mean that is not subtracted everywhere."""
    x = np.random.default_rng(channels).standard_normal((2, 3, 5, channels))
    one, zero = np.ones(channels), np.zeros(channels)
    moved, as_it_was = (F.group_norm(values, one, zero, groups=4).data for values in (scale * x + shift, x))
    assert_close(moved, as_it_was, 1e-4)  # not less, because of eps


@pytest.mark.parametrize("function", [F.group_norm, F.group_norm_silu])
def test_gradients_with_many_channels(function):
    """Catches: groups that cross from one vector of channels to the next."""
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal((2, 3, 4, 48)), rng.uniform(0.5, 2, 48), rng.standard_normal(48)
    gradcheck(lambda x, gamma, beta: function(x, gamma, beta, groups=4), arrays, rng)


def with_an_outlier(x, place):
    x = 0.01 * x
    x.reshape(-1, x.shape[-1])[place, 3] = 1000.3
    return x


@pytest.mark.parametrize("name", ["group_norm", "group_norm_silu", "layer_norm"])
@pytest.mark.parametrize("size", [64, 128, 512])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: with_an_outlier(x, 0),
        lambda x: with_an_outlier(x, len(x[0]) + 5),
        lambda x: with_an_outlier(x, slice(None, None, len(x[0]))),
        lambda x: with_an_outlier(x, slice(None, None, 2)),
        lambda x: 1000 + x,
        lambda x: np.full_like(x, 1e8),
    ],
    ids=["first pixel", "another pixel", "first column", "every other pixel", "far from zero", "flat"],
)
def test_float32_is_as_good_as_float64(name, size, spoil):
    """Catches: variance as the difference of two large numbers, around zero or around one pixel or a column of them,
    which may come out below zero; sums that have become so large that they lose what is added."""
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, 1, size, size, 16))
    x = spoil(x).astype(np.float32)
    scales, options = [rng.uniform(0.5, 2, 16), rng.standard_normal(16)], {} if name == "layer_norm" else {"groups": 4}
    results = []
    for dtype in (np.float32, np.float64):
        arrays = as_dtype([x, *scales], dtype)
        function = getattr(F, name)
        results.append([*forward(function, arrays, **options), *backward(function, arrays, [grad], **options)])
    for ours, truth in zip(*results, strict=True):
        assert_close(ours, truth, 1e-3)


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
        (lambda: F.layer_norm(np.ones((2, 6)), np.ones(6), np.ones((1, 6))), "(6,)"),
        (lambda: F.layer_norm(np.ones((2, 3, 6)), np.ones((3, 6)), np.ones((3, 6))), "(6,)"),
    ],
)
def test_what_does_not_fit_is_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert words in str(error.value)
