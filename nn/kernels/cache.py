"""Numba's cache of compiled kernels, made to survive what happens to files.

A power cut, a full disk or a fault of the disk leaves files cut short or garbled, and Numba would run what it reads. So
each file here ends in the SHA-256 of the rest, which Numba's own reader does not mind; one that does not is taken for
missing, and compiled and written anew. What cannot be written is not kept.
"""
import contextlib
import hashlib
import io
import os

import numpy as np
from numba.core import caching, types
from numba.core.runtime import rtsys
from numba.core.typing.typeof import typeof_impl
from numba.np.numpy_support import from_dtype, map_layout


class _CheckedFile(caching.IndexDataCacheFile):
    """The index and the data of one kernel."""

    def _load_index(self):
        return super()._load_index() if _is_whole(self._index_path) else {}

    def _load_data(self, name):
        if not _is_whole(self._data_path(name)):
            raise FileNotFoundError(name)  # as Numba expects of one that was removed
        return super()._load_data(name)

    @contextlib.contextmanager
    def _open_for_write(self, path):
        content = io.BytesIO()
        yield content
        with super()._open_for_write(path) as file:
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())


class _Nowhere(caching.UserProvidedCacheLocator):
    """Where Numba's folder cannot be used: a place where no file can be made, rather than beside the sources."""

    @classmethod
    def from_function(cls, function, file):
        return cls(function, file)

    def get_cache_path(self):
        return os.path.join(os.devnull, "nowhere")


def _is_whole(path) -> bool:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return False
    return hashlib.sha256(content[:-32]).digest() == content[-32:]


def _load(cache, signature, target):
    """As Numba's own `load_overload`, but that what it needs to compile is imported only if it has to: that takes as
    long as all else that loads a kernel."""
    rtsys.initialize(target)  # what loaded code needs: memory
    kept = None
    with cache._guard_against_spurious_io_errors():
        kept = cache._load_overload(signature, target)
    if kept is None:
        target.refresh()
    return kept


_numbas_type_of = typeof_impl.dispatch(np.ndarray)


def _type_of(array, context):
    """As Numba's own, which imports `numpy.ma`, 40 ms, to see whether the array is a masked one."""
    if type(array) is not np.ndarray or array.dtype.kind not in "iufb":
        return _numbas_type_of(array, context)
    return types.Array(from_dtype(array.dtype), array.ndim, map_layout(array), readonly=not array.flags.writeable)


def install() -> None:
    """For all that is compiled from now on in this process."""
    caching.IndexDataCacheFile = _CheckedFile
    caching.CacheImpl._locator_classes = [caching.UserProvidedCacheLocator, _Nowhere]
    # Numba's own guard, around all that it reads and writes, lets most errors of the system through.
    caching.Cache._guard_against_spurious_io_errors = lambda cache: contextlib.suppress(OSError)
    caching.Cache.load_overload = _load
    typeof_impl.register(np.ndarray)(_type_of)
