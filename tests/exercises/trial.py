"""What a judging test is made of: one call of the learner's code, and what should have come out.

    trial = Trial("unbroadcast(grad, (1, 3))", "where an axis was broadcast", grad=grad)
    trial.expect(trial.run(unbroadcast, grad, (1, 3)), grad.sum(0, keepdims=True))

A trial that fails raises `Wrong`, which carries a lesson: a small table that report.py prints.  NumPy alone is used
here, and nothing of the library: what is right is computed by the tests themselves and by tests/oracles.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping

import numpy as np

from tests.exercises import causes, rehearsal
from tests.exercises.report import explain

trials: list[Trial] = []  # every trial so far; causes.py looks for what the wrong ones have in common


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
    keeps     whether float arrays that come out are to have the dtype of those that go in
    inputs    name -> what goes in: to be shown, and checked to be unchanged afterwards
    """

    def __init__(self, call: str, *tags: str, mutable: tuple[str, ...] = (), keeps: bool = True, **inputs):
        self.call, self.tags, self.mutable, self.inputs, self.keeps = call, tags, mutable, inputs, keeps
        self.right, self.called = True, False
        self.dtype = None  # of the float arrays that went into the call, if they agree
        self.pending: Exception | None = None  # what went wrong in float32: told once the values are right
        trials.append(self)
        self.before = copy.deepcopy(
            {n: v for n, v in inputs.items() if isinstance(v, np.ndarray | list | tuple | dict)}
        )

    def run(self, function: Callable, *args, **kwargs):
        """Call `function`; an exception of its own, a changed input or a changed array of state is a wrong answer.

        Before that it is called with other values of the same shapes, and in float32: nothing may be left of these.
        """
        rehearsed = [] if self.called else rehearsal.rehearse(self, function, args, kwargs)
        self.called = True
        given = {**dict(zip(rehearsal.names(function), args, strict=False)), **self.inputs}
        fixed = {name: value for name, value in given.items() if name not in ("out", *self.mutable)}
        held = {name: rehearsal.arrays_in(value, saved=True) for name, value in fixed.items()}
        kept = {name: [array.copy() for array in arrays] for name, arrays in held.items()}
        state = rehearsal.state_of(function)
        result = self.call_it(function, args, kwargs)
        for name, arrays in held.items():
            changed = isinstance(self.before.get(name), dict) and self.before[name] != self.inputs[name]
            if changed or not all(_equal(now, was) for now, was in zip(arrays, kept[name], strict=True)):
                name = "ctx.saved" if name == "ctx" else name
                self._fail("mutated", name=name, causes=[f"the input {name} was changed in place; work on a copy"])
        for name, array in state.items():
            same = getattr(function.__self__, name, None) is array
            self.require(same, f"self.{name} is another array now", "it is shared: write into it, by += or [...] =")
        for leaf, was in rehearsed:
            cause = "one array serves all calls, or an answer is remembered: make a new one at each call"
            self.require(_equal(leaf, was), "what an earlier call had returned was changed by this one", cause)
            shared = any(np.shares_memory(leaf, array) for array in rehearsal.arrays_in(result))
            self.require(not shared, "it returns the array that it had returned for other values", cause)
        floats = {a.dtype for name, arrays in held.items() if name not in rehearsal.FLOAT64 for a in arrays if _real(a)}
        self.dtype = floats.pop() if len(floats) == 1 and self.keeps else None
        if any(hasattr(argument, "requires_grad") for argument in args):
            array = any(isinstance(leaf, np.ndarray) and leaf.ndim for leaf in rehearsal.leaves_of(result))
            self.require(not array, "an array came back, where a Tensor is wanted", "work with tensors, not with .data")
        return result

    def call_it(self, function: Callable, args, kwargs, tag: str = ""):
        """The result; an exception takes along what it needs for its lesson."""
        try:
            return function(*args, **kwargs)
        except (MemoryError, Wrong):
            raise
        except Exception as error:
            self.right = False
            tagged = f"{self.call}, {tag}" if tag else self.call
            with contextlib.suppress(Exception):
                error.trial = {**self._lesson("raised"), "call": tagged, "inputs": self._shown(self.before)}
            raise

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

        dtype    the type of number it must have; if None, an array of floats has that of the inputs
        instead  cause -> what this mistake would have given, for mistakes that leave no pattern of their own
        """
        if actual is None:
            self._fail("nothing", name=name, shape=str(np.shape(expected)))
        number = actual.data if type(actual).__module__ == "nn.tensor" else actual
        if not isinstance(number, np.ndarray | np.generic | int | float) or np.asarray(number).dtype.kind not in "fiub":
            cause = ["make an array of it: np.array, np.stack"] if isinstance(actual, list | tuple) else []
            self._fail("type", name=name, actual=type(actual).__name__, shape=str(np.shape(expected)), causes=cause)
        array, expected = np.asarray(number), np.asarray(expected)
        instead = {cause: np.asarray(value) for cause, value in (instead or {}).items()}
        if array.shape != expected.shape:
            same = [
                c for c, v in instead.items() if v.shape == array.shape and causes.close(array, v, rtol, atol).all()
            ]
            cause = (same or [causes.of_shape(array.shape, expected.shape, self.before)])[0]
            shapes = {"actual": str(array.shape), "expected": str(expected.shape)}
            self._fail("shape", name=name, **shapes, causes=[cause] if cause else [])
        self.check_dtype(array, expected, name, dtype)
        right = causes.close(array, expected, rtol, atol)
        if right.all():
            if self.pending:
                self.right = False
                raise self.pending
            return
        index = tuple(int(i) for i in np.argwhere(~right)[0])
        with np.errstate(all="ignore"):
            guesses = causes.of_values(array, expected, self.before, instead, rtol, atol)
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

    def check_dtype(self, array, expected, name, dtype=None):
        if dtype is None and array.ndim and expected.dtype.kind == "f":
            dtype = self.dtype or (np.float64 if array.dtype.kind in "iub" else None)
        if dtype is not None and array.dtype != dtype:
            cause = "float64 came in: np.sqrt(a number), np.zeros(shape), an array of it; math.sqrt, zeros_like"
            if array.dtype != np.float64:
                cause = "a dtype is written out on the way, or a default one came in"
            self._fail("dtype", name=name, actual=str(array.dtype), expected=str(np.dtype(dtype)), causes=[cause])
        if expected.dtype.kind in "iu" and array.dtype.kind == "f":
            cause = "a division by / or a float came in: // or int()"
            self._fail("dtype", name=name, actual=str(array.dtype), expected="whole numbers", causes=[cause])

    def expect_saved(self, ctx, names: str) -> tuple:
        """What a forward has left for backward; Wrong unless it is one array for each of these names."""
        wanted, right = f"ctx.save({names})", len(ctx.saved) == len(names.split(","))
        told = f"ctx.saved holds {len(ctx.saved)} things; backward reads {names}"
        self.require(right and isinstance(ctx.saved, tuple), told, f"at the end of forward: {wanted}")
        return ctx.saved

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


def _equal(now: np.ndarray, before: np.ndarray) -> bool:
    return np.array_equal(now, before, equal_nan=_real(before))


def _real(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


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
