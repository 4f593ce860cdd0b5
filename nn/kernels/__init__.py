"""Numba loops on plain arrays: the parts of the engine where NumPy alone would be slow.

A kernel takes arrays, writes its result into `out` and allocates nothing.  It is single-threaded and releases the
GIL: parallelism comes from running it on several shards of a batch at once.  Where what it computes takes more than a
line, `nn/kernels/reference/` says it in plain NumPy, and tests hold the two equal.
"""
import numba

from nn.kernels import cache

cache.install()

# error_model="numpy": a division by zero gives inf or NaN.  The default raises, and that check is a branch in every
# loop with a division, which keeps the loop from being vectorised (SiLU over 100,352 values: 250 us against 18 us).
kernel = numba.njit(nogil=True, cache=True, error_model="numpy")
