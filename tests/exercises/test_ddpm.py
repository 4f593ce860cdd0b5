"""Judges the exercises on diffusion: Gaussians have closed forms, and an oracle must get its image back."""

import numpy as np
import pytest

from generators.families.diffusion import process, unet
from generators.parts.guidance import drop_captions, guide
from tests.exercises.trial import SameNoise, Trial, normal

ALPHA_BAR = np.array([1.0, 0.95, 0.8, 0.55, 0.3, 0.08, 0.002])


@pytest.mark.exercise(id="schedule")
@pytest.mark.parametrize("steps", [1000, 20, 1])
def test_cosine_schedule(steps):
    trial = Trial(f"cosine_alpha_bar({steps})", *(["with few steps"] if steps < 1000 else []))
    got = trial.run(process.cosine_alpha_bar, steps)
    trial.require(
        np.shape(got) != (steps,), f"{steps} entries; {steps + 1} are wanted, for t = 0 ... T", "ab_0 is left out"
    )
    angle = [(t / steps + 0.008) / 1.008 * np.pi / 2 for t in range(steps + 1)]
    expected, plain, unsquared = [1.0], [1.0], [1.0]
    for t in range(1, steps + 1):
        kept = (np.cos(angle[t]) / np.cos(angle[t - 1])) ** 2
        expected.append(expected[-1] * max(kept, 0.001))
        plain.append(plain[-1] * kept)
        unsquared.append(unsquared[-1] * max(kept**0.5, 0.001))
    instead = {
        "no step may add more than beta = 0.999: ab_T must not be zero": np.array(plain),
        "this is sqrt(alpha_bar): the cosine is not squared": np.array(unsquared),
        "ab_0 has to be 1: divide by the first": np.cos(angle) ** 2,
    }
    trial.expect(got, np.array(expected), "alpha_bar", rtol=1e-6, atol=1e-12, instead=instead)


@pytest.mark.exercise(id="noising")
@pytest.mark.parametrize("shape", [(7, 2), (7, 2, 2, 1)], ids=str)
def test_q_sample(shape):
    x0, eps, t = normal(shape, 0), normal(shape, 1), np.arange(7)
    trial = Trial("q_sample(x0, t, eps, alpha_bar)", x0=x0, t=t, eps=eps, alpha_bar=ALPHA_BAR)
    got = trial.run(process.q_sample, x0, t, eps, ALPHA_BAR)
    wide = (-1, *[1] * (len(shape) - 1))
    ab, before = ALPHA_BAR[t].reshape(wide), ALPHA_BAR[t - 1].reshape(wide)
    instead = {
        "the roots are missing: alpha_bar is a variance": ab * x0 + (1 - ab) * eps,
        "the time is off by one: alpha_bar[t - 1]": np.sqrt(before) * x0 + np.sqrt(1 - before) * eps,
        "signal and noise are exchanged": np.sqrt(1 - ab) * x0 + np.sqrt(ab) * eps,
        "the noise is not scaled": np.sqrt(ab) * x0 + eps,
    }
    trial.expect(got, np.sqrt(ab) * x0 + np.sqrt(1 - ab) * eps, "x_t", instead=instead)


@pytest.mark.exercise(id="training-target")
@pytest.mark.parametrize("kind", ["noise", "v"])
def test_training_target(kind):
    x0, eps, t = normal((6, 2, 1), 0), normal((6, 2, 1), 1), np.arange(1, 7)
    trial = Trial(f'training_target(x0, t, eps, alpha_bar, "{kind}")', f'of "{kind}"', x0=x0, t=t, eps=eps)
    got = trial.run(process.training_target, x0, t, eps, ALPHA_BAR, kind)
    ab = ALPHA_BAR[t].reshape(-1, 1, 1)
    v = np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0
    instead = {
        "this is x_t": np.sqrt(ab) * x0 + np.sqrt(1 - ab) * eps,
        "signal and noise are exchanged": np.sqrt(1 - ab) * eps - np.sqrt(ab) * x0,
        "the sign of v": -v,
        "the roots are missing: alpha_bar is a variance": ab * eps - (1 - ab) * x0,
        "the kinds are exchanged": eps if kind == "v" else v,
    }
    trial.expect(got, eps if kind == "noise" else v, "the target", instead=instead)


@pytest.mark.exercise(id="clean-image")
@pytest.mark.parametrize("kind", ["noise", "v"])
@pytest.mark.parametrize("t", [np.arange(1, 7), 4], ids=["times", "one_time"])
def test_clean_image(kind, t):
    x0, eps = normal((6, 2, 1), 0), normal((6, 2, 1), 1)
    ab = ALPHA_BAR[t].reshape(-1, 1, 1)
    x_t = np.sqrt(ab) * x0 + np.sqrt(1 - ab) * eps
    output = eps if kind == "noise" else np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0
    tags = [f'of "{kind}"', *(["where t is one number for all"] if np.ndim(t) == 0 else [])]
    trial = Trial(f'clean_image(output, x_t, t, alpha_bar, "{kind}")', *tags, output=output, x_t=x_t, t=t)
    got = trial.run(process.clean_image, output, x_t, t, ALPHA_BAR, kind)
    of_noise = (x_t - np.sqrt(1 - ab) * output) / np.sqrt(ab)
    of_v = np.sqrt(ab) * x_t - np.sqrt(1 - ab) * output
    instead = {
        "the noise is taken away, but the image is not brought back to its size": x_t - np.sqrt(1 - ab) * output,
        "the kinds are exchanged": of_v if kind == "noise" else of_noise,
        "the sign of the output": 2 * (np.sqrt(ab) * x_t if kind == "v" else x_t / np.sqrt(ab)) - x0,
    }
    trial.expect(got, x0, "x_0", rtol=1e-6, atol=1e-9, instead=instead)


@pytest.mark.exercise(id="training-target")
@pytest.mark.parametrize("kind", ["noise", "v"])
def test_training_target_stays_float32(kind):
    x0, eps = normal((3, 2), 0, np.float32), normal((3, 2), 1, np.float32)
    trial = Trial(f'training_target(x0, t, eps, alpha_bar, "{kind}")', "in float32", x0=x0, eps=eps)
    got = trial.run(process.training_target, x0, np.array([1, 2, 5]), eps, ALPHA_BAR, kind)
    ab = ALPHA_BAR[[1, 2, 5]].reshape(3, 1)
    right = eps if kind == "noise" else np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0
    trial.expect(got, right, "the target", rtol=1e-5, atol=1e-6, dtype=np.float32)


@pytest.mark.exercise(id="clean-image")
@pytest.mark.parametrize("kind", ["noise", "v"])
@pytest.mark.parametrize("t", [np.array([1, 2, 5]), 4], ids=["times", "one_time"])
def test_clean_image_stays_float32(kind, t):
    output, x_t = normal((3, 2), 0, np.float32), normal((3, 2), 1, np.float32)
    trial = Trial(f'clean_image(output, x_t, t, alpha_bar, "{kind}")', "in float32", output=output, x_t=x_t)
    got = trial.run(process.clean_image, output, x_t, t, ALPHA_BAR, kind)
    ab = ALPHA_BAR[t].reshape(-1, 1)
    of_noise = (x_t - np.sqrt(1 - ab) * output) / np.sqrt(ab)
    right = of_noise if kind == "noise" else np.sqrt(ab) * x_t - np.sqrt(1 - ab) * output
    trial.expect(got, right, "x_0", rtol=1e-4, atol=1e-5, dtype=np.float32)


@pytest.mark.exercise(id="noising")
def test_q_sample_stays_float32():
    x0, eps = normal((3, 2), 0, np.float32), normal((3, 2), 1, np.float32)
    trial = Trial("q_sample(x0, t, eps, alpha_bar)", "in float32", x0=x0, eps=eps)
    got = trial.run(process.q_sample, x0, np.array([1, 2, 5]), eps, ALPHA_BAR)
    ab = ALPHA_BAR[[1, 2, 5]].reshape(3, 1)
    trial.expect(got, np.sqrt(ab) * x0 + np.sqrt(1 - ab) * eps, "x_t", rtol=1e-5, atol=1e-6, dtype=np.float32)


@pytest.mark.exercise(id="drawing-times")
@pytest.mark.parametrize("count, steps", [(1, 1000), (7, 10), (64, 5), (3, 1)])
def test_draw_times(count, steps):
    trial = Trial(f"draw_times({count}, {steps}, rng), 400 times")
    rng = np.random.default_rng(0)
    draws = [trial.run(process.draw_times, count, steps, rng) for _ in range(400)]
    trial.require(np.shape(draws[0]) == (count,), f"the shape is {np.shape(draws[0])}; ({count},) is wanted")
    trial.require(np.asarray(draws[0]).dtype.kind == "i", "the times are to be whole numbers")
    drawn = np.array(draws)
    trial.require(drawn.min() >= 1, f"t = {drawn.min()} was drawn", "times go from 1 to T; at 0 there is no noise")
    trial.require(drawn.max() <= steps, f"t = {drawn.max()} was drawn", f"times go from 1 to T = {steps}: off by one")
    if count * 400 > 20 * steps:
        seen = np.bincount(drawn.ravel(), minlength=steps + 1)[1:]
        missing = np.flatnonzero(seen == 0) + 1
        where = "the largest" if missing.size and missing[-1] == steps else "some"
        trial.require(missing.size == 0, f"t = {missing[:3]} never came up", f"{where} noise level is never trained on")
        share = seen / seen.sum() * steps
        trial.require(np.abs(share - 1).max() < 0.5, "some times come up far more often than others")
    widths = np.sort(drawn, axis=1)
    gaps = np.diff(widths, axis=1, append=widths[:, :1] + steps)
    bound = steps / count + 1
    trial.require(
        gaps.max() <= bound,
        f"a gap of {gaps.max()} between times that should lie evenly, {steps / count:.1f} apart",
        "drawn independently; one random offset, then equal distances",
    )
    trial.require(
        len({tuple(np.sort(d)) for d in draws}) > 1 or steps == 1 or steps % count == 0 and count > 1 or count > steps,
        "the times are the same at every draw",
        "the offset does not come from rng",
    )


@pytest.mark.exercise(id="drawing-times")
def test_draw_times_in_shares():
    share = np.cumsum([0.1, 0.4, 0.05, 0.25, 0.2])
    share[-1] = 1
    trial = Trial("draw_times(8, 5, rng, share), 2000 times", share=share)
    rng = np.random.default_rng(0)
    draws = [trial.run(process.draw_times, 8, 5, rng, share) for _ in range(2000)]
    trial.require(np.asarray(draws[0]).dtype.kind == "i", "the times are to be whole numbers")
    drawn = np.array(draws).ravel()
    trial.require(drawn.min() >= 1, f"t = {drawn.min()} was drawn", "the first share belongs to t = 1")
    trial.require(drawn.max() <= 5, f"t = {drawn.max()} was drawn", "the last share belongs to t = T")
    found = np.cumsum(np.bincount(drawn, minlength=6)[1:]) / len(drawn)
    worst = int(np.abs(found - share).argmax())
    trial.require(
        np.abs(found - share).max() < 0.01,
        f"{found[worst]:.0%} of the times lie on 1 ... {worst + 1}; {share[worst]:.0%} are wanted",
        "share[t - 1] is the share of all draws that fall on 1 ... t",
    )


@pytest.mark.exercise(id="dropping-captions")
def test_drop_captions():
    tokens = np.arange(1, 4001).reshape(2000, 2)
    trial = Trial("drop_captions(tokens, 0.25, rng)", tokens=tokens)
    got = trial.run(drop_captions, tokens, 0.25, np.random.default_rng(0))
    trial.require(np.shape(got) == tokens.shape, f"the shape is {np.shape(got)}; {tokens.shape} is wanted")
    kept = np.all(got == tokens, axis=1)
    dropped = np.all(np.asarray(got) == 0, axis=1)
    trial.require(
        np.all(kept | dropped),
        "some captions are neither as they were nor empty",
        "a caption is dropped whole, all of its words at once",
    )
    trial.require(
        not (kept.all() or dropped.all()), "all captions share one fate", "dropped for the whole batch, not each"
    )
    share = dropped.mean()
    cause = "1 - probability: the comparison the wrong way round" if abs(share - 0.75) < 0.05 else ""
    trial.require(abs(share - 0.25) < 0.05, f"{share:.0%} were dropped, not 25%", cause)


@pytest.mark.exercise(id="dropping-captions")
@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_drop_captions_at_the_ends(probability):
    tokens = np.arange(1, 201).reshape(100, 2)
    trial = Trial(f"drop_captions(tokens, {probability}, rng)", tokens=tokens)
    got = trial.run(drop_captions, tokens, probability, np.random.default_rng(0))
    trial.expect(got, tokens * int(1 - probability), "the tokens")


@pytest.mark.exercise(id="time-embedding")
@pytest.mark.parametrize("features", [8, 2, 64])
def test_time_embedding(features):
    t = np.array([0, 1, 10, 999])
    trial = Trial(f"time_embedding(t, {features})", t=t)
    got = trial.run(unet.time_embedding, t, features)
    half = features // 2
    angles = np.array([[time * 10_000.0 ** -(i / max(half - 1, 1)) for i in range(half)] for time in t])
    sines, cosines = np.sin(angles), np.cos(angles)
    other = np.array([[time * 10_000.0 ** -(i / half) for i in range(half)] for time in t])
    instead = {
        "the cosines come first; the sines should": np.concatenate([cosines, sines], 1),
        "sines and cosines alternate; first all the sines, then all the cosines": np.stack([sines, cosines], 2).reshape(
            4, -1
        ),
        "the last frequency should be 1/10,000 exactly: divide by half - 1": np.concatenate(
            [np.sin(other), np.cos(other)], 1
        ),
        "the sines are there twice": np.concatenate([sines, sines], 1),
    }
    expected = np.concatenate([sines, cosines], axis=1)
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, expected)}
    trial.expect(got, expected, "the waves", atol=1e-7, instead=instead)


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


@pytest.mark.exercise(id="sampling-loop")
@pytest.mark.parametrize("times", [[6, 5, 4, 3, 2, 1, 0], [6, 3, 1, 0], [6, 0]], ids=str)
@pytest.mark.parametrize("noisy", [False, True], ids=["no_noise", "noise"])
def test_reverse_process(times, noisy):
    image, x = normal((2, 3), 0), normal((2, 3), 1)

    def plain_step(x_t, x0, ab_t, ab_s):  # any step will do: the loop knows nothing of the formula
        return 0.5 * x_t + np.sqrt(ab_s) * x0, 0.3 * (1 - ab_s) if noisy else 0.0

    step, calls = counted(plain_step)
    seen = []

    def predict_clean(x_t, t):
        seen.append(t)
        return image + 0.1 * x_t + 0.01 * t

    tags = ["where noise is added"] if noisy else []
    trial = Trial(f"reverse_process(predict_clean, x, {times}, alpha_bar, step, rng)", *tags, x=x)
    walk = trial.run(process.reverse_process, predict_clean, x, times, ALPHA_BAR, step, SameNoise())
    trial.require(hasattr(walk, "__iter__"), "a generator is wanted: yield (x_t, the guess) for every t")
    got = trial.run(lambda: [(a.copy(), b.copy()) for a, b in walk])
    trial.require(
        len(got) == len(times), f"{len(got)} pairs came out; {len(times)} are wanted, one for each time, 0 included"
    )
    trial.require(
        [int(t) for t in seen] == times[:-1],
        f"predict_clean was asked at t = {seen}; expected {times[:-1]}",
        "the guess is made at t, the time that is, not at s, where the step leads",
    )
    current = x
    for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        guess = image + 0.1 * current + 0.01 * t
        trial.expect(got[i][0], current, f"x at t = {t}")
        trial.expect(got[i][1], guess, f"the guess at t = {t}")
        expected = (float(ALPHA_BAR[t]), float(ALPHA_BAR[s]))
        trial.require(
            np.allclose(calls[i][2:], expected),
            f"step was given alpha_bar {calls[i][2:]}; expected {expected}",
            "alpha_bar[t], then alpha_bar[s]: no index is shifted, and none may wrap around",
        )
        mean, variance = plain_step(current, guess, *expected)
        noise = SameNoise().standard_normal(x.shape)
        following = mean + np.sqrt(variance) * noise
        instead = (
            {
                "noise is added at every step but its standard deviation is the root of the variance": mean
                + variance * noise,
                "the noise is left out": mean,
            }
            if variance
            else {"noise on the finished image": mean + noise}
        )
        trial.expect(got[i + 1][0], following, f"x at t = {s}", instead=instead)
        current = following
    trial.expect(got[-1][1], current, "the second of the last pair: the image once more")


@pytest.mark.exercise(id="sampling-loop")
@pytest.mark.parametrize("kind", ["posterior", "ddim"])
def test_an_oracle_gets_its_image_back(kind):
    image = normal((1, 4), 3)
    step = {"posterior": gaussian_posterior, "ddim": ddim}[kind]
    trial = Trial(f"reverse_process(oracle, x, ...) with {kind} steps")
    rng = np.random.default_rng(0)
    walk = process.reverse_process(lambda x, t: image, normal((1, 4), 4), [6, 4, 2, 1, 0], ALPHA_BAR, step, rng)
    *_, (last, again) = trial.run(lambda: list(walk))
    trial.expect(last, image, "the image at the end", rtol=1e-9, atol=1e-9)
    trial.expect(again, image, "the second of the last pair", rtol=1e-9, atol=1e-9)


@pytest.mark.exercise(id="sampling-loop")
def test_second_order_steps_look_ahead_and_are_taken_again():
    x, times = normal((2, 3), 1), [6, 4, 3, 1, 0]
    trial = Trial(f"reverse_process(..., {times}, second_order=True)", "with second-order steps")

    def plain_step(x_t, x0, ab_t, ab_s):
        return (ab_t + 0.5) * x_t + (0.2 + ab_s) * x0, 0.0

    def predict_clean(x_t, t):
        return x_t * t * 0.1 + t

    walk = process.reverse_process(predict_clean, x, times, ALPHA_BAR, plain_step, None, second_order=True)
    pairs = trial.run(lambda: [(a.copy(), b.copy()) for a, b in walk])
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
        trial.expect(pairs[i][1], guess, f"the guess at t = {t}", rtol=1e-6, instead=unaware)
        trial.expect(pairs[i][0], x, f"x at t = {t}", rtol=1e-6, instead=instead)
        before = x, guess, ab_t
        held, _ = plain_step(x, guess, ab_t, ab_s)
        unaware = {"the step that led here did not look ahead: it held its guess": predict_clean(held, s)} if i else {}
        x, _ = plain_step(x, aim, ab_t, ab_s)
    trial.expect(pairs[-1][0], x, "the image at the end", rtol=1e-6)


def gaussian_posterior(x_t, x0, ab_t, ab_s):
    alpha = ab_t / ab_s
    mean = (np.sqrt(ab_s) * (1 - alpha) * x0 + np.sqrt(alpha) * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, (1 - alpha) * (1 - ab_s) / (1 - ab_t)


def ddim(x_t, x0, ab_t, ab_s):
    eps = (x_t - np.sqrt(ab_t) * x0) / np.sqrt(1 - ab_t)
    return np.sqrt(ab_s) * x0 + np.sqrt(1 - ab_s) * eps, 0.0
