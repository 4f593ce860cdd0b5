"""Judges the exercises on diffusion's way out: schedule, noising, targets, times, captions."""

import numpy as np
import pytest

from generators.families.diffusion import process, unet
from generators.parts.guidance import drop_captions
from tests.exercises.chance import expect_each_by_chance, expect_from_rng
from tests.exercises.trial import Trial, normal

ALPHA_BAR = np.array([1.0, 0.95, 0.8, 0.55, 0.3, 0.08, 0.002])


def expect_all_times(trial, alpha_bar, steps):
    cause = "ab_0 is left out" if np.shape(alpha_bar) == (steps,) and alpha_bar[0] < 1 else "both ends count: T + 1"
    wrong = np.shape(alpha_bar) == (steps,)
    trial.require(not wrong, f"{steps} entries; {steps + 1} are wanted, for t = 0 ... T", cause)


@pytest.mark.exercise(id="schedule")
@pytest.mark.parametrize("steps", [1000, 20, 1])
def test_cosine_schedule(steps):
    trial = Trial(f"cosine_alpha_bar({steps})", *(["with few steps"] if steps < 1000 else []))
    got = trial.run(process.cosine_alpha_bar, steps)
    again = trial.run(process.cosine_alpha_bar, steps)
    trial.require(
        again is not got, "the same array is returned each time", "whoever changes his changes that of others"
    )
    expect_all_times(trial, got, steps)
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
    trial.expect(got, np.array(expected), "alpha_bar", rtol=1e-6, atol=1e-12, dtype=np.float64, instead=instead)


@pytest.mark.exercise(id="straight-paths")
@pytest.mark.parametrize("steps", [1000, 20, 1])
def test_straight_alpha_bar(steps):
    trial = Trial(f"straight_alpha_bar({steps})")
    got = trial.run(process.straight_alpha_bar, steps)
    again = trial.run(process.straight_alpha_bar, steps)
    trial.require(
        again is not got, "the same array is returned each time", "whoever changes his changes that of others"
    )
    expect_all_times(trial, got, steps)

    def at(shares, last=0.9999):
        u = last * np.asarray(shares)
        return (1 - u) ** 2 / ((1 - u) ** 2 + u**2)

    def of(last):
        return at([t / steps for t in range(steps + 1)], last)

    trial.require(np.ravel(got)[-1] != 0, "ab_T is zero", "u ends at 0.9999, so that something is left")
    right = of(0.9999)
    instead = {
        "u ends at 0.9999, so that ab_T is not zero": of(1.0),
        "this is sqrt(alpha_bar): alpha_bar is a share of the variance": np.sqrt(right),
        "this is the share of the amplitude, 1 - u: divide the squares": 1 - 0.9999 * np.arange(steps + 1) / steps,
        "the line is not brought to variance one: divide by (1 - u)^2 + u^2":
            (1 - 0.9999 * np.arange(steps + 1) / steps) ** 2,
        "this is the share of the noise": 1 - right,
        "the line runs the other way: ab_0 is 1": right[::-1],
        "it begins one step late: u is 0 at t = 0": at(np.arange(1, steps + 2) / (steps + 1)),
        "u goes evenly to 0.9999: not its last step alone is shorter":
            at(np.append(np.arange(steps) / steps / 0.9999, 1)),
    }  # fmt: skip
    trial.expect(got, right, "alpha_bar", rtol=1e-6, atol=1e-12, dtype=np.float64, instead=instead)


@pytest.mark.exercise(id="noising")
@pytest.mark.parametrize("shape", [(7, 2), (7, 2, 2, 1)], ids=str)
def test_q_sample(shape):
    x0, eps = normal(shape, 0), normal(shape, 1)
    t = np.array([3, 0, 1, 2, 4, 5, 6])  # not first the one at which much is right by itself
    trial = Trial("q_sample(x0, t, eps, alpha_bar)", x0=x0, t=t, eps=eps, alpha_bar=ALPHA_BAR)
    got = trial.run(process.q_sample, x0, t, eps, ALPHA_BAR)
    wide = (-1, *[1] * (len(shape) - 1))
    ab, before = ALPHA_BAR[t].reshape(wide), ALPHA_BAR[t - 1].reshape(wide)
    instead = {
        "the roots are missing: alpha_bar is a variance": ab * x0 + (1 - ab) * eps,
        "the time is off by one: alpha_bar[t - 1]": np.sqrt(before) * x0 + np.sqrt(1 - before) * eps,
        "signal and noise are exchanged": np.sqrt(1 - ab) * x0 + np.sqrt(ab) * eps,
        "the noise is not scaled": np.sqrt(ab) * x0 + eps,
        "one time for the whole batch, that of the first image":
            np.sqrt(ALPHA_BAR[3]) * x0 + np.sqrt(1 - ALPHA_BAR[3]) * eps,
    }  # fmt: skip
    trial.expect(got, np.sqrt(ab) * x0 + np.sqrt(1 - ab) * eps, "x_t", instead=instead)


KINDS = pytest.mark.parametrize("kind", ["noise", "v", "velocity", "image"])


@pytest.mark.exercise(id="training-target")
@KINDS
@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 2, 3, 1)], ids=str)
def test_training_target(kind, shape):
    x0, eps, t = normal(shape, 0), normal(shape, 1), np.arange(1, 7)
    trial = Trial(f'training_target(x0, t, eps, alpha_bar, "{kind}")', f'of "{kind}"', x0=x0, t=t, eps=eps)
    got = trial.run(process.training_target, x0, t, eps, ALPHA_BAR, kind)
    ab = ALPHA_BAR[t].reshape(-1, *[1] * (len(shape) - 1))
    v = np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0
    right = {"noise": eps, "v": v, "velocity": eps - x0, "image": x0}[kind]
    instead = {
        "this is x_t": np.sqrt(ab) * x0 + np.sqrt(1 - ab) * eps,
        "signal and noise are exchanged": np.sqrt(1 - ab) * eps - np.sqrt(ab) * x0,
        "the sign of v": -v,
        "the roots are missing: alpha_bar is a variance": ab * eps - (1 - ab) * x0,
        "the velocity has the wrong sign: it leads from the image to the noise": x0 - eps,
        "the kinds are exchanged": v if kind == "noise" else eps,
        "this is v, for a network that is asked for another kind": v,
    }
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, right)}
    trial.expect(got, right, "the target", instead=instead)


@pytest.mark.exercise(id="clean-image")
@KINDS
@pytest.mark.parametrize("t", [np.arange(1, 7), 4], ids=["times", "one_time"])
@pytest.mark.parametrize("shape", [(6, 2), (6, 2, 3, 1)], ids=str)
def test_clean_image(kind, t, shape):
    x0, eps = normal(shape, 0), normal(shape, 1)
    ab = ALPHA_BAR[t].reshape(-1, *[1] * (len(shape) - 1))
    x_t = np.sqrt(ab) * x0 + np.sqrt(1 - ab) * eps
    v = np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0
    output = {"noise": eps, "v": v, "velocity": eps - x0, "image": x0}[kind]
    tags = [f'of "{kind}"', *(["where t is one number for all"] if np.ndim(t) == 0 else [])]
    trial = Trial(f'clean_image(output, x_t, t, alpha_bar, "{kind}")', *tags, output=output, x_t=x_t, t=t)
    got = trial.run(process.clean_image, output, x_t, t, ALPHA_BAR, kind)
    of_noise = (x_t - np.sqrt(1 - ab) * output) / np.sqrt(ab)
    of_v = np.sqrt(ab) * x_t - np.sqrt(1 - ab) * output
    whole = {"velocity": np.sqrt(ab) + np.sqrt(1 - ab)}.get(kind, 1.0)
    instead = {
        "the noise is taken away, but the image is not brought back to its size": x_t - np.sqrt(1 - ab) * output,
        "asked for the image, the network says the image itself": of_v if kind == "image" else x0,
        "the kinds are exchanged": of_v if kind == "noise" else of_noise,
        "one time for the whole batch, that of the first image": clean_at_the_first(output, x_t, t, kind),
        "the sign of the output": {
            "noise": x_t / np.sqrt(ab), "v": np.sqrt(ab) * x_t, "velocity": x_t / whole, "image": 0 * x0
        }[kind] * 2 - x0,
    }
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, x0)}
    trial.expect(got, x0, "x_0", rtol=1e-6, atol=1e-9, instead=instead)


def clean_at_the_first(output, x_t, t, kind):
    ab = ALPHA_BAR[np.ravel(t)[0]]
    if kind == "image":
        return output
    if kind != "v":
        return (x_t - np.sqrt(1 - ab) * output) / (np.sqrt(ab) + (kind == "velocity") * np.sqrt(1 - ab))
    return np.sqrt(ab) * x_t - np.sqrt(1 - ab) * output


@pytest.mark.exercise(id="training-target")
@KINDS
def test_training_target_stays_float32(kind):
    x0, eps = normal((3, 2), 0, np.float32), normal((3, 2), 1, np.float32)
    trial = Trial(f'training_target(x0, t, eps, alpha_bar, "{kind}")', "in float32", x0=x0, eps=eps)
    got = trial.run(process.training_target, x0, np.array([1, 2, 5]), eps, ALPHA_BAR, kind)
    ab = ALPHA_BAR[[1, 2, 5]].reshape(3, 1)
    v = np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0
    right = {"noise": eps, "v": v, "velocity": eps - x0, "image": x0}[kind]
    trial.expect(got, right, "the target", rtol=1e-5, atol=1e-6, dtype=np.float32)


@pytest.mark.exercise(id="clean-image")
@KINDS
@pytest.mark.parametrize("t", [np.array([1, 2, 5]), 4], ids=["times", "one_time"])
def test_clean_image_stays_float32(kind, t):
    output, x_t = normal((3, 2), 0, np.float32), normal((3, 2), 1, np.float32)
    trial = Trial(f'clean_image(output, x_t, t, alpha_bar, "{kind}")', "in float32", output=output, x_t=x_t)
    got = trial.run(process.clean_image, output, x_t, t, ALPHA_BAR, kind)
    ab = ALPHA_BAR[t].reshape(-1, 1)
    whole = np.sqrt(ab) + (kind == "velocity") * np.sqrt(1 - ab)
    of_v, of_noise = np.sqrt(ab) * x_t - np.sqrt(1 - ab) * output, (x_t - np.sqrt(1 - ab) * output) / whole
    right = {"image": output, "v": of_v}.get(kind, of_noise)
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
    whole_numbers(trial, draws[0])
    if steps >= 10:
        expect_from_rng(trial, lambda rng: [process.draw_times(count, steps, rng) for _ in range(12)])
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


def whole_numbers(trial, times):
    good = isinstance(times, np.ndarray) and times.dtype.kind == "i"
    trial.require(
        good, f"the times are {getattr(times, 'dtype', type(times).__name__)}; an array of whole numbers is wanted"
    )


@pytest.mark.exercise(id="drawing-times")
def test_draw_times_in_shares():
    share = np.cumsum([0.1, 0.4, 0.05, 0.25, 0.2])
    share[-1] = 1
    trial = Trial("draw_times(8, 5, rng, share), 2000 times", share=share)
    rng = np.random.default_rng(0)
    draws = [trial.run(process.draw_times, 8, 5, rng, share) for _ in range(2000)]
    whole_numbers(trial, draws[0])
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
@pytest.mark.parametrize("n, probability", [(40, 0.25), (8, 0.1), (1, 0.5), (25, 0.8)])
def test_drop_captions(n, probability):
    tokens = np.arange(1, 3 * n + 1).reshape(n, 3)
    trial = Trial(f"drop_captions(tokens, {probability}, rng), {n} captions, 600 times", tokens=tokens)
    rng, rounds = np.random.default_rng(0), []
    for _ in range(600):
        got = trial.run(drop_captions, tokens, probability, rng)
        good = isinstance(got, np.ndarray) and got.dtype.kind == "i"
        cause = "float64 came in: zeros of the tokens' own dtype"
        told = f"{getattr(got, 'dtype', type(got).__name__)} came back; tokens are whole numbers"
        trial.require(good, told, cause)
        trial.require(got.shape == tokens.shape, f"the shape is {got.shape}; {tokens.shape} is wanted")
        kept, dropped = np.all(got == tokens, axis=1), np.all(got == 0, axis=1)
        trial.require(
            np.all(kept | dropped),
            "some captions are neither as they were nor empty",
            "a caption is dropped whole, all of its words at once",
        )
        rounds.append(dropped)
    if n > 1:
        expect_each_by_chance(trial, np.array(rounds), probability)
    if n > 8:
        expect_from_rng(trial, lambda rng: drop_captions(tokens, probability, rng))


@pytest.mark.exercise(id="dropping-captions")
@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_drop_captions_at_the_ends(probability):
    tokens = np.arange(1, 201).reshape(100, 2)
    trial = Trial(f"drop_captions(tokens, {probability}, rng)", tokens=tokens)
    got = trial.run(drop_captions, tokens, probability, np.random.default_rng(0))
    trial.expect(got, tokens * int(1 - probability), "the tokens")


def waves_of(t, half):
    angles = np.outer(t, 10_000.0 ** -(np.arange(half) / max(half - 1, 1)))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


@pytest.mark.exercise(id="time-embedding")
@pytest.mark.parametrize("features", [10, 2, 64])
def test_time_embedding(features):
    t = np.array([10, 0, 1, 999])
    trial = Trial(f"time_embedding(t, {features})", t=t)
    got = trial.run(unet.time_embedding, t, features)
    half = features // 2
    angles = np.array([[time * 10_000.0 ** -(i / max(half - 1, 1)) for i in range(half)] for time in t])
    sines, cosines, even = np.sin(angles), np.cos(angles), np.linspace(1, 1e-4, half)
    other = np.array([[time * 10_000.0 ** -(i / half) for i in range(half)] for time in t])
    instead = {
        "the cosines come first; the sines should": np.concatenate([cosines, sines], 1),
        "sines and cosines alternate; first all the sines, then all the cosines": np.stack([sines, cosines], 2).reshape(
            4, -1
        ),
        "the last frequency should be 1/10,000 exactly: divide by half - 1": np.concatenate(
            [np.sin(other), np.cos(other)], 1
        ),
        "the time is off by one": waves_of(t + 1, half),
        "the sines are there twice": np.concatenate([sines, sines], 1),
        "in turns of 2 pi: the angle is t w_i itself":
            np.concatenate([np.sin(2 * np.pi * angles), np.cos(2 * np.pi * angles)], 1),
        "the slow waves come first; w_0 is 1": np.concatenate([sines[:, ::-1], cosines[:, ::-1]], 1),
        "the frequencies fall by equal steps; they should fall by equal factors, geometrically":
            np.concatenate([np.sin(np.outer(t, even)), np.cos(np.outer(t, even))], 1),
    }
    expected = np.concatenate([sines, cosines], axis=1)
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, expected)}
    trial.expect(got, expected, "the waves", atol=1e-7, dtype=np.float64, instead=instead)
