"""Guessing why an answer is wrong, from nothing but the answer, the right one, and what went in.

Each guess is a pattern that one kind of mistake leaves behind: a forgotten factor leaves a constant ratio, a wrong axis
leaves a transposed array, a forgotten padding leaves a wrong border.  The first pattern that fits is told.
"""

from __future__ import annotations

import itertools

import numpy as np


def close(actual: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """Where the two agree: equal infinities agree, and so do NaNs."""
    with np.errstate(all="ignore"):
        near = abs(actual - expected) <= atol + rtol * abs(expected)
    both_nan = (actual != actual) & (expected != expected)
    return (near & (abs(expected) < np.inf)) | (actual == expected) | both_nan


def of_values(actual, expected, inputs: dict, instead: dict, rtol: float, atol: float) -> list[str]:
    """Likely causes, the likeliest first, for an answer of the right shape; empty if no pattern fits.

    inputs   name -> what went in
    instead  cause -> the array that this particular mistake would have given
    """

    def same(other) -> bool:
        return np.shape(other) == expected.shape and bool(np.all(close(actual, np.asarray(other), rtol, atol)))

    for cause, array in instead.items():
        if same(array):
            return [cause]
    guesses = (
        _not_numbers(actual, expected, inputs),
        _constant(actual, expected),
        _an_input(same, inputs),
        _first_only(actual, expected, rtol, atol),
        _ratio(actual, expected, inputs, rtol),
        _difference(actual, expected, rtol),
        _rearranged(same, expected),
        _nearly(actual, expected, rtol),
        _magnitudes(actual, expected, rtol, atol),
        _places(close(actual, expected, rtol, atol), inputs),
    )
    return [guess for guess in guesses if guess][:1]


def of_shape(actual: tuple[int, ...], expected: tuple[int, ...], inputs: dict) -> str | None:
    """A likely cause for an answer of the wrong shape."""
    ones = [axis for axis, n in enumerate(expected) if n == 1]
    if actual == () and np.prod(expected, dtype=int) > 1:
        return "summed or averaged over everything, or one of them taken; many are wanted"
    if len(actual) < len(expected) and actual == tuple(n for n in expected if n != 1):
        return f"axis {ones[0]} was lost: keepdims=True, or a reshape at the end"
    if tuple(n for n in actual if n != 1) == tuple(n for n in expected if n != 1):
        return "there are axes of length 1 too many or too few"
    if len(actual) == len(expected) and len(actual) > 1 and sorted(actual) == sorted(expected):
        return "transposed: the axes are all there, in another order"
    if len(actual) == len(expected):
        differing = [axis for axis in range(len(actual)) if actual[axis] != expected[axis]]
        if all(expected[axis] == 1 for axis in differing):
            return f"axis {differing[0]} was to be summed away (it was broadcast, or is reduced)"
        if len(differing) == 1 and abs(actual[differing[0]] - expected[differing[0]]) == 1 and len(actual) < 3:
            return f"off by one somewhere in the length of axis {differing[0]}"
    if len(actual) > len(expected) and actual[len(actual) - len(expected) :] == expected:
        return f"the first {len(actual) - len(expected)} axes were to be summed or reduced away"
    if np.prod(actual, dtype=int) == np.prod(expected, dtype=int):
        return "the right number of values, cut into axes differently: a reshape or transpose is missing"
    for name, value in inputs.items():
        if np.shape(value) == actual and actual:
            return f"this is the shape of the input {name}"
    return None


def _not_numbers(actual, expected, inputs):
    bad = ~np.isfinite(actual) & np.isfinite(expected)
    if not bad.any():
        return None
    what = "NaN" if np.isnan(actual[bad]).any() else "infinity"
    large = [n for n, v in inputs.items() if _is_float(v) and v.size and np.abs(v[np.isfinite(v)]).max(initial=0) > 50]
    if large:
        return f"{what} only at extreme values of {large[0]}: an exp that overflows, or a log of zero"
    return f"{what} where there should be a number: a division by zero, the log of zero, or a value never written"


def _constant(actual, expected):
    if not actual.any() and expected.any():
        return "all zeros: the result is never written, or multiplied by zero"
    if actual.size > 1 and np.all(actual == actual.flat[0]) and not np.all(expected == expected.flat[0]):
        return f"the same value everywhere, {actual.flat[0]:.6g}: summed over everything, or an input left unused?"
    return None


def _an_input(same, inputs):
    for name, value in inputs.items():
        if isinstance(value, np.ndarray) and same(value):
            return f"this is just the input {name}, unchanged"
    return None


def _first_only(actual, expected, rtol, atol):
    """Of several examples, along the first axis."""
    if expected.ndim < 2 or len(expected) < 3:
        return None
    right = close(actual, expected, rtol, atol).reshape(len(expected), -1)
    if right[0].all() and not right[1:].all(axis=1).any():
        return "right for the first example only: something of it, [0] or [:1], is used for them all"
    return None


def _ratio(actual, expected, inputs, rtol):
    if actual.dtype.kind not in "fiu":
        return None
    used = np.abs(expected) > 1e-9 * np.abs(expected).max(initial=0)
    if used.sum() < 1 or (actual[~used] != expected[~used]).any() and not np.allclose(actual[~used], expected[~used]):
        return None
    with np.errstate(all="ignore"):
        ratios = actual[used] / expected[used]
    ratio = float(np.median(ratios))
    if not np.isfinite(ratio) or ratio == 0 or not np.allclose(ratios, ratio, rtol=max(10 * rtol, 1e-6), atol=0):
        return None
    if np.isclose(ratio, -1):
        return "the sign is flipped"
    if abs(abs(ratio) - 1) < 0.01:  # too near to be a factor that was forgotten
        return None
    if used.sum() < 2 and not _simple(ratio, inputs):
        return None
    sign = "the sign is flipped, and " if ratio < 0 else ""
    explained = _simple(abs(ratio), inputs) or f"{abs(ratio):.6g} times"
    return f"{sign}everything is {explained} what it should be: a factor is missing or too many"


def _simple(ratio: float, inputs: dict) -> str:
    """The ratio in words, where it is a small number or the length of an input: of one axis, not of any of several."""
    found: dict[int, dict[tuple[int, ...], str]] = {}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            for count in range(1, value.ndim + 1):
                for axes in itertools.combinations(range(value.ndim), count):
                    n = int(np.prod([value.shape[a] for a in axes]))
                    words = f"the length of axis {axes[0]}" if count == 1 else f"the product of the axes {axes}"
                    if count == 1 or all(len(known) > 1 for known in found.get(n, ())):
                        found.setdefault(n, {}).setdefault(axes, f"{words} of {name}")
    lengths = {n: next(iter(words.values())) for n, words in found.items() if len(words) == 1}
    numbers = [n for n in [2, *lengths, 3, 4] if n > 1]
    for n in numbers:
        words = f" ({n} is {lengths[n]})" if n in lengths else ""
        if np.isclose(ratio, n):
            return f"{n} times{words}"
        if np.isclose(ratio, 1 / n):
            return f"1/{n} of{words}"
    for n in numbers:
        if np.isclose(ratio, n**0.5) or np.isclose(ratio, n**-0.5):
            words = f" {n} is {lengths[n]}," if n in lengths else ""
            return f"{ratio:.4g} times, sqrt({n}) or its inverse,{words}"
    return ""


def _difference(actual, expected, rtol):
    if expected.size < 2:
        return None
    with np.errstate(all="ignore"):
        differences = actual - expected
    if np.isfinite(differences).all() and np.allclose(differences, differences.flat[0], rtol=1e-5):
        return f"everything is off by the same {differences.flat[0]:+.6g}: a term is missing or too many"
    return None


def _rearranged(same, expected):
    axes = tuple(range(expected.ndim))
    for order in itertools.permutations(axes):
        if order == axes or tuple(expected.shape[a] for a in order) != expected.shape:
            continue
        if same(expected.transpose(order)):
            return f"transposed: axes {order} in place of {axes}"
    for axis in axes:
        if same(np.flip(expected, axis)):
            return f"flipped: axis {axis} runs backwards"
        for step in (1, -1):
            if same(np.roll(expected, step, axis)):
                return f"off by one: everything sits one place too far along axis {axis}"
    if len(axes) >= 2 and same(np.flip(expected, axes[:2])):
        return "flipped: the axes 0 and 1 run backwards"
    if same(np.sort(expected, axis=None).reshape(expected.shape)):
        return "the right values in another order"
    return None


def _nearly(actual, expected, rtol):
    """To some digits, everywhere."""
    if expected.size < 2 or rtol > 1e-5 or expected.dtype.kind != "f":
        return None
    if close(actual, expected, 1e-3, 1e-4 * float(np.median(np.abs(expected)))).all():
        return "nearly right, everywhere: float32 on the way, or a small number (an epsilon) that does not belong there"
    return None


def _magnitudes(actual, expected, rtol, atol):
    if close(np.abs(actual), np.abs(expected), rtol, atol).all():
        return "the sizes are right and some signs are not"
    return None


def _places(right: np.ndarray, inputs: dict) -> str | None:
    """Where the wrong values are, if they are somewhere in particular."""
    wrong = ~right
    if right.size < 2 or wrong.all():
        return None
    for axis in range(wrong.ndim):
        others = tuple(a for a in range(wrong.ndim) if a != axis)
        hit = np.flatnonzero(wrong.any(axis=others))
        n = wrong.shape[axis]
        if len(hit) == 1 and n > 2:
            place = {0: "the first", n - 1: "the last"}.get(int(hit[0]), f"number {hit[0]}")
            return f"wrong only at {place} index along axis {axis}"
    for name, value in inputs.items():
        if _is_float(value) and value.shape == wrong.shape:
            for words, where in (("negative", value < 0), ("positive", value > 0), ("large", np.abs(value) > 20)):
                if where.any() and not where.all() and (wrong == where).all():
                    extreme = " (only at extreme values)" if words == "large" else ""
                    return f"wrong exactly where {name} is {words}{extreme}"
            if not wrong[np.abs(value) <= 20].any() and (np.abs(value) <= 20).any():
                return f"wrong only at extreme values of {name}"
    spatial = [1, 2] if wrong.ndim >= 4 and min(wrong.shape[1:3]) > 2 else []  # images (N, H, W, ...)
    inner = wrong
    for axis in spatial:
        if not wrong.take([0, -1], axis).any():
            continue
        trimmed = inner.take(range(1, inner.shape[axis] - 1), axis)
        if trimmed.size:
            inner = trimmed
    if inner is not wrong and inner.size >= wrong.size / 4 and not inner.any():
        return "wrong only at the border: padding, or the range of a loop"
    return None


def of_situation(observations: list[tuple[tuple[str, ...], bool]]) -> str | None:
    """What all failing calls have in common and no passing one has: `with stride`, `where an axis was broadcast`."""
    failed = [set(tags) for tags, ok in observations if not ok]
    passed = [set(tags) for tags, ok in observations if ok]
    if not failed or not passed:
        return None
    common = set.intersection(*failed) - set.union(*passed)
    return f"wrong only {sorted(common)[0]}; the other calls are right" if common else None


def _is_float(value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"
