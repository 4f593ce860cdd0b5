"""Judging what was drawn: from `rng` and nothing else, for each example by itself, and from the right distribution.

A solution may draw with any method, in any order and shape.  So nothing is asked about the draws themselves: the tests
recover the noise from what the networks were shown, and look at that.  The bounds are five deviations and more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def expect_from_rng(trial, draw: Callable[[np.random.Generator], np.ndarray]) -> None:
    """Wrong unless draw(rng) is settled by rng."""
    first, again, another = (np.asarray(draw(np.random.default_rng(seed))) for seed in (1, 1, 2))
    cause = "numbers that do not come from rng: np.random, or a generator of your own"
    trial.require(np.array_equal(first, again), "the same generator gives other numbers the second time", cause)
    cause = "the numbers do not come from rng: a generator of your own, with a seed of its own"
    same = first.shape == another.shape and np.allclose(first, another, rtol=1e-3, atol=1e-3)  # but for rounding
    trial.require(not same, "another generator gives the same numbers", cause)


def expect_normals(trial, noise: np.ndarray, what: str = "the noise") -> None:
    """Wrong unless these are independent normal numbers: (examples, numbers of each), at least 200 examples."""
    noise = np.asarray(noise, float).reshape(len(noise), -1)
    count, width = noise.shape
    trial.require(np.isfinite(noise).all(), f"{what} is not finite")
    trial.require(np.abs(noise).max() > 1e-3, f"{what} is zero everywhere", "the noise is left out")
    cause = f"one noise for the whole batch; each of the {count} examples wants its own"
    trial.require(np.ptp(noise, axis=0).max() > 1e-3, f"{what} is the same in every example", cause)
    if width > 1:
        cause = "one number for each example; each pixel wants its own"
        trial.require(np.ptp(noise, axis=1).max() > 1e-3, f"{what} is the same all over an example", cause)
    expect_shared_by_none(trial, noise, what)
    mean, deviation = noise.mean(), noise.std()
    cause = "uniform numbers; normal ones are wanted" if noise.min() > -1e-3 and noise.max() < 1.001 else ""
    good = abs(mean) < 5 / noise.size**0.5 and abs(deviation - 1) < 5 / (2 * noise.size) ** 0.5
    trial.require(good, f"{what} has mean {mean:.3f} and deviation {deviation:.3f}; 0 and 1 are wanted", cause)
    tails = np.mean(np.abs(noise) > 2)
    trial.require(
        abs(tails - 0.0455) < 5 * (0.0434 / noise.size) ** 0.5, f"of {what} {tails:.1%} lie beyond 2, not 4.6%"
    )
    alike = len(np.unique(np.round(noise, 3), axis=0)) if width > 1 else count
    trial.require(alike > 0.9 * count, f"only {alike} of {count} examples have a noise of their own", "noise is shared")
    pairs = np.corrcoef(noise.T) - np.eye(width) if width > 1 else np.zeros((1, 1))
    after = [np.corrcoef(noise[1:, i], noise[:-1, i])[0, 1] for i in range(width)]
    worst = max(np.abs(pairs).max(), np.abs(after).max())
    trial.require(worst < 6 / count**0.5, f"{what} of one pixel tells that of another", "noise is shared")


def expect_shared_by_none(trial, noise: np.ndarray, what: str) -> None:
    """Wrong where some of the noise (examples, numbers of each) is the same in all examples: then pixels have means."""
    means = np.asarray(noise, float).reshape(len(noise), -1).mean(axis=0)
    told = f"{what} has, pixel by pixel, means from {means.min():.2f} to {means.max():.2f}; 0 is wanted"
    cause = "one noise for the whole batch, or a part of it; each example wants its own"
    trial.require(np.ptp(means) < 12 / len(noise) ** 0.5, told, cause)


def expect_each_by_chance(trial, chosen: np.ndarray, share: float, what: str = "captions were dropped") -> None:
    """Wrong unless each place of `chosen` (rounds, n), booleans, was chosen with this chance, whatever the others."""
    rounds, n = chosen.shape
    found = chosen.mean()
    wrong_way = "1 - probability: the comparison the wrong way round" if abs(found - 1 + share) < 0.05 else ""
    whole = np.all(chosen == chosen[:, :1])
    trial.require(not whole, f"all {what}, or none: they share one fate", "dropped for the whole batch, not each")
    off = 5 * (share * (1 - share) / chosen.size) ** 0.5
    fixed = f"a fixed share: each of the {n} has a chance of its own, so that their number varies"
    spread, right = chosen.sum(axis=1).var(), n * share * (1 - share)
    cause = wrong_way or (fixed if spread < 0.5 * right else "")
    trial.require(abs(found - share) < off, f"{found:.1%} of the {what}, not {share:.0%}", cause)
    low, high = 1 - 6 * (2 / rounds) ** 0.5, 1 + 8 * (2 / rounds) ** 0.5
    told = f"the number that were chosen of {n} has the variance {spread:.2f}; independent ones have {right:.2f}"
    trial.require(low * right < spread < high * right, told, fixed if spread < right else "they depend on each other")
    each = np.abs(chosen.mean(axis=0) - share).max()
    cause = "not only how many are chosen, but also which is a matter of chance: each has its own"
    even = each < 6 * (share * (1 - share) / rounds) ** 0.5
    trial.require(even, "some places are chosen more often than others", cause)
