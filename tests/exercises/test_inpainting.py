"""Judges the exercise on inpainting: a network that guesses the same whatever it is shown lets the noise be seen."""

import numpy as np
import pytest

from generators.families.diffusion import process
from tests.exercises.chance import expect_from_rng, expect_normals, expect_shared_by_none
from tests.exercises.test_ddpm import ALPHA_BAR
from tests.exercises.trial import Trial, normal

CALL = "inpaint(predict_clean, x, {}, alpha_bar, known, clean, rng, rounds={})"


class Filled:
    """Images of which a part is known, and a network that guesses the same of all the rest, whatever it is shown."""

    def __init__(self, count, dtype=np.float64, shape=(2, 2, 1)):
        self.known = np.array([[True, False], [False, False]])[..., None][: shape[0], : shape[1]]
        self.clean, self.guess = normal((count, *shape), 3, dtype), normal((count, *shape), 4, dtype)
        self.image, self.seen = np.where(self.known, self.clean, self.guess), []

    def __call__(self, x_t, t):
        self.seen.append((int(t), np.array(x_t)))
        return self.guess.copy()

    def noise(self, x_t, t):
        """What is in x_t beside the image that comes out in the end."""
        ab = ALPHA_BAR[t]
        return (x_t.astype(float) - np.sqrt(ab) * self.image) / np.sqrt(1 - ab)

    def paint(self, trial, times, rounds, rng, start=False):
        """What `inpaint` makes of noisy images; with `start`, those."""
        x = np.sqrt(ALPHA_BAR[times[0]]) * self.image
        x = x + np.sqrt(1 - ALPHA_BAR[times[0]]) * normal(self.image.shape, 5)
        given = x.astype(self.image.dtype), self.known.copy(), self.clean.copy()
        before = [array.copy() for array in given]
        x, known, clean = given
        got = trial.call_it(process.inpaint, (self, x, times, ALPHA_BAR, known, clean, rng, rounds), {})
        same = all(np.array_equal(now, was) for now, was in zip(given, before, strict=True))
        trial.require(same, "an input was changed in place", "work on new arrays")
        return before[0] if start else got


@pytest.mark.exercise(id="inpainting")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("count, times, rounds", [(1, [6, 3, 1, 0], 3), (3, [5, 2, 0], 1), (2, [6, 0], 2)], ids=str)
def test_inpaint(count, times, rounds, dtype):
    filled = Filled(count, dtype)
    trial = Trial(CALL.format(times, rounds), known=filled.known, clean=filled.clean)
    got = filled.paint(trial, times, rounds, np.random.default_rng(0))
    asked, wanted = [t for t, _ in filled.seen], [t for t in times[:-1] for _ in range(rounds)]
    once = "each step is taken `rounds` times" if asked == times[:-1] else ""
    trial.require(asked == wanted, f"predict_clean was asked at t = {asked}; expected {wanted}", once)
    for t, x_t in filled.seen:
        told = f"predict_clean is shown {x_t.dtype} at t = {t}; {np.dtype(dtype)} is wanted"
        trial.require(x_t.dtype == dtype, told, "float64 has come in on the way, from a draw or np.sqrt(a number)")
    instead = {
        "the known pixels do not take the place of the guessed ones": filled.guess,
        "the mask is the wrong way round: known pixels are those that stay":
            np.where(filled.known, filled.guess, filled.clean),
    }  # fmt: skip
    trial.expect(got, filled.image, "the image", rtol=1e-5, atol=1e-6, dtype=dtype, instead=instead)


@pytest.mark.exercise(id="inpainting")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rounds", [1, 3])
def test_inpaint_noises_anew_before_each_round(rounds, dtype):
    """The noise that the network is shown has variance one, of known pixels or not, at the first look and later."""
    filled, times = Filled(1500, dtype), [5, 4, 2, 0]
    trial = Trial(CALL.format(times, rounds) + ", of 1500 images")
    start = filled.paint(trial, times, rounds, np.random.default_rng(0), start=True)
    asked = len(filled.seen)
    trial.require(asked == 3 * rounds, f"predict_clean was asked {asked} times; {3 * rounds} are wanted")
    same = np.allclose(filled.seen[0][1], start, atol=1e-6)
    told = "the first x that predict_clean is shown is not the one that was given"
    trial.require(same, told, "the known pixels go into the guess, not into x_t")
    noises = [filled.noise(x_t, t) for t, x_t in filled.seen]
    unknown = ~np.broadcast_to(filled.known, filled.image.shape)
    anew = "draw anew for each step, and for each time noise is put back"

    def kept(t, s):
        """The share of the noise at t that a step to s keeps."""
        return np.sqrt(ALPHA_BAR[t] / ALPHA_BAR[s] * (1 - ALPHA_BAR[s]) / (1 - ALPHA_BAR[t]))

    if rounds == 1:
        first, second = (noises[i + 1] - kept(times[i], times[i + 1]) * noises[i] for i in range(2))
        alike = abs(np.corrcoef(first[unknown], second[unknown])[0, 1])
        trial.require(alike < 0.5, "the same noise is added at every step", anew)
    for i, (noise, (t, _)) in enumerate(zip(noises, filled.seen, strict=True)):
        of_known, others = noise[:, filled.known], noise[:, ~filled.known]
        by_round = f"at t = {t}, before round {i % rounds + 1}"
        told = f"{by_round}, the noise has deviation {of_known.std():.2f} where pixels are known; 1 is wanted"
        if rounds == 1:
            cause = "known pixels take the place of the guessed ones in each guess, not only at the end"
            trial.require(abs(of_known.std() - 1) < 0.1 or abs(others.std() - 1) > 0.1, told, cause)
        if i % rounds:
            cause = "x_t from x_s: sqrt(ab_t / ab_s) x_s + sqrt(1 - ab_t / ab_s) noise"
        elif rounds == 1 and noise.std() < 1:
            cause = "by the root of the posterior's variance: that is the noise's deviation"
        else:
            cause = "after the last round x is x_s, and goes on as it is: no noise is put back"
        expect_shared_by_none(trial, noise, f"the noise {by_round},")
        told = f"{by_round}, the noise has mean {noise.mean():.3f} and deviation {noise.std():.3f}; 0 and 1 are wanted"
        trial.require(max(abs(noise.std() - 1), abs(noise.mean())) < 0.045, told, cause)
        expect_normals(trial, of_known, f"the noise of the known pixels {by_round},")
        expect_normals(trial, noise, f"the noise {by_round},")
    for i in range(len(noises) - 1):
        (t, _), (u, _) = filled.seen[i], filled.seen[i + 1]
        by_step = kept(t, times[times.index(t) + 1])
        right = by_step * (by_step if u == t else 1)  # by the way back, too
        found = np.corrcoef(noises[i][unknown], noises[i + 1][unknown])[0, 1]
        told = f"the noise at t = {t} and that before the next round have a correlation of {found:.2f}, not {right:.2f}"
        trial.require(abs(found - right) < 0.08, told, anew)


@pytest.mark.exercise(id="inpainting")
def test_inpaint_draws_from_rng():
    trial = Trial(CALL.format([5, 2, 0], 2), "with one generator and with another")

    def draw(rng):
        filled = Filled(4)
        filled.paint(trial, [5, 2, 0], 2, rng)
        return [x_t for _, x_t in filled.seen]

    expect_from_rng(trial, draw)
