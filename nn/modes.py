"""Settings that each thread has for itself, so that two can differentiate the same parameters without a lock."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np


class _ThreadState(threading.local):
    recording = True  # False inside no_grad()
    sink: dict[int, np.ndarray] | None = None  # where leaf gradients go inside gradients_into()
    check_finite = False  # True inside finite_checks()
    numbers_left: list[int] | None = None  # what initialisers may still make inside init.at_most()


state = _ThreadState()


@contextmanager
def setting(name: str, value) -> Iterator[None]:
    """Inside this block the thread's setting of this name is `value`."""
    previous = getattr(state, name)
    setattr(state, name, value)
    try:
        yield
    finally:
        setattr(state, name, previous)


def no_grad() -> AbstractContextManager[None]:
    """Record no graph inside this block (in this thread only): for sampling and evaluation.

    >>> from nn import Tensor
    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    return setting("recording", False)


def gradients_into(sink: dict[int, np.ndarray]) -> AbstractContextManager[None]:
    """Send the gradients of leaves into `sink`, a mapping `id(leaf) -> array`, instead of `leaf.grad`.

    The arrays are added to.  A leaf that is not in the mapping counts as a constant, so nothing is computed for it.
    """
    return setting("sink", sink)


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity appeared; the message names the op in which it did so first."""


def finite_checks() -> AbstractContextManager[None]:
    """Raise NonFiniteError at the first NaN or infinity that an op returns.  Slow: to replay a step that went wrong."""
    return setting("check_finite", True)


def check_finite(arrays, where: str) -> None:
    """Raise NonFiniteError, naming `where`, if an array holds a NaN or an infinity; None counts as nothing."""
    for array in arrays:
        if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = "a NaN" if np.isnan(array).any() else "an infinity"
            raise NonFiniteError(f"{bad} first appeared in {where}, in an array of shape {array.shape}")
