"""The pieces of process.py, each against its definition written another way.

Caught here: `alpha_bar` shifted by one or wrapping around at t = 1; a missing square root; noise on the last step; the
sign of v or of guidance; a posterior that is right for s = t - 1 only; weights of the wrong prediction; times that
never reach T.
"""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.families.diffusion import process, unet

TIMES = st.tuples(st.integers(0, 999), st.integers(1, 1000)).map(sorted).filter(lambda pair: pair[0] < pair[1])
SEEDS = st.integers(0, 2**32 - 1)


def images(seed, count=3, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((count, 4, 4, 1)).astype(dtype)


# --- schedule --------------------------------------------------------------------------------------------------------


@pytest.mark.exercise(id="ddpm-schedule")
@pytest.mark.parametrize("steps", [1, 2, 10, 100, 1000, 4000])
def test_the_schedule_falls_from_one_to_almost_zero(steps):
    alpha_bar = process.cosine_alpha_bar(steps)
    assert alpha_bar.shape == (steps + 1,) and alpha_bar.dtype == np.float64
    assert alpha_bar[0] == 1
    assert (np.diff(alpha_bar) < 0).all() and alpha_bar[-1] > 0
    if steps >= 10:
        assert alpha_bar[-1] < 1e-3


@pytest.mark.exercise(id="ddpm-schedule")
def test_the_cosine_schedule_is_a_squared_cosine_until_the_last_step():
    alpha_bar = process.cosine_alpha_bar(50)
    for t in range(50):
        expected = math.cos((t / 50 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        assert alpha_bar[t] == pytest.approx(expected, rel=1e-12)
    assert alpha_bar[50] == pytest.approx(alpha_bar[49] * (1 - 0.999), rel=1e-9)  # no step may destroy everything


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_the_straight_schedule_is_a_straight_line_brought_to_variance_one(steps):
    """Catches a share of the variance taken for one of the amplitude, u that runs the other way, and ab_T = 0."""
    alpha_bar, x0, eps = process.straight_alpha_bar(steps), images(0, 1), images(1, 1)
    assert alpha_bar.shape == (steps + 1,) and alpha_bar[0] == 1 and alpha_bar[-1] > 0
    for t in {0, steps // 3, steps}:
        u = t / steps * 0.9999
        x_t = process.q_sample(x0, np.array([t]), eps, alpha_bar)
        np.testing.assert_allclose(x_t * math.sqrt((1 - u) ** 2 + u**2), (1 - u) * x0 + u * eps, atol=1e-12)


@given(SEEDS, st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_ddim_step_is_a_step_of_euler_along_a_straight_line(seed, first, second):
    """Whatever the network says of the velocity.  Catches a velocity of the wrong sign or scale."""
    w, u = sorted((first, second + 0.01))
    ab = {time: (1 - time) ** 2 / ((1 - time) ** 2 + time**2) for time in (w, u)}
    root = {time: math.sqrt((1 - time) ** 2 + time**2) for time in (w, u)}
    x_u, said = images(seed), images(seed + 1)
    guess = process.clean_image(said, x_u / root[u], np.zeros(3, int), np.array([ab[u]]), "velocity")
    x_s, _ = process.ddim_step(x_u / root[u], guess, ab[u], ab[w])
    np.testing.assert_allclose(x_s * root[w], x_u + (w - u) * said, rtol=0, atol=1e-7)


# --- forwards --------------------------------------------------------------------------------------------------------


@pytest.mark.exercise(id="ddpm-noising")
@given(SEEDS, st.sampled_from([np.float32, np.float64]))
def test_q_sample_has_the_moments_of_one_step_noising_composed(seed, dtype):
    alpha_bar = process.cosine_alpha_bar(30)
    t = np.random.default_rng(seed).integers(1, 31, 5)
    x0, eps = images(seed, 5, dtype), images(seed + 1, 5, dtype)
    x_t = process.q_sample(x0, t, eps, alpha_bar)
    assert x_t.dtype == dtype
    for n in range(5):
        factor, variance = 1.0, 0.0  # of x_t given x_0, after u single steps
        for u in range(1, t[n] + 1):
            beta = 1 - alpha_bar[u] / alpha_bar[u - 1]
            factor, variance = math.sqrt(1 - beta) * factor, (1 - beta) * variance + beta
        expected = factor * x0[n] + math.sqrt(variance) * eps[n]
        np.testing.assert_allclose(x_t[n], expected, rtol=0, atol=1e-12 if dtype == np.float64 else 1e-6)


@pytest.mark.exercise(id="ddpm-noising")
def test_at_time_zero_nothing_has_happened():
    x0, alpha_bar = images(0), process.cosine_alpha_bar(9)
    np.testing.assert_array_equal(process.q_sample(x0, np.zeros(3, int), images(1), alpha_bar), x0)


@given(SEEDS, st.integers(1, 16), st.integers(1, 1000))
def test_training_times_are_spread_over_all_of_them(seed, count, steps):
    t = process.draw_times(count, steps, np.random.default_rng(seed))
    assert t.shape == (count,) and t.dtype == np.int64
    assert 1 <= t.min() and t.max() <= steps
    if count <= steps:
        assert len(set(t.tolist())) == count


def test_training_visits_the_first_and_the_last_time_as_often_as_any():
    rng = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([process.draw_times(8, 10, rng) for _ in range(2000)]), minlength=11)
    assert counts[0] == 0 and len(counts) == 11
    np.testing.assert_allclose(counts[1:] / 16_000, 0.1, atol=5 * math.sqrt(0.1 * 0.9 / 16_000))  # five standard errors


@given(st.integers(1, 1000))
def test_times_from_the_middle_leave_none_out(steps):
    """Catches a share that does not end at 1, so that T or a time beyond it is drawn, and times never trained on."""
    share = process.middle_share(steps)
    assert share.shape == (steps,) and share.dtype == np.float64 and not share.flags.writeable
    assert share[-1] == 1
    assert np.diff(share, prepend=0).min() > 0.09 / steps
    t = process.draw_times(steps, steps, np.random.default_rng(steps), share)
    assert 1 <= t.min() and t.max() <= steps


def test_half_of_the_middle_times_lie_where_it_is_decided_what_is_painted():
    """Catches another density, and one over the noise where it should be over the time."""
    share, alpha_bar = process.middle_share(1000), process.schedule(1000)
    low, middle, high = (np.searchsorted(share, part) + 1 for part in (0.25, 0.5, 0.75))
    assert 540 < low < 570 and 640 < middle < 660 and 720 < high < 750
    density = np.diff(share, prepend=0) - share[0]  # without what every time has
    assert np.sqrt(1 / alpha_bar[1 + density.argmax()] - 1) == pytest.approx(math.sqrt(3), rel=0.01)


def test_times_are_drawn_in_the_shares_asked_for():
    share = np.cumsum([0.1, 0.4, 0.05, 0.25, 0.2])
    rng = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([process.draw_times(8, 5, rng, share) for _ in range(2000)]), minlength=6)
    assert counts[0] == 0 and len(counts) == 6
    np.testing.assert_allclose(counts[1:] / 16_000, np.diff(share, prepend=0), atol=5 * math.sqrt(0.25 / 16_000))


@given(SEEDS, st.sampled_from(["noise", "v", "velocity", "image"]), st.sampled_from(["cosine", "straight"]))
def test_the_clean_image_is_read_back_from_the_training_target(seed, kind, schedule):
    alpha_bar = process.schedule(1000, schedule)
    t = np.array([1, 1000, np.random.default_rng(seed).integers(1, 1001)])
    x0, eps = images(seed), images(seed + 1)
    x_t = process.q_sample(x0, t, eps, alpha_bar)
    target = process.training_target(x0, t, eps, alpha_bar, kind)
    np.testing.assert_allclose(process.clean_image(target, x_t, t, alpha_bar, kind), x0, atol=1e-7)


def test_v_is_the_noise_of_a_clear_image_and_minus_the_image_in_pure_noise():
    x0, eps, alpha_bar = images(0), images(1), np.array([1.0, 1 - 1e-12, 1e-12])
    np.testing.assert_allclose(process.training_target(x0, np.ones(3, int), eps, alpha_bar, "v"), eps, atol=1e-5)
    np.testing.assert_allclose(process.training_target(x0, np.full(3, 2), eps, alpha_bar, "v"), -x0, atol=1e-5)


@pytest.mark.exercise(id="ddpm-time-embedding")
@pytest.mark.parametrize("features", [2, 4, 32, 128])
def test_the_time_embedding_is_sines_and_cosines_of_slower_and_slower_waves(features):
    t = np.array([0, 1, 7, 999, 1000])
    embedding = unet.time_embedding(t, features)
    assert embedding.shape == (5, features)
    half = features // 2
    for n, time in enumerate(t):
        for i in range(half):
            frequency = 10_000 ** (-i / (half - 1)) if half > 1 else 1.0
            assert embedding[n, i] == pytest.approx(math.sin(time * frequency), abs=1e-9)
            assert embedding[n, half + i] == pytest.approx(math.cos(time * frequency), abs=1e-9)


# --- one step back ---------------------------------------------------------------------------------------------------


@pytest.mark.exercise(id="ddpm-posterior")
@given(SEEDS, TIMES)
def test_the_posterior_is_bayes_rule(seed, times):
    """Precisions add: p(x_s | x_t, x_0) is proportional to q(x_t | x_s) q(x_s | x_0), for any s < t."""
    s, t = times
    alpha_bar = process.cosine_alpha_bar(1000)
    ab_t, ab_s = float(alpha_bar[t]), float(alpha_bar[s])
    x_t, x0 = images(seed), images(seed + 1)
    mean, variance = process.posterior(x_t, x0, ab_t, ab_s)
    if s == 0:
        assert variance == 0
        np.testing.assert_allclose(mean, x0, rtol=0, atol=1e-12)
        return
    keep, beta = math.sqrt(ab_t / ab_s), 1 - ab_t / ab_s  # x_t = keep x_s + sqrt(beta) noise
    precision = keep**2 / beta + 1 / (1 - ab_s)
    expected = (keep * x_t / beta + math.sqrt(ab_s) * x0 / (1 - ab_s)) / precision
    assert variance == pytest.approx(1 / precision, rel=1e-9)
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-9)


@pytest.mark.exercise(id="ddpm-ddim-step")
@given(SEEDS, TIMES)
def test_ddim_with_eta_one_is_the_ancestral_step(seed, times):
    s, t = times
    alpha_bar = process.cosine_alpha_bar(1000)
    ab_t, ab_s = float(alpha_bar[t]), float(alpha_bar[s])
    x_t, x0 = images(seed), images(seed + 1)
    mean, variance = process.ddim_step(x_t, x0, ab_t, ab_s, eta=1.0)
    expected_mean, expected_variance = process.posterior(x_t, x0, ab_t, ab_s)
    assert variance == pytest.approx(expected_variance, rel=0, abs=1e-12)
    np.testing.assert_allclose(mean, expected_mean, rtol=0, atol=1e-10)  # a root of what cancels


@pytest.mark.exercise(id="ddpm-ddim-step")
@given(SEEDS, TIMES, st.floats(0, 1))
def test_a_ddim_step_keeps_the_noise_level_whatever_eta(seed, times, eta):
    """If x_t has the right distribution given x_0, so has x_s: mean sqrt(ab_s) x_0 and variance 1 - ab_s in all."""
    s, t = times
    alpha_bar = process.cosine_alpha_bar(1000)
    ab_t, ab_s = float(alpha_bar[t]), float(alpha_bar[s])
    x0, eps = images(seed), images(seed + 1)
    signal = math.sqrt(ab_t) * x0
    without, variance = process.ddim_step(signal, x0, ab_t, ab_s, eta)
    np.testing.assert_allclose(without, math.sqrt(ab_s) * x0, rtol=0, atol=1e-7)
    with_noise, _ = process.ddim_step(signal + math.sqrt(1 - ab_t) * eps, x0, ab_t, ab_s, eta)
    kept = (with_noise - without) / eps  # what the step makes of one unit of noise
    np.testing.assert_allclose(kept**2 + variance, 1 - ab_s, rtol=0, atol=1e-7)
    assert (kept > -1e-9).all()
    assert variance == pytest.approx(eta**2 * process.ddim_step(signal, x0, ab_t, ab_s, 1.0)[1], abs=1e-12)


@given(SEEDS, st.floats(-4, 4), st.floats(-4, 4))
def test_a_step_with_the_average_guess_is_exact_where_guesses_move_evenly(seed, offset, slope):
    """With a guess linear in lambda = log(signal / noise), one long step ends where thousands of small ones do.

    Catches the middle of the step instead of its mean, and a weight that counts the wrong end more.
    """
    rng = np.random.default_rng(seed)
    s, t, first, second = (float(level) for level in 1 / (1 + np.exp(-2 * np.sort(rng.uniform(-4, 4, 4))))[::-1])
    if rng.random() < 0.5:  # the corrector's case; else the predictor's, a line from before the step
        first, second, t = t, s, t

    def guess(ab):
        return np.array([offset + slope * 0.5 * math.log(ab / (1 - ab))])

    x = rng.standard_normal(1)
    aim = process.average_guess(guess(first), first, guess(second), second, t, s)
    once, _ = process.ddim_step(x, aim, t, s)
    ratios = np.geomspace(t / (1 - t), s / (1 - s), 3_001)
    levels = ratios / (1 + ratios)
    for ab_t, ab_s in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        x, _ = process.ddim_step(x, guess((ab_t + ab_s) / 2), ab_t, ab_s)
    np.testing.assert_allclose(once, x, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 1000).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, total))))
def test_samplers_visit_the_last_time_and_end_at_the_clean_image(numbers):
    total, steps = numbers
    times = process.time_steps(total, steps)
    assert times[0] == total and times[-1] == 0
    assert len(times) == steps + 1 and (np.diff(times) < 0).all()


@pytest.mark.parametrize("steps", [0, 11])
def test_an_impossible_number_of_steps_is_named(steps):
    with pytest.raises(ValueError, match=f"from 1 to 10; given {steps}"):
        process.time_steps(10, steps)


@given(SEEDS, st.floats(0, 1))
def test_slerp_stays_on_the_sphere_and_moves_at_an_even_pace(seed, fraction):
    first, second = images(seed), images(seed + 1)
    second *= np.linalg.norm(first, axis=(1, 2), keepdims=True) / np.linalg.norm(second, axis=(1, 2), keepdims=True)
    between = process.slerp(first, second, fraction).reshape(3, -1)
    first, second = first.reshape(3, -1), second.reshape(3, -1)
    radius = np.linalg.norm(first, axis=1)
    np.testing.assert_allclose(np.linalg.norm(between, axis=1), radius, rtol=1e-7)
    whole = np.arccos(np.sum(first * second, axis=1) / radius**2)
    part = np.arccos(np.clip(np.sum(first * between, axis=1) / radius**2, -1, 1))
    np.testing.assert_allclose(part, fraction * whole, atol=1e-6)


def test_slerp_between_equal_noises_is_that_noise():
    x = images(0, dtype=np.float32)
    between = process.slerp(x, x, 0.3)
    assert between.dtype == np.float32
    np.testing.assert_allclose(between, x, rtol=1e-5)
