"""What a judging test is made of: one call of the learner's code, and what should have come out.

    trial = Trial("unbroadcast(grad, (1, 3))", "where an axis was broadcast", grad=grad)
    trial.expect(trial.run(unbroadcast, grad, (1, 3)), grad.sum(0, keepdims=True))

A trial that fails raises `Wrong`, which carries a lesson: a small table that report.py prints.  NumPy alone is used
here, and nothing of the library: what is right is computed by the tests themselves and by tests/oracles.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np

from tests.exercises import causes
from tests.exercises.report import explain

trials: list[Trial] = []  # every trial so far; causes.py looks for what the wrong ones have in common


_HELD = np.ndarray | list | tuple | dict  # inputs that could be changed in place


class Wrong(AssertionError):
    """The answer is wrong; `lesson` says how."""

    def __init__(self, lesson: dict):
        self.lesson = lesson
        super().__init__("\n" + "\n".join(explain(lesson)))


class Trial:
    """One call.

    call      how to show it, as in `Mul.backward(ctx, grad)`
    tags      what is special about it, as a phrase that completes "wrong only ...": `with stride`
    mutable   names of the inputs that the call is meant to change
    inputs    name -> what goes in: to be shown, and checked to be unchanged afterwards
    """

    def __init__(self, call: str, *tags: str, mutable: tuple[str, ...] = (), **inputs):
        self.call, self.tags, self.mutable, self.inputs = call, tags, mutable, inputs
        self.right = True
        trials.append(self)
        self.before = copy.deepcopy({n: v for n, v in inputs.items() if isinstance(v, _HELD)})

    def run(self, function: Callable, *args, **kwargs):
        """Call `function`; an exception of its own, or a changed input, is a wrong answer."""
        try:
            result = function(*args, **kwargs)
        except (NotImplementedError, MemoryError, Wrong):
            raise
        except Exception as error:
            self.right = False
            error.trial = {**self._lesson("raised"), "inputs": self._shown(self.before)}
            raise
        for name, value in self.before.items():
            if name not in self.mutable and not _equal(self.inputs[name], value):
                self._fail("mutated", name=name, causes=[f"the input {name} was changed in place; work on a copy"])
        return result

    def expect(
        self,
        actual,
        expected,
        name: str = "the result",
        *,
        rtol: float = 1e-6,
        atol: float = 1e-9,
        dtype=None,
        instead: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Raise Wrong unless `actual` has the shape of `expected` and its values, to within the tolerances.

        dtype    the type of number it must have; not looked at if None
        instead  cause -> what this mistake would have given, for mistakes that leave no pattern of their own
        """
        if actual is None:
            self._fail("nothing", name=name, shape=str(np.shape(expected)))
        if hasattr(actual, "requires_grad"):
            actual = actual.data  # a Tensor
        try:
            array, expected = np.asarray(actual), np.asarray(expected)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind not in "fiub":
            self._fail("type", name=name, actual=type(actual).__name__, shape=str(np.shape(expected)))
        if array.shape != expected.shape:
            cause = causes.of_shape(array.shape, expected.shape, self.before)
            shapes = {"actual": str(array.shape), "expected": str(expected.shape)}
            self._fail("shape", name=name, **shapes, causes=[cause] if cause else [])
        if dtype is not None and array.dtype != dtype:
            cause = "a Python list, a NumPy float64 scalar or a default dtype came in on the way"
            self._fail("dtype", name=name, actual=str(array.dtype), expected=str(np.dtype(dtype)), causes=[cause])
        right = causes.close(array, expected, rtol, atol)
        if right.all():
            return
        index = tuple(int(i) for i in np.argwhere(~right)[0])
        with np.errstate(all="ignore"):
            guesses = causes.of_values(array, expected, self.before, dict(instead or {}), rtol, atol)
        self._fail(
            "value",
            name=name,
            shape=str(array.shape),
            dtype=str(array.dtype),
            index=str(list(index)) if index else "",
            actual=_number(array[index]),
            expected=_number(expected[index]),
            wrong=int((~right).sum()),
            total=int(right.size),
            causes=guesses,
        )

    def expect_loss_and_metrics(self, got):
        """The loss, of the pair that a family's loss returns; Wrong unless it is one."""
        self.require(isinstance(got, tuple) and len(got) == 2, "a pair is wanted: the loss, and a dict of metrics")
        loss, metrics = got
        good = isinstance(metrics, dict)
        self.require(good, "the second of the pair has to be a dict, name -> number, for the log; it may be empty")
        for name, value in metrics.items():
            good = isinstance(value, int | float | np.number | np.ndarray) and np.ndim(value) == 0
            self.require(good, f"the metric {name!r} is a {type(value).__name__}; a number is wanted: float(...)")
        return loss

    def require(self, condition: bool, message: str, cause: str = "") -> None:
        """Raise Wrong with this message unless the condition holds: for what is not a matter of values."""
        if not condition:
            self._fail("rule", message=message, causes=[cause] if cause else [])

    def _fail(self, kind: str, **details):
        self.right = False
        raise Wrong({"causes": [], **self._lesson(kind), **details})

    def _lesson(self, kind: str) -> dict:
        inputs = self._shown({**self.inputs, **self.before})
        return {"kind": kind, "call": self.call, "inputs": inputs, "tags": self.tags}

    @staticmethod
    def _shown(inputs: dict) -> list[tuple[str, str]]:
        return [(name, describe(value)) for name, value in inputs.items()]


def describe(value) -> str:
    """A value in one line: type and shape of an array, and the numbers where they are few."""
    if isinstance(value, np.ndarray):
        numbers = ""
        if value.size <= 6:
            numbers = " = " + " ".join(np.array2string(value, precision=4, separator=", ").split())
        return f"{value.dtype} {value.shape}{numbers}"
    if isinstance(value, list | tuple) and any(isinstance(v, np.ndarray) for v in value):
        return "[" + "; ".join(describe(v) for v in value) + "]"
    text = repr(value)
    return text if len(text) <= 90 else text[:87] + "..."


def _equal(now, before) -> bool:
    if isinstance(before, np.ndarray):
        return isinstance(now, np.ndarray) and np.array_equal(now, before, equal_nan=before.dtype.kind == "f")
    if isinstance(before, list | tuple):
        return len(now) == len(before) and all(_equal(a, b) for a, b in zip(now, before, strict=True))
    if isinstance(before, dict):
        return now.keys() == before.keys() and all(_equal(now[k], v) for k, v in before.items())
    same = now == before
    return bool(same) if isinstance(same, bool | np.bool_) else True


def _number(value) -> str:
    return f"{float(value):.8g}" if np.asarray(value).dtype.kind == "f" else str(value)


def normal(shape: tuple[int, ...], seed: int, dtype=np.float64) -> np.ndarray:
    """The same normal numbers every time, none of them near 0."""
    values = np.random.default_rng(seed).standard_normal(shape)
    return np.asarray(values + 0.05 * np.sign(values), dtype)


def context(op, needs: tuple[bool, ...]):
    """What the engine hands to `forward` and `backward`: an instance of the op that knows what needs a gradient."""
    ctx = op()
    ctx.saved, ctx.needs = (), needs
    return ctx


def bare(kind: type):
    """An object of this class without its `__init__` having run: the test gives it the parts that it needs."""
    return kind.__new__(kind)


class SameNoise:
    """Stands in for np.random.Generator: "random" numbers that depend on their place within an example alone.

    So a solution may draw in any order, all at once or an example at a time, and still there is one right answer.  An
    example is what the last axis holds or, of three axes and more, the last three: an image.
    """

    def __init__(self):
        self.normals = 0  # how many have been drawn

    def standard_normal(self, size=None, dtype=np.float64):
        values = self._spread(size, dtype, [0.6, -0.7, 0.3, 1.1, -0.2])
        self.normals += np.size(values)
        return values

    def expect_normals(self, trial: Trial, least: int):
        """Wrong unless so many were drawn: one draw for a whole batch would give each image the same noise."""
        message = f"{self.normals} normal numbers were drawn; {least} are needed, so that no two images share theirs"
        trial.require(self.normals >= least, message)

    def random(self, size=None, dtype=np.float64):
        return self._spread(size, dtype, [0.5, 0.2, 0.8])

    def integers(self, low, high=None, size=None, dtype=np.int64, endpoint=False):
        low, high = (0, low) if high is None else (low, high)
        return np.asarray(low + np.floor(np.asarray(self.random(size)) * (high + endpoint - low)), dtype)

    def normal(self, loc=0.0, scale=1.0, size=None):
        size = np.broadcast_shapes(np.shape(loc), np.shape(scale)) if size is None else size
        return loc + scale * self.standard_normal(size)

    def uniform(self, low=0.0, high=1.0, size=None):
        return low + (high - low) * self.random(size)

    @staticmethod
    def _spread(size, dtype, values):
        if size is None or size == ():
            return values[0]
        shape = tuple(np.atleast_1d(size))
        example = shape[-3:] if len(shape) >= 3 else shape[-1:]
        return np.broadcast_to(np.resize(np.asarray(values, dtype), example), shape).copy()
