"""Kernels as plain Python: stands in for Numba where nothing is to be compiled, and is imported in no time.

`@njit` leaves a function as it is, and a vector of nn/kernels/simd.py is a short array.  So an error in the learner's
code has a readable traceback, the ops of the library work (but for Winograd's tiles), and a check does not wait two
seconds for Numba itself.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types

import numpy as np

PACKAGES = ("numba", "llvmlite")
BYTES = 64  # of a vector, as in nn/kernels/simd.py


class Vector(np.ndarray):
    """Numbers that are added and multiplied together; `+=` makes a new vector, since kernels hold one by two names."""

    def __iadd__(self, other):
        return self + other

    def __isub__(self, other):
        return self - other

    def __imul__(self, other):
        return self * other

    def __itruediv__(self, other):
        return self / other


def lanes(array) -> int:
    return BYTES // array.dtype.itemsize


def load_some(array, index, count):
    vector = np.zeros(lanes(array), array.dtype).view(Vector)
    found = array.reshape(-1)[index : index + max(0, min(count, len(vector)))]
    vector[: len(found)] = found
    return vector


def store_some(array, index, vector, count):
    place = array.reshape(-1)[index : index + max(0, min(count, len(vector)))]  # what would go beyond the end is lost
    place[:] = vector[: len(place)]


def splat(like, number):
    return np.full(lanes(like), number, like.dtype).view(Vector)


def exp(vector):
    """Clamped, as the compiled one is."""
    limit = vector.dtype.type(87 if vector.dtype.itemsize == 4 else 708)
    return np.exp(np.clip(vector, -limit, limit))


def unless_negative(vector, other):
    return np.where(vector < 0, other, vector).view(Vector)


_PLAIN = {f.__name__: f for f in (lanes, load_some, store_some, splat, exp, unless_negative)}
_PLAIN["prefetch"] = lambda array, index, write: None
_PLAIN["total"] = lambda vector: np.asarray(vector).sum()


def _intrinsic(*function, **options):
    """The plain twin of a function that only a compiler could make."""
    if not function:
        return _intrinsic
    name = function[0].__name__

    def only_compiled(*arguments):
        raise RuntimeError(f"{name}() exists only compiled, and here nothing is")

    return _PLAIN.get(name, only_compiled)


def _njit(*function, **options):
    return function[0] if function and callable(function[0]) else lambda f: f


class Anything:
    """A class to inherit from, a decorator, a constant: whatever the compiler's own parts are asked to be."""

    def __init__(self, *arguments, **options):
        pass

    def __init_subclass__(cls, **options):
        pass

    def __call__(self, *arguments, **options):
        return Anything()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


class _Module(types.ModuleType):
    __path__: list = []  # so that it may have submodules

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything if name[0].isupper() else Anything()


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if _ours(name) else None

    def create_module(self, spec):
        module = _Module(spec.name)
        if spec.name == "numba":
            options = types.SimpleNamespace(DISABLE_JIT=1, CACHE_DIR="")
            module.__dict__.update(njit=_njit, jit=_njit, vectorize=_njit, prange=range, config=options)
            module.__version__ = "none"
        if spec.name == "numba.extending":
            module.intrinsic = _intrinsic
        return module

    def exec_module(self, module):
        pass


def _ours(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


def install() -> None:
    """For all that this process imports from now on."""
    for name in [name for name in sys.modules if _ours(name)]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder())
