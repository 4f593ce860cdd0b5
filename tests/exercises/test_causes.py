"""The guesses at a cause: each kind of mistake leaves its pattern; where there is none, no advice is given."""

import sys

import numpy as np
import pytest

from tests.exercises import causes
from tests.exercises.catalogue import Course, read_toml
from tests.exercises.judge import REPOSITORY
from tests.exercises.trial import Trial, Wrong, normal

X = normal((3, 4), 0)
SQUARE = normal((3, 3), 1)
BOARD = normal((1, 5, 5, 2), 2)


def border(x, change):
    wrong = x + change
    wrong[:, 1:-1, 1:-1] = x[:, 1:-1, 1:-1]
    return wrong


@pytest.mark.parametrize(
    "expected, actual, cause",
    [
        (X, -X, "the sign is flipped"),
        (X, 2 * X, "2 times"),
        (X, X / 4, "1/4 of (4 is the length of axis 1 of x)"),
        (SQUARE, 3 * SQUARE, "everything is 3 times what it should be"),
        (X, X * (1 + 1e-4 * np.sign(X - 0.5)), "nearly right"),
        (X, -X / 12, "the sign is flipped, and everything is 1/12"),
        (X, X + 0.5, "off by the same +0.5"),
        (X, np.zeros_like(X), "all zeros"),
        (X, np.full_like(X, 0.3), "the same value everywhere"),
        (SQUARE, SQUARE.T, "transposed"),
        (SQUARE, SQUARE[::-1], "axis 0 runs backwards"),
        (X, np.where(np.arange(3)[:, None] == 0, X, X[:1] + X), "right for the first example only"),
        (X, np.roll(X, 1, 1), "one place too far along axis 1"),
        (X, np.abs(X), "some signs are not"),
        (X, np.where(np.arange(4) == 3, X + 1, X), "only at the last index along axis 1"),
        (BOARD, border(BOARD, 1.0), "only at the border"),
        (X, np.where(X > 0, X, np.nan), "NaN"),
        (X + 1, np.where(X > 0, X + 1, 0.1 * X), "wrong exactly where x is negative"),
    ],
)
def test_the_pattern_is_recognised(expected, actual, cause):
    x = BOARD if expected is BOARD else X if expected.shape == X.shape else SQUARE + 5
    told = causes.of_values(actual, expected, {"x": x}, {}, 1e-6, 1e-9)
    assert told and cause in told[0]


@pytest.mark.parametrize(
    "actual, expected",
    [
        (normal((3, 4), 8), X),
        (X * 1.005, X),
        (np.where(np.eye(3, 4) > 0, X, X + 1), X),
        (np.float64(3), np.float64(2.9)),
    ],
    ids=["any", "nearly_1", "scattered", "one_number"],
)
def test_no_pattern_no_advice(actual, expected):
    assert causes.of_values(actual, expected, {}, {}, 1e-6, 1e-9) == []


def test_what_a_known_mistake_would_give_comes_first():
    assert causes.of_values(2 * X, X, {"x": X}, {"doubled": 2 * X}, 1e-6, 1e-9) == ["doubled"]


@pytest.mark.parametrize(
    "actual, expected, cause",
    [
        ((4, 3), (3, 4), "transposed"),
        ((3,), (3, 1), "keepdims"),
        ((2, 3), (3,), "the first 1 axes"),
        ((2, 3), (2, 1), "summed away"),
        ((5, 4), (5, 5), "off by one"),
        ((2, 3, 3, 2), (2, 2, 3, 2), None),
        ((12,), (3, 4), "cut into axes differently"),
    ],
)
def test_shapes(actual, expected, cause):
    told = causes.of_shape(actual, expected, {})
    assert told is None if cause is None else cause in told


def test_what_failing_calls_have_in_common():
    stride, padding = ("with stride",), ("with padding",)
    both = stride + padding
    assert "with stride" in causes.of_situation([((), True), (stride, False), (padding, True), (both, False)])
    assert causes.of_situation([(stride, False), (stride, True)]) is None
    assert causes.of_situation([(stride, False)]) is None


def test_trials_compare_what_came_out():
    trial = Trial("f(x)", x=X)
    trial.expect(X.copy(), X)
    trial.expect(np.float64(2), 2.0)
    with pytest.raises(Wrong, match="keepdims"):
        trial.expect(X.sum(1), X.sum(1, keepdims=True))
    with pytest.raises(Wrong, match="float32"):
        trial.expect(X, X, dtype=np.float32)
    with pytest.raises(Wrong, match="NaN"):
        trial.expect(X * np.nan, X)
    values = X.copy()
    with pytest.raises(Wrong, match="the input x was changed in place"):
        Trial("f(x)", x=values).run(values.sort)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_small_reader_reads_what_toml_means():
    import tomllib

    text = (REPOSITORY / "tests/exercises/exercises.toml").read_text(encoding="utf-8")
    trimmed = [
        {k: [h.strip("\n") for h in v] if k == "hints" else v for k, v in e.items()}
        for e in read_toml(text)["exercise"]
    ]
    assert trimmed == [
        {k: [h.strip("\n") for h in v] if k == "hints" else v for k, v in e.items()}
        for e in tomllib.loads(text)["exercise"]
    ]


def test_the_list_of_exercises_is_whole():
    course = Course.at(REPOSITORY)
    assert len(course.exercises) >= 45 and len({e.chapter for e in course.exercises}) == 10
    for exercise in course.exercises:
        assert f'exercise(id="{exercise.id}")' in (REPOSITORY / exercise.tests).read_text(encoding="utf-8")
