"""exp on vectors, vectors at the ends of arrays, and the activations made of them."""
import re

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.kernels import activation, kernel
from nn.kernels.exponential import exp
from nn.kernels.simd import lanes, load_some, prefetch, store_some, total
from tests.oracles import elementary
from tests.oracles.numeric import assert_close

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@kernel
def exp_all(x, out):
    for i in range(0, x.size, lanes(x)):
        store_some(out, i, exp(load_some(x, i, x.size - i)), x.size - i)


@kernel
def prefetch_around(x, index):
    prefetch(x, index, 0)
    prefetch(x, index, 1)


@kernel
def arithmetic(x, out):
    v = load_some(x, 0, lanes(x))
    store_some(out, 0, 2.0 * v - (v / 4.0 + 1.0) * -v, lanes(x))
    return total(v)


@dtypes
def test_exp(dtype):
    """Catches: a polynomial short of digits, a wrong exponent, an overflow, a NaN that is clamped to a number."""
    low, high, tolerance = (-86.9, 86.9, 2e-7) if dtype == np.float32 else (-707, 707, 5e-16)
    x = np.random.default_rng(0).uniform(low, high, 10_001).astype(dtype)
    out = np.empty_like(x)
    exp_all(x, out)
    exact = np.exp(x.astype(np.longdouble))
    assert np.max(np.abs(out - exact) / exact) < tolerance
    extreme = np.array([np.nan, np.inf, -np.inf, 1e4, -1e4, 0, -0.0], dtype)
    out = np.empty_like(extreme)
    exp_all(extreme, out)
    assert np.isnan(out[0]) and np.isfinite(out[1:]).all() and (out[1:] > 0).all()
    assert (out[[1, 3]] > 1e37).all() and (out[[2, 4]] < 1e-37).all() and (out[5:] == 1).all()


@dtypes
def test_softplus(dtype):
    """Catches: a series short of digits, a small exp(x) lost beside the 1, a wrong sign on one side of 0."""
    low, tolerance = (-86, 3e-7) if dtype == np.float32 else (-700, 5e-16)
    x = np.concatenate([np.linspace(low, -low, 5001), np.linspace(-3, 3, 5001)]).astype(dtype)
    out = np.empty_like(x)
    activation.softplus(x, out)
    exact = np.log1p(np.exp(-np.abs(x.astype(np.longdouble)))) + np.maximum(x, 0)
    assert np.max(np.abs(out - exact) / exact) < tolerance
    extreme = np.array([np.nan, np.inf, -np.inf], dtype)
    activation.softplus(extreme.copy(), extreme)
    assert np.isnan(extreme[0]) and np.isinf(extreme[1]) and 0 <= extreme[2] < 1e-37


@dtypes
@given(size=st.integers(1, 40))
def test_vectors_stop_at_the_end(dtype, size):
    """Catches: a masked store that writes beyond its count."""
    x, out = np.linspace(-1, 1, size).astype(dtype), np.full(size + 16, 7, dtype)
    exp_all(x, out[:size])
    assert_close(out[:size], np.exp(x), 3e-7)
    assert (out[size:] == 7).all()


@given(index=st.integers(-(2**40), 2**40))
def test_prefetch_is_a_hint_only(index):
    """Catches: a load or a store in its place, which would fault outside the array, or change it."""
    x = np.arange(20.0)
    prefetch_around(x, index)
    np.testing.assert_array_equal(x, np.arange(20.0))


def test_prefetch_is_a_hint_at_all():
    """Catches: a prefetch that asks for nothing, or to read what is to be written."""
    compiled = numba.njit(prefetch_around.py_func)
    compiled(np.arange(20.0), 0)
    (text,) = compiled.inspect_llvm().values()
    calls = re.findall(r"call void @llvm\.prefetch.*i32 (\d), i32 (\d), i32 (\d)\)", text)
    assert {"".join(numbers) for numbers in calls} == {"031", "131"}


@dtypes
def test_arithmetic_on_vectors(dtype):
    """Catches: operands in the wrong order, a number spread over one lane only."""
    x = np.random.default_rng(0).standard_normal(64 // dtype().itemsize).astype(dtype)
    out = np.empty_like(x)
    assert arithmetic(x, out) == pytest.approx(x.sum(), rel=1e-5)
    assert_close(out, 2 * x + (x / 4 + 1) * x, 1e-6)


@dtypes
@given(size=st.integers(1, 40), scale=st.sampled_from([1.0, 30.0]))
def test_activations(dtype, size, scale):
    """Catches: any formula wrong, forward or backward."""
    rng = np.random.default_rng(size)
    x, grad = (rng.standard_normal((2, size)) * scale).astype(dtype)
    wide = x.astype(np.float64), grad.astype(np.float64)
    out, tolerance = np.empty_like(x), 1e-6 if dtype == np.float32 else 1e-14
    v, g = wide
    s = elementary.each(elementary.sigmoid, v)
    forwards = {"relu": np.maximum(v, 0), "silu": v * s, "sigmoid": s}
    for name, expected in forwards.items():
        getattr(activation, name)(x, out)
        assert_close(out, expected, tolerance, name, floor=1)
    backwards = {"relu": g * (v > 0), "silu": g * s * (1 + v * (1 - s)), "sigmoid": g * v * (1 - v)}
    for name, expected in backwards.items():
        getattr(activation, f"{name}_backward")(x, grad, out)
        assert_close(out, expected, tolerance, f"{name}_backward", floor=scale)
    activation.leaky_relu(x, dtype(0.2), out)
    assert_close(out, np.where(v > 0, v, 0.2 * v), tolerance, "leaky_relu")
    activation.leaky_relu_backward(x, grad, dtype(0.2), out)
    assert_close(out, np.where(v > 0, g, 0.2 * g), tolerance, "leaky_relu_backward")
