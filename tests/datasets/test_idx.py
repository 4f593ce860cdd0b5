"""IDX files: read exactly, or refused in one sentence without a large allocation."""

import gzip
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets import idx
from datasets.errors import DataError
from tests.datasets.files import idx_bytes


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "file-idx3-ubyte"


ARRAY = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
GOOD = idx_bytes(ARRAY)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_read_back(path, pack):
    path.write_bytes(pack(GOOD))
    assert np.array_equal(idx.read(path, 3), ARRAY)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ends within its header, after 0 bytes"),
        (GOOD[:3], "ends within its header, after 3 bytes"),
        (b"\x89PNG\r\n\x1a\n", "not an IDX file.*89 50 4e 47"),
        (GOOD[:3] + b"\1" + GOOD[4:], "1 dimensions; expected 3"),
        (b"\0\0\x0d" + GOOD[3:], "starts with '00 00 0d 03', not '00 00 08'"),
        (b"\0\1", "starts with '00 01', not '00 00 08'"),
        (GOOD[:9], "ends within its header"),
        (GOOD[:-1], "holds only 59"),
        (GOOD + b"\0", "holds more"),
        (idx_bytes(np.empty((0, 28, 28))), "0x28x28"),
        (GOOD[:4] + b"\xff" * 12, "4294967295x4294967295x4294967295"),
        (gzip.compress(GOOD)[:-12], "damaged gzip"),
        (gzip.compress(GOOD)[:20], "damaged gzip"),
        (gzip.compress(GOOD)[:-8] + bytes(8), "damaged gzip"),
    ],
)
def test_what_is_no_idx_file_is_one_sentence(path, data, words):
    path.write_bytes(data)
    with pytest.raises(DataError, match=words) as error:
        idx.read(path, 3)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@given(st.data())
def test_fuzzed_files_are_read_or_refused(path, data):
    """Any damage to a good file, plain or zipped: a right array or a DataError, never anything else."""
    good = bytearray(data.draw(st.sampled_from([GOOD, gzip.compress(GOOD), gzip.compress(GOOD, 0)])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 1))
        kind = data.draw(st.sampled_from(["change", "cut", "insert", "repeat"]))
        if kind == "change":
            good[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del good[at : at + data.draw(st.integers(1, 20))]
        elif kind == "insert":
            good[at:at] = data.draw(st.binary(max_size=8))
        else:
            good += good[at:]
        if not good:
            break
    path.write_bytes(good)
    try:
        array = idx.read(path, 3)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert array.ndim == 3 and array.dtype == np.uint8


@pytest.mark.parametrize("claim", [(60_000, 28, 28), (24_576, 4095, 4095), (2**32 - 1,) * 3])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_memory_follows_the_file_not_its_header(path, claim, pack):
    """A header that claims 47 MB, 400 GB or 2^96 bytes, in a file of a hundred."""
    head = b"".join(extent.to_bytes(4, "big") for extent in claim)
    path.write_bytes(pack(GOOD[:4] + head + bytes(100)))
    assert peak(path) < 1 << 20


def test_a_gzip_bomb_is_not_unpacked(path):
    """100 MB of zeros in 100 kB, under a header that asks for 60 bytes of them."""
    zipper = zlib.compressobj(9, zlib.DEFLATED, 31)
    path.write_bytes(zipper.compress(GOOD + bytes(100 << 20)) + zipper.flush())
    assert peak(path) < 2 << 20


def peak(path):
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            idx.read(path, 3)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
