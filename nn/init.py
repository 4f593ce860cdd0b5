"""Initial weights: large enough that the signal survives many layers, small enough that it does not explode.

A unit that sums `fan_in` inputs of variance 1 with weights of variance v has variance fan_in * v, which should stay 1.
The last two axes of a shape are (in, out); axes in front are those of a convolution kernel.  All return float32.
"""
import math
from contextlib import AbstractContextManager

import numpy as np

from nn import modes


def at_most(numbers: int) -> AbstractContextManager[None]:
    """Within it, an initialiser that would exceed so many numbers in all raises ValueError, and allocates nothing."""
    outer = modes.state.numbers_left
    return modes.setting("numbers_left", [numbers if outer is None else min(numbers, outer[0])])


def _count(shape: tuple[int, ...]) -> None:
    left = modes.state.numbers_left
    if left is not None:
        left[0] -= math.prod(shape)
        if left[0] < 0:
            raise ValueError(f"the model is too large: a layer of shape {shape} is more than may be made here")


def zeros(shape: tuple[int, ...]) -> np.ndarray:
    """For biases, and for a last layer that should do nothing at first."""
    _count(shape)
    return np.zeros(shape, np.float32)


def ones(shape: tuple[int, ...]) -> np.ndarray:
    """For scales."""
    _count(shape)
    return np.ones(shape, np.float32)


def normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal with variance 1: for embeddings, where each unit "sums" the one row that was looked up."""
    _count(shape)
    return rng.standard_normal(shape, dtype=np.float32)


def he(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal with variance 2 / fan_in; the 2 because a relu halves the variance (He et al. 2015, eq. 10)."""
    fan_in, _ = fans(shape)
    return normal(shape, rng) * np.float32(math.sqrt(2 / fan_in))


def orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A random matrix (fan_in, out) with orthonormal columns, or rows if those are fewer (Saxe et al. 2014).

    It keeps lengths, so it suits layers that have to be invertible.  Uniform over all such matrices: the Q of a
    Gaussian matrix, with the signs that QR leaves open fixed (Mezzadri 2007, section 5).
    """
    _count(shape)
    fan_in, _ = fans(shape)
    rows, columns = max(fan_in, shape[-1]), min(fan_in, shape[-1])
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    q *= np.sign(np.diag(r))
    return (q if fan_in == rows else q.T).reshape(shape).astype(np.float32)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out): how many inputs each unit sums, and how many units each input reaches."""
    if len(shape) < 2:
        raise ValueError(f"an initialiser needs a shape (..., in, out); given {shape}")
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]
