"""What depends on a layer's weights alone, kept until they change: one step uses the same weights for every shard.

A result is kept beside a copy of the weights that it was made from, and used again only if the weights still equal the
copy, bit for bit.  So nobody has to say when weights change, and whoever writes into them is noticed.  Comparing reads
both once, and stops at the first block that differs, as after a step nearly every one does.
"""
import threading
from collections.abc import Callable

import numpy as np

from nn.kernels import kernel

BLOCK = 1024


@kernel
def equal(a, b):
    """Whether two arrays (size,) of integers are the same."""
    for start in range(0, a.size, BLOCK):
        differing = a.dtype.type(0)
        for i in range(start, min(start + BLOCK, a.size)):  # without a branch, so that it becomes vectors
            differing |= a[i] ^ b[i]
        if differing:
            return False
    return True


class Memo:
    """Results by the place and shape of the weights, at most `limit` bytes: the oldest go.  Threads may share it."""

    def __init__(self, limit: int):
        self.limit = limit
        self.entries: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}
        self.lock = threading.Lock()

    def get(self, weight: np.ndarray, tag, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """compute(weight), or what it gave before (not to be written to); `tag` tells results of one weight apart."""
        key = (weight.__array_interface__["data"][0], weight.shape, weight.dtype, tag)
        bits = weight.reshape(-1).view(f"u{weight.itemsize}")
        entry = self.entries.get(key)
        if entry is None or not equal(entry[0], bits):
            entry = (bits.copy(), compute(weight))
            with self.lock:
                self.entries.pop(key, None)  # a new entry goes to the end
                self.entries[key] = entry
                while self.size() > self.limit and len(self.entries) > 1:
                    del self.entries[next(iter(self.entries))]
        return entry[1]

    def size(self) -> int:
        """In bytes."""
        return sum(bits.nbytes + result.nbytes for bits, result in self.entries.values())
