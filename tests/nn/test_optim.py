"""Optimisers against recurrences written out by hand, schedules at their ends, averages and clipping."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import optim
from nn.kernels import flat

SIZES = st.integers(1, 70)
FLOATS = st.sampled_from([np.float32, np.float64])


def vectors(count, size, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal((count, size)).astype(dtype)


def test_momentum_follows_its_recurrence():
    """Catches a wrong sign, the rate inside the velocity (differs once the rate changes), a velocity reset."""
    grads, rates = vectors(5, 4, np.float64), [0.1, 0.2, 0.05, 0.3, 0.1]
    heavy = optim.Momentum(np.ones(4), 0.5)
    u, v = np.ones(4), np.zeros(4)
    for g, rate in zip(grads, rates, strict=True):
        heavy.step(g, rate)
        v = 0.5 * v + g
        u = u - rate * v
    np.testing.assert_allclose(heavy.values, u, rtol=1e-12)


def adam_by_hand(grads, rate, b1, b2, eps, decay):
    """Kingma and Ba 2015, algorithm 1, with the decoupled decay of Loshchilov and Hutter 2019, number by number."""
    w = [1.0] * len(grads[0])
    m, v = [0.0] * len(w), [0.0] * len(w)
    for t, g in enumerate(grads, start=1):
        for i in range(len(w)):
            m[i] = b1 * m[i] + (1 - b1) * g[i]
            v[i] = b2 * v[i] + (1 - b2) * g[i] ** 2
            step = (m[i] / (1 - b1**t)) / (math.sqrt(v[i] / (1 - b2**t)) + eps)
            w[i] -= rate * step + rate * decay * w[i]
    return w


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam_and_adamw(decay):
    """Catches: no bias correction, epsilon inside the root, decay mixed into the gradient, t counted from 0."""
    grads = vectors(6, 5, np.float64)
    optimisers = [optim.AdamW(np.ones(5), (0.8, 0.9), decay)]
    optimisers[0].epsilon = 1e-2
    if decay == 0:
        optimisers.append(optim.Adam(np.ones(5), (0.8, 0.9), 1e-2))
    for optimiser in optimisers:
        for g in grads:
            optimiser.step(g, 0.1)
        expected = adam_by_hand(grads.tolist(), 0.1, 0.8, 0.9, 1e-2, decay)
        np.testing.assert_allclose(optimiser.values, expected, rtol=1e-10)


@given(SIZES, FLOATS)
def test_adamw_is_adam_with_decay_and_then_the_average(size, dtype):
    """One pass of a kernel against the separate formulas.  Catches: an average of the old weights, or never updated;
    a moment of the unscaled gradient; decay of the new weights; a gradient that is changed."""
    together, apart = np.ones((2, size), dtype)
    fused_ema, ema = optim.EMA(together, 0.9), optim.EMA(apart, 0.9)
    fused, plain = optim.AdamW(together, weight_decay=0.3, ema=fused_ema), optim.Adam(apart)
    for g in vectors(5, size, dtype):
        kept, old = g.copy(), apart.copy()
        fused.step(g, 0.1, 0.5)
        np.testing.assert_array_equal(g, kept)
        plain.step(g, 0.1, 0.5)
        apart -= dtype(0.1 * 0.3) * old
        ema.update()
    close = {"rtol": 1e-5 if dtype == np.float32 else 1e-10, "atol": 1e-6}
    np.testing.assert_allclose(together, apart, **close)
    np.testing.assert_allclose(fused_ema.average, ema.average, **close)
    assert fused_ema.count == 5


@given(st.integers(1, 8), st.integers(0, 9000), st.integers(0, 9000), FLOATS)
def test_lanes_are_added_in_order(lanes, start, length, dtype):
    """Bitwise equal to adding one lane after another.  Catches a block left out at the end, pairwise sums, and a part
    that touches its neighbours."""
    buffers = vectors(lanes, start + length + 3, dtype)
    out = np.full(buffers.shape[1], np.nan, dtype)
    flat.add_lanes(buffers, out, start, start + length)
    total = buffers[0].copy()
    for lane in buffers[1:]:
        total += lane
    part = slice(start, start + length)
    np.testing.assert_array_equal(out[part], total[part])
    assert np.isnan(np.delete(out, np.arange(start, start + length))).all()


def test_ema_warm_up_and_limit():
    """d = min(decay, (1 + n) / (10 + n)).  Catches a constant decay, and n counted from 1."""
    values = np.zeros(1)
    ema = optim.EMA(values, 0.5)
    expected, n = 0.0, 0
    for target in (1.0, -2.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0):
        values[:] = target
        d = min(0.5, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * target
        ema.update()
        n += 1
        np.testing.assert_allclose(ema.average, expected)
    assert ema.current_decay() == 0.5


def test_state_is_live_and_restores():
    """Continuing from a copied state equals never stopping, bit for bit.  Catches a step count that is not saved."""
    grads = vectors(8, 5, np.float32)
    whole = optim.AdamW(np.ones(5, np.float32))
    for g in grads:
        whole.step(g, 0.1)
    first = optim.AdamW(np.ones(5, np.float32))
    for g in grads[:4]:
        first.step(g, 0.1)
    second = optim.AdamW(first.values.copy())
    for name, array in first.state().items():
        second.state()[name][...] = array
    for g in grads[4:]:
        second.step(g, 0.1)
    np.testing.assert_array_equal(second.values, whole.values)


def test_clipping():
    """Catches a gradient that is scaled up when it is short, and a NaN that is hidden."""
    g = np.array([3.0, 4.0])
    assert optim.gradient_norm(g) == 5
    assert optim.clip_scale(5, 10) == 1 and optim.clip_scale(5, 1) == 0.2
    assert math.isnan(optim.gradient_norm(np.array([1.0, np.nan])))


def test_schedules_at_their_ends():
    """Catches a rate of zero at the first step, and a decay that starts again after the end."""
    assert optim.warmup(0, 10) == 0.1 and optim.warmup(9, 10) == 1 and optim.warmup(50, 10) == 1
    assert optim.warmup(0, 0) == 1
    decay = optim.cosine_decay
    assert decay(0, 100, 0.1) == 1
    assert decay(50, 100, 0.1) == pytest.approx(0.55)
    assert decay(100, 100, 0.1) == pytest.approx(0.1) == decay(1000, 100, 0.1)
    values = [decay(step, 100) for step in range(101)]
    assert values == sorted(values, reverse=True)


def test_bad_decay():
    with pytest.raises(ValueError, match="1.0"):
        optim.EMA(np.ones(1), 1.0)
