"""Judges the exercises on diffusion's way back: Gaussians have closed forms, and an oracle must get its image back."""

import numpy as np
import pytest

from generators.families.diffusion import process
from generators.parts.guidance import guide
from nn.tensor import Tensor
from tests.exercises.chance import expect_from_rng, expect_normals
from tests.exercises.test_ddpm import ALPHA_BAR
from tests.exercises.trial import Trial, normal


def steps_down():
    return [(5, 4), (5, 1), (3, 2), (1, 0), (6, 0)]


@pytest.mark.exercise(id="posterior")
@pytest.mark.parametrize("t, s", steps_down())
def test_posterior(t, s):
    x_t, x0 = normal((3, 2), 0), normal((3, 2), 1)
    ab_t, ab_s = float(ALPHA_BAR[t]), float(ALPHA_BAR[s])
    tags = ["at the last step"] if s == 0 else []
    trial = Trial(f"posterior(x_t, x0, ab_t={ab_t}, ab_s={ab_s})", *tags, x_t=x_t, x0=x0)
    got = trial.run(process.posterior, x_t, x0, ab_t, ab_s)
    trial.require(isinstance(got, tuple) and len(got) == 2, "a pair is wanted: the mean and the variance")
    # x_s given x_0 and, with it, x_t given x_s: two Gaussians about x_s, multiplied.
    alpha = ab_t / ab_s
    if s == 0:
        mean, variance = x0, 0.0
    else:
        precision = 1 / (1 - ab_s) + alpha / (1 - alpha)
        mean = (np.sqrt(ab_s) * x0 / (1 - ab_s) + np.sqrt(alpha) * x_t / (1 - alpha)) / precision
        variance = 1 / precision
    swapped = (np.sqrt(ab_s) * (1 - alpha) * x_t + np.sqrt(alpha) * (1 - ab_s) * x0) / (1 - ab_t)
    instead = {
        "x_0 and x_t have each other's weights": swapped,
        "the root of alpha_bar_t, where that of alpha_bar_s belongs": (
            np.sqrt(ab_t) * (1 - alpha) * x0 + np.sqrt(alpha) * (1 - ab_s) * x_t
        )
        / (1 - ab_t),
    }
    trial.expect(got[0], mean, "the mean", rtol=1e-6, atol=1e-9, instead=instead)
    instead = (
        {
            "this is beta, the variance of the step; the posterior's is smaller": 1 - alpha,
            "this is the standard deviation": np.sqrt(variance),
        }
        if s
        else {}
    )
    trial.expect(got[1], variance, "the variance", rtol=1e-6, atol=1e-12, instead=instead)


@pytest.mark.exercise(id="ddim-step")
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("t, s", steps_down())
def test_ddim_step(t, s, eta):
    x0, eps = normal((3, 2), 0), normal((3, 2), 1)
    ab_t, ab_s = float(ALPHA_BAR[t]), float(ALPHA_BAR[s])
    x_t = np.sqrt(ab_t) * x0 + np.sqrt(1 - ab_t) * eps
    tags = (["with eta above 0"] if eta else []) + (["at the last step"] if s == 0 else [])
    trial = Trial(f"ddim_step(x_t, x0, ab_t={ab_t}, ab_s={ab_s}, eta={eta})", *tags, x_t=x_t, x0=x0)
    got = trial.run(process.ddim_step, x_t, x0, ab_t, ab_s, eta)
    trial.require(isinstance(got, tuple) and len(got) == 2, "a pair is wanted: the mean and the variance")
    variance = (eta * np.sqrt((1 - ab_s) / (1 - ab_t)) * np.sqrt(1 - ab_t / ab_s)) ** 2
    mean = np.sqrt(ab_s) * x0 + np.sqrt(1 - ab_s - variance) * eps
    whole = np.sqrt(ab_s) * x0 + np.sqrt(1 - ab_s) * eps
    instead = {
        "the fresh noise takes its share from the old: 1 - ab_s - variance under the root": whole,
        "the proportions of time t again; those of time s are wanted": x_t,
        "the image is not scaled by sqrt(ab_s)": x0 + np.sqrt(1 - ab_s - variance) * eps,
        "signal and noise are exchanged": np.sqrt(1 - ab_s - variance) * x0 + np.sqrt(ab_s) * eps,
    }
    if eta == 0.5:
        old = np.sqrt(max(0.0, 1 - ab_s - variance / eta)) * eps
        instead["eta enters as its square: this is with eta itself"] = np.sqrt(ab_s) * x0 + old
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, mean)}
    trial.expect(got[0], mean, "the mean", rtol=1e-6, atol=1e-9, instead=instead)
    instead = (
        {
            "eta enters as its square: this is with eta itself": variance / eta,
            "this is the standard deviation": np.sqrt(variance),
        }
        if eta == 0.5 and s
        else {}
    )
    trial.expect(got[1], variance, "the variance", rtol=1e-6, atol=1e-12, instead=instead)


@pytest.mark.exercise(id="guidance")
@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0, -0.5])
def test_guide(weight):
    unconditional, conditional = normal((2, 3), 0), normal((2, 3), 1)
    tags = ["where it goes beyond the caption"] if weight > 1 else []
    trial = Trial(
        f"guide(unconditional, conditional, {weight})", *tags, unconditional=unconditional, conditional=conditional
    )
    got = trial.run(guide, unconditional, conditional, weight)
    change = weight * (conditional - unconditional)
    instead = {
        "the sign of the guidance: it leads away from the caption": unconditional - change,
        "the two are exchanged": conditional - change,
        "the w of the paper, (1 + w) e_c - w e_u; here w = 1 means conditional": conditional + change,
    }
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, unconditional + change)}
    trial.expect(got, unconditional + change, rtol=1e-6, atol=1e-12, instead=instead)


@pytest.mark.exercise(id="guidance")
def test_guide_of_tensors():
    unconditional, conditional = Tensor(normal((2, 3), 0), True), Tensor(normal((2, 3), 1), True)
    trial = Trial("guide(unconditional, conditional, 3.0)", "where the answers are tensors that want a gradient")
    got = trial.run(guide, unconditional, conditional, 3.0)
    trial.expect(got, unconditional.data + 3 * (conditional.data - unconditional.data), atol=1e-12)
    got.backward(np.ones((2, 3)))
    trial.expect(unconditional.grad, np.full((2, 3), -2.0), "the gradient of unconditional")
    trial.expect(conditional.grad, np.full((2, 3), 3.0), "the gradient of conditional")


def line_average(first, ab_first, second, ab_second, ab_t, ab_s):
    """The average of guesses on the line through two, from t to s, over signal / noise: summed up in small pieces."""
    lam_first, lam_second, lam_t, lam_s = (np.log(np.sqrt(ab / (1 - ab))) for ab in (ab_first, ab_second, ab_t, ab_s))
    ratios = np.linspace(np.exp(lam_t), np.exp(lam_s), 100_001)
    share = ((np.log((ratios[1:] + ratios[:-1]) / 2) - lam_first) / (lam_second - lam_first)).mean()
    return (1 - share) * first + share * second


@pytest.mark.exercise(id="second-order")
@pytest.mark.parametrize(
    "tag, order",
    [
        ("for the step to come", (3, 2, 2, 1)),
        ("for the step to come", (6, 4, 4, 1)),
        ("for the step that was taken", (5, 2, 5, 2)),
        ("for the step that was taken", (6, 5, 6, 5)),
        ("for a step elsewhere", (6, 2, 4, 3)),
    ],
    ids=str,
)
def test_average_guess(tag, order):
    first, second = normal((2, 3), 0), normal((2, 3), 1)
    levels = [float(ALPHA_BAR[time]) for time in order]
    call = "average_guess(first, {:.3g}, second, {:.3g}, ab_t={:.3g}, ab_s={:.3g})".format(*levels)
    trial = Trial(call, tag, first=first, second=second)
    got = trial.run(process.average_guess, first, levels[0], second, levels[1], *levels[2:])
    lam_first, lam_second, lam_t, lam_s = np.log(np.sqrt(levels) / np.sqrt(1 - np.array(levels)))
    h = lam_s - lam_t

    def at(place, start=lam_first, end=lam_second):
        return first + (place - start) / (end - start) * (second - first)

    right = line_average(first, levels[0], second, levels[1], *levels[2:])
    mean = lam_s - 1 + h / np.expm1(h)
    squares = 2 * lam_s - 1 + 2 * h / np.expm1(2 * h)
    instead = {
        "the guess in its middle: what lies late in the step counts more, by e^lambda": at((lam_s + lam_t) / 2),
        "the guess at the end of the step": at(lam_s),
        "the guess at the beginning of the step": at(lam_t),
        "the two guesses are exchanged": first + second - right,
        "lambda is the logarithm of signal / noise, and this one is of their squares": at(squares / 2),
        "the line is straight over lambda; this one is so over signal / noise":
            at((np.exp(lam_s) + np.exp(lam_t)) / 2, np.exp(lam_first), np.exp(lam_second)),
        "the mean of lambda counts from lambda_s, not from lambda_t": at(mean - h),
        "the weight is e^lambda, not e^-lambda": at(lam_s + 1 - h / -np.expm1(-h)),
        "the line begins at the first guess: first + share * (second - first)": right + second - first,
    }  # fmt: skip
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, right, rtol=1e-4)}
    trial.expect(got, right, rtol=1e-6, atol=1e-8, instead=instead)
    small = first.astype(np.float32), second.astype(np.float32)
    trial = Trial(call, "in float32", first=small[0], second=small[1])
    got = trial.run(process.average_guess, small[0], levels[0], small[1], levels[1], *levels[2:])
    trial.expect(got, right, rtol=1e-4, atol=1e-5, dtype=np.float32)


def counted(step):
    """The step function, keeping what it was called with."""
    calls = []

    def wrapped(x_t, x0, ab_t, ab_s):
        calls.append((x_t.copy(), x0.copy(), ab_t, ab_s))
        return step(x_t, x0, ab_t, ab_s)

    return wrapped, calls


def walked(trial, *arguments, **options):
    """All pairs of a walk, gathered first and looked at later, as whoever keeps them for a film would."""
    before = arguments[1].copy()
    walk = trial.run(process.reverse_process, *arguments, **options)
    trial.require(hasattr(walk, "__iter__"), "a generator is wanted: yield (x_t, the guess) for every t")
    pairs = trial.call_it(list, (walk,), {})
    good = all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs)
    trial.require(good, "pairs are wanted: yield (x_t, the guess) for every t")
    same = np.array_equal(before, arguments[1])
    trial.require(same, "the noise x that it was given is not the same after the walk", "work on new arrays")
    seen = {id(pair[0]) for pair in pairs[:-1]}
    told = "the same array is yielded again and again, and changed in between"
    trial.require(len(seen) == len(pairs) - 1, told, "make a new array at each step: no +=, no [...] =")
    return pairs


@pytest.mark.exercise(id="sampling-loop")
@pytest.mark.parametrize("times", [[6, 5, 4, 3, 2, 1, 0], [6, 3, 1, 0], [6, 0]], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_reverse_process(times, dtype):
    image, x = normal((2, 3), 0, dtype), normal((2, 3), 1, dtype)

    def plain_step(x_t, x0, ab_t, ab_s):  # any step will do: the loop knows nothing of the formula
        return dtype(0.5) * x_t + dtype(ab_s) * x0, 0.0

    step, calls = counted(plain_step)
    seen = []

    def predict_clean(x_t, t):
        seen.append(t)
        return image + dtype(0.1) * x_t + dtype(0.01 * t)

    tags = ["in float32"] if dtype == np.float32 else []
    trial = Trial(f"reverse_process(predict_clean, x, {times}, alpha_bar, step, rng)", *tags, x=x)
    got = walked(trial, predict_clean, x, times, ALPHA_BAR, step, np.random.default_rng(0))
    trial.require(
        len(got) == len(times), f"{len(got)} pairs came out; {len(times)} are wanted, one for each time, 0 included"
    )
    trial.require(
        [int(t) for t in seen] == times[:-1],
        f"predict_clean was asked at t = {seen}; expected {times[:-1]}",
        "the guess is made at t, the time that is, not at s, where the step leads",
    )
    current, near = x, {"rtol": 1e-6, "atol": 1e-9} if dtype == np.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        guess = image + dtype(0.1) * current + dtype(0.01 * t)
        trial.expect(got[i][0], current, f"x at t = {t}", dtype=dtype, **near)
        trial.expect(got[i][1], guess, f"the guess at t = {t}", dtype=dtype, **near)
        expected = (float(ALPHA_BAR[t]), float(ALPHA_BAR[s]))
        trial.require(
            np.allclose(calls[i][2:], expected),
            f"step was given alpha_bar {calls[i][2:]}; expected {expected}",
            "alpha_bar[t], then alpha_bar[s]: no index is shifted, and none may wrap around",
        )
        current, _ = plain_step(current, guess, *expected)
    trial.expect(got[-1][0], current, "x at t = 0", dtype=dtype, **near)
    trial.expect(got[-1][1], current, "the second of the last pair: the image once more", **near)


@pytest.mark.exercise(id="sampling-loop")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_reverse_process_adds_noise(dtype):
    times, x, image = [6, 4, 2, 0], normal((300, 2, 2, 1), 1, dtype), normal((300, 2, 2, 1), 2, dtype)
    trial = Trial(f"reverse_process(predict_clean, x, {times}, alpha_bar, step, rng)", "where noise is added")

    def step(x_t, x0, ab_t, ab_s):
        return dtype(0.5) * x_t + dtype(ab_s) * x0, 0.3 * (1 - ab_s)

    def noises(rng):
        """The noise of each step, and of the last, where none is wanted."""
        pairs = walked(trial, lambda x, t: image, x, times, ALPHA_BAR, step, rng)
        trial.require(len(pairs) == len(times), f"{len(pairs)} pairs came out; {len(times)} are wanted")
        found = []
        for (x_t, _), (x_s, _), t, s in zip(pairs[:-1], pairs[1:], times[:-1], times[1:], strict=True):
            trial.expect(x_s, np.zeros_like(x), f"x at t = {s}", dtype=dtype, rtol=0, atol=np.inf)
            mean, variance = step(x_t, image, float(ALPHA_BAR[t]), float(ALPHA_BAR[s]))
            found.append((x_s - mean) / (variance**0.5 or 1))
        return np.array(found)

    found = noises(np.random.default_rng(0))
    trial.require(np.abs(found[-1]).max() < 1e-4, "there is noise on the finished image", "none is wanted at s = 0")
    for noise, s in zip(found[:-1], times[1:-1], strict=True):
        variance = 0.3 * (1 - float(ALPHA_BAR[s]))
        root = abs(noise.std() - variance**0.5) < 0.1 * variance**0.5
        told = f"the noise has deviation {noise.std() * variance**0.5:.3f}; the variance is {variance:.3f}"
        trial.require(not root, told, "its standard deviation is the root of the variance")
        expect_normals(trial, noise, f"the noise at t = {s}")
    trial.require(
        not np.allclose(found[0], found[1]), "the same noise is added at every step", "draw anew at each step"
    )
    expect_from_rng(trial, noises)


@pytest.mark.exercise(id="sampling-loop")
@pytest.mark.parametrize("kind", ["posterior", "ddim"])
def test_an_oracle_gets_its_image_back(kind):
    image = normal((1, 4), 3)
    step = {"posterior": gaussian_posterior, "ddim": ddim}[kind]
    trial = Trial(f"reverse_process(oracle, x, ...) with {kind} steps")
    rng = np.random.default_rng(0)
    *_, (last, again) = walked(trial, lambda x, t: image, normal((1, 4), 4), [6, 4, 2, 1, 0], ALPHA_BAR, step, rng)
    trial.expect(last, image, "the image at the end", rtol=1e-9, atol=1e-9)
    trial.expect(again, image, "the second of the last pair", rtol=1e-9, atol=1e-9)


@pytest.mark.exercise(id="sampling-loop")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_second_order_steps_look_ahead_and_are_taken_again(dtype):
    x, times = normal((2, 3), 1, dtype), [6, 4, 3, 1, 0]
    near = {"rtol": 1e-6 if dtype == np.float64 else 2e-4, "dtype": dtype}
    trial = Trial(f"reverse_process(..., {times}, second_order=True)", "with second-order steps")

    def plain_step(x_t, x0, ab_t, ab_s):
        return dtype(ab_t + 0.5) * x_t + dtype(0.2 + ab_s) * x0, 0.0

    def predict_clean(x_t, t):
        return x_t * dtype(t * 0.1) + dtype(t)

    pairs = walked(trial, predict_clean, x, times, ALPHA_BAR, plain_step, None, second_order=True)
    before, unaware = None, {}
    for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        ab_t, ab_s = float(ALPHA_BAR[t]), float(ALPHA_BAR[s])
        aim = guess = predict_clean(x, t)
        instead = {}
        if before is not None:
            x_r, guess_r, ab_r = before
            aim_r = line_average(guess_r, ab_r, guess, ab_t, ab_r, ab_t)
            instead = {
                "this x is from before the step that led here was taken again, now that the guess at its end is known":
                    x,
                "the step is taken again from where it led; from where it began is wanted":
                    plain_step(x, aim_r, ab_r, ab_t)[0],
            }  # fmt: skip
            x, _ = plain_step(x_r, aim_r, ab_r, ab_t)
            if s > 0:
                aim = line_average(guess_r, ab_r, guess, ab_t, ab_t, ab_s)
        trial.expect(pairs[i][1], guess, f"the guess at t = {t}", instead=unaware, **near)
        trial.expect(pairs[i][0], x, f"x at t = {t}", instead=instead, **near)
        before = x, guess, ab_t
        held, _ = plain_step(x, guess, ab_t, ab_s)
        unaware = {"the step that led here did not look ahead: it held its guess": predict_clean(held, s)} if i else {}
        x, _ = plain_step(x, aim, ab_t, ab_s)
    trial.expect(pairs[-1][0], x, "the image at the end", **near)


def gaussian_posterior(x_t, x0, ab_t, ab_s):
    alpha = ab_t / ab_s
    mean = (np.sqrt(ab_s) * (1 - alpha) * x0 + np.sqrt(alpha) * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)


def ddim(x_t, x0, ab_t, ab_s):
    eps = (x_t - np.sqrt(ab_t) * x0) / np.sqrt(1 - ab_t)
    return np.sqrt(ab_s) * x0 + np.sqrt(1 - ab_s) * eps, 0.0
