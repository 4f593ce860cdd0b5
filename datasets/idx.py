"""IDX, the file format of MNIST (LeCun, Cortes and Burges 1998), plain or gzipped.

Two zero bytes, a type byte (8: unsigned bytes), the number of dimensions, each dimension as a big-endian 32-bit
integer, then the data. What the header claims is checked against the expectation before anything is allocated.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from datasets.errors import DataError

LIMIT = 256 * 2**20  # bytes of data; MNIST has 47 million
CHUNK = 2**18


def read(path: str | Path, dimensions: int) -> np.ndarray:
    """The array of an IDX file of unsigned bytes, with that many dimensions; DataError if it is anything else."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            return _read(file, path, dimensions)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); fetch it again") from error


def _read(file, path, dimensions):
    head = file.read(4 + 4 * dimensions)
    if head[:3] != b"\0\0\x08"[: len(head)]:
        raise DataError(f"{path} is not an IDX file of bytes: it starts with {head[:4].hex(' ')!r}, not '00 00 08'")
    if len(head) > 3 and head[3] != dimensions:
        raise DataError(f"{path} has {head[3]} dimensions; expected {dimensions}")
    if len(head) < 4 + 4 * dimensions:
        raise DataError(f"{path} ends within its header, after {len(head)} bytes; fetch it again")
    shape = tuple(int.from_bytes(head[at : at + 4], "big") for at in range(4, len(head), 4))
    size = math.prod(shape)
    told = "x".join(map(str, shape))
    if size == 0 or size > LIMIT:
        raise DataError(f"{path} claims to hold {told} bytes; expected between 1 and {LIMIT:,}")
    data = bytearray()  # grown as the file delivers: reading `size` bytes at once would reserve what the header claims
    while len(data) <= size and (chunk := file.read(min(CHUNK, size + 1 - len(data)))):
        data += chunk
    if len(data) != size:
        problem = f"only {len(data):,}" if len(data) < size else "more"
        raise DataError(f"{path} should hold {told} = {size:,} bytes of data but holds {problem}; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)
