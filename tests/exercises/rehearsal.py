"""Calls before the call: the same function with other values of the same shapes, and once more in float32.

Whatever the exercise, they show an answer that is remembered by shape, one array that is returned again and again, and
float64 that comes out of float32, on which the next op of the library would fail.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import numpy as np

FLOAT64 = ("alpha_bar", "share")  # arguments that the library keeps in float64, whatever the images are in


def rehearse(trial, function: Callable, args: tuple, kwargs: dict) -> list[tuple[np.ndarray, np.ndarray]]:
    """The arrays that came out of a call with other values, each with a copy; leaves what fails in float32 pending."""
    held = arrays_in(args, saved=True)
    owner = getattr(function, "__self__", None)
    if not any(array.size for array in held) or hasattr(function, "py_func") or hasattr(owner, "node"):
        return []
    known = names(function)

    def call(dtype):
        others = [other(arg, dtype, name) for name, arg in zip(known, args, strict=False)]
        others += [other(arg, dtype) for arg in args[len(others) :]]
        bound = function if owner is None else getattr(copy.deepcopy(owner), function.__name__)
        return bound, others

    try:
        bound, others = call(None)
        found = arrays_in(bound(*others, **kwargs))
    except Exception:
        return []  # what it raises, the call itself will raise
    if owner is None and any(array.dtype == np.float64 for array in held):
        bound, others = call(np.float32)
        tag = "where the inputs are float32"
        try:
            for array in arrays_in(trial.call_it(bound, others, kwargs, tag)):
                if trial.keeps and array.ndim and array.dtype.kind == "f":
                    trial.check_dtype(array, array, f"the result {tag}", np.float32)
        except Exception as error:
            trial.pending = error
        trial.right = True
    return [(array, array.copy()) for array in found]


def other(value, dtype=None, name: str = ""):
    """A copy with other values in it; float arrays in this dtype."""
    if isinstance(value, np.ndarray):
        if name in FLOAT64 or value.dtype.kind == "b":
            return value.copy()
        if value.dtype.kind != "f":
            return value[::-1].copy() if value.ndim else value.copy()
        return (value * 0.875 + 0.0625).astype(dtype or value.dtype)
    if type(value) in (list, tuple):
        return type(value)(other(v, dtype) for v in value)
    if type(value) is dict:
        return {k: other(v, dtype) for k, v in value.items()}
    if hasattr(value, "requires_grad") or hasattr(value, "needs"):  # a Tensor, or the ctx of an op
        twin = copy.copy(value)
        for attribute in ("data", "saved"):
            if hasattr(twin, attribute):
                setattr(twin, attribute, other(getattr(twin, attribute), dtype))
        if hasattr(twin, "needs"):
            twin.__dict__.update({k: other(v, dtype) for k, v in vars(value).items() if isinstance(v, np.ndarray)})
        return twin
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def leaves_of(value) -> list:
    """What a result is made of: the members of lists, tuples and dicts, however deep."""
    if isinstance(value, list | tuple):
        return [leaf for v in value for leaf in leaves_of(v)]
    if isinstance(value, dict):
        return leaves_of(list(value.values()))
    return [value]


def arrays_in(value, saved: bool = False) -> list[np.ndarray]:
    """The arrays in there: themselves, those of tensors and, if asked for, those that an op has saved."""
    found = []
    for leaf in leaves_of(value):
        if saved and hasattr(leaf, "needs") and hasattr(leaf, "saved"):
            found += arrays_in(leaf.saved)
        array = leaf.data if hasattr(leaf, "requires_grad") else leaf
        if isinstance(array, np.ndarray):
            found.append(array)
    return found


def state_of(function: Callable) -> dict[str, np.ndarray]:
    """The arrays of an optimiser that others hold too, layers, samplers and views of a part: name -> array."""
    owner = getattr(function, "__self__", None)
    if not hasattr(owner, "state"):
        return {}
    return {name: value for name, value in vars(owner).items() if name in ("values", "average", "count")}


def names(function: Callable) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []
