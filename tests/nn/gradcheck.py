"""Does an op's `backward` compute the gradient of its `forward`?

For y = f(x), a random direction v and a random cotangent u, both of these are the number u^T J v:

    <u, f(x + h v) - f(x - h v)> / 2h   (numerically, only with forward)
    <backward(u), v>                    (with backward)

A backward that is wrong anywhere gives another number for almost every u and v.  A cotangent of ones would not do: for
softmax, J^T 1 = 0, and a backward that returns nothing but zeros would pass.  Only if the numbers differ is the whole
Jacobian computed, to say where.

Works in float64 with a fourth-order difference, whose error is near 1e-12, far below the tolerance of 1e-6.  Inputs
should be away from kinks and ties by more than 2h times the direction, which has entries of size about 1.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nn.differences import STEP, numerical_derivative
from nn.tensor import Function, Tensor, no_grad


class GradientError(AssertionError):
    """A gradient is wrong; the message says which entry, or which rule of ops was broken."""


def gradcheck(function: Callable, inputs: Sequence, rng: np.random.Generator, tolerance: float = 1e-6) -> float:
    """Compare the gradient of function(*inputs) with numerical differentiation; the largest relative error found.

    function  takes tensors, returns a tensor or a tuple of tensors; the same every time (no fresh random numbers)
    inputs    arrays of any shape; those of float64 are checked, integers and other things passed as they are.  A
              float64 Parameter (of a layer that `function` calls) is checked too, in its place
    Raises GradientError if the relative error, |difference| / the larger of the two, exceeds `tolerance`, or if
    `function` changes an input or the gradient it is given.
    Raises TypeError for a float32 input.
    """
    probe = _Probe(function, inputs)
    values = [leaf.data for leaf in probe.leaves]
    before = [value.copy() for value in values]
    y = probe.run()
    if not np.array_equal(y, probe.run(), equal_nan=True):
        raise GradientError("the function gave two results for the same inputs; make its random numbers the same")
    u = rng.standard_normal(y.size)
    cotangents = probe.cut(u.copy())
    gradients = probe.pull_back(cotangents)
    _check_untouched("input", values, before)
    _check_untouched("incoming gradient", cotangents, probe.cut(u))

    worst = 0.0
    noise = 4 * np.finfo(np.float64).eps / STEP * (np.abs(u) @ np.abs(y))  # what rounding y adds to a derivative
    smallest = noise / tolerance + 1e-300  # below it, as far as we can tell, is 0
    for i, value in enumerate(values):
        v = rng.standard_normal(value.shape)
        analytic = float(np.vdot(gradients[i], v))
        numeric = float(u @ probe.push_forward(i, v))
        error = abs(analytic - numeric) / max(abs(analytic), abs(numeric), smallest)
        if not error <= tolerance:  # so that a NaN fails
            raise GradientError(_describe(probe, i, tolerance, analytic, numeric))
        worst = max(worst, error)
    return worst


class _Pairing(Function):
    """s = sum_k <u_k, y_k>;  dy_k = u_k.  Makes of all outputs one number to call backward on."""

    def forward(ctx, *outputs, cotangents):
        ctx.cotangents = cotangents
        return np.zeros(())  # nobody looks at the number itself

    def backward(ctx, grad):
        return tuple(ctx.cotangents)  # grad is 1


class _Probe:
    """The function under test as a map from its float64 inputs, the leaves, to one vector of all its outputs."""

    def __init__(self, function: Callable, inputs: Sequence):
        self.function, self.arguments, self.places = function, list(inputs), []
        for place, x in enumerate(inputs):
            if isinstance(x, Tensor) and not x.requires_grad or not isinstance(x, Tensor | np.ndarray):
                continue
            if x.dtype.kind == "f" and x.dtype != np.float64:
                raise TypeError(f"gradcheck needs float64; input {place} is {x.dtype}. Convert it with .astype()")
            if x.dtype == np.float64:
                self.places.append(place)
                self.arguments[place] = x if isinstance(x, Tensor) else Tensor(x, requires_grad=True)
        if not self.places:
            raise TypeError("gradcheck was given no float64 array to check")
        self.leaves = [self.arguments[place] for place in self.places]

    def outputs(self) -> tuple[Tensor, ...]:
        outputs = self.function(*self.arguments)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def run(self, i: int = 0, value: np.ndarray | None = None) -> np.ndarray:
        """The outputs one after another, (Y,); with leaf i at this value, if one is given."""
        leaf = self.leaves[i]
        kept, leaf.data = leaf.data, leaf.data if value is None else np.asarray(value)
        try:
            with no_grad():
                outputs = [y.data for y in self.outputs()]
        finally:
            leaf.data = kept
        self.shapes = [y.shape for y in outputs]
        return np.concatenate([y.ravel() for y in outputs])

    def cut(self, vector: np.ndarray) -> list[np.ndarray]:
        """A vector (Y,) as arrays in the shapes of the outputs: views."""
        pieces = np.split(vector, np.cumsum([math.prod(shape) for shape in self.shapes])[:-1])
        return [piece.reshape(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def pull_back(self, cotangents: list[np.ndarray]) -> list[np.ndarray]:
        """J^T u, by backward: the gradient of sum_k <cotangent k, output k> with respect to each leaf."""
        total = _Pairing.apply(*self.outputs(), cotangents=cotangents)
        for leaf in self.leaves:
            leaf.grad = np.zeros_like(leaf.data)
        if total.requires_grad:
            total.backward()
        gradients = [leaf.grad for leaf in self.leaves]
        for leaf in self.leaves:
            leaf.grad = None
        return gradients

    def push_forward(self, i: int, direction: np.ndarray) -> np.ndarray:
        """J_i v, by differences, (Y,): how fast each output changes as leaf i moves along `direction`."""
        return numerical_derivative(lambda value: self.run(i, value), self.leaves[i].data, direction)


def _describe(probe: _Probe, i: int, tolerance: float, analytic: float, numeric: float) -> str:
    """Where the gradient of leaf i is wrong: by both whole Jacobians, (outputs, inputs)."""

    def units(count):  # the unit vectors, one at a time: all at once may not fit into memory
        return ((np.arange(count) == place).astype(float) for place in range(count))

    x, count = probe.leaves[i].data, len(probe.run())
    true = np.stack([probe.push_forward(i, v.reshape(x.shape)) for v in units(x.size)], axis=1)  # (Y, x.size)
    ours = np.stack([probe.pull_back(probe.cut(u))[i].ravel() for u in units(count)])
    bound = tolerance * np.maximum(np.abs(ours), np.abs(true)) + 1e-9 * (1 + np.abs(true).max(initial=0))
    wrong = np.argwhere(~(np.abs(ours - true) <= bound))
    if not len(wrong):
        return (
            f"the gradient with respect to input {probe.places[i]} is right for gradients that arrive at one output "
            f"entry alone, and wrong for a random one ({analytic:.9g} by backward, {numeric:.9g} by numerical "
            "differentiation): backward is not linear in the gradient that it is given"
        )
    row, column = wrong[0]
    a, b = ours[row, column], true[row, column]
    marked = probe.cut(np.arange(count) == row)
    k = next(k for k, mark in enumerate(marked) if mark.any())
    ratio = f"ratio {a / b:.6g}" if b else "no ratio"
    return (
        f"the gradient of output {k} at {_index(marked[k].shape, np.argmax(marked[k]))} with respect to input "
        f"{probe.places[i]} at {_index(x.shape, column)} is wrong: backward says {a:.9g}, numerical differentiation "
        f"{b:.9g} ({ratio}); {len(wrong)} of {ours.size} entries of the Jacobian are wrong"
    )


def _check_untouched(name: str, arrays: list[np.ndarray], copies: list[np.ndarray]) -> None:
    for i, (array, copy) in enumerate(zip(arrays, copies, strict=True)):
        if not np.array_equal(array, copy, equal_nan=True):
            first = _index(array.shape, np.argmax(array != copy))
            raise GradientError(f"{name} {i} was changed in place, first at {first}")


def _index(shape: tuple[int, ...], position: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(position, shape))
