"""A derivative by differences: slow, inexact, and right whatever the function.  All gradients are checked against it.

`tests/nn/gradcheck.py` does so, by random directions; it is the first exercise, too (`python -m tests.exercises list`).
"""

from collections.abc import Callable

import numpy as np

STEP = 1e-3  # truncation grows as h^4, rounding as 1e-16 / h; they meet near here


def numerical_derivative(f: Callable, x: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """d/dt f(x + t v) at t = 0: how fast f, from an array to an array, changes as x moves along the direction v.

    The central difference D(h) = (f(x + h v) - f(x - h v)) / 2h has an error of a h^2 + O(h^4), which the combination
    (4 D(h) - D(2h)) / 3 cancels (Richardson's extrapolation).

    >>> numerical_derivative(lambda x: x**2, np.array([1.0, 3.0]), np.array([1.0, 0.5])).round(6)
    array([2., 3.])
    """

    def central(h):
        return (f(x + h * direction) - f(x - h * direction)) / (2 * h)

    return (4 * central(STEP) - central(2 * STEP)) / 3
