"""Memory for what a kernel needs only while it runs, kept by each thread and used again.

A fresh large array comes from the operating system page by page, which costs more than the arithmetic on it, and is not
in the cache.  The same few buffers, passed from layer to layer, stay in the cache.
"""
import math
import threading

import numpy as np

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


class _Buffers(threading.local):
    def __init__(self):
        self.bytes: dict[str, np.ndarray] = {}
        self.views: dict[tuple, np.ndarray] = {}


_buffers = _Buffers()


def scratch(role: str, shape: tuple[int, ...], dtype) -> np.ndarray:
    """An uninitialised array, valid until this thread asks for the same role again.

    The ALIGNMENT bytes behind its end may be read and written, too.
    """
    key = (role, shape, dtype)
    view = _buffers.views.get(key)
    if view is None:
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        buffer = _buffers.bytes.get(role)
        if buffer is None or buffer.size < size:
            _buffers.views = {k: v for k, v in _buffers.views.items() if k[0] != role}
            raw = np.empty(size + 2 * ALIGNMENT, np.uint8)
            start = -raw.ctypes.data % ALIGNMENT
            buffer = _buffers.bytes[role] = raw[start : start + size]
        view = _buffers.views[key] = buffer[:size].view(dtype).reshape(shape)
    return view
