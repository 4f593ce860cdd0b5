"""Checkpoints: what is saved comes back, a failed save leaves the old one, and no file can hurt its reader."""
import contextlib
import errno
import io
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn import checkpoint
from nn.checkpoint import CheckpointError, load, lock, save

ROOT = Path(checkpoint.__file__).parent.parent
ARRAYS = {
    "weights/conv.w": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "optimiser/m": np.linspace(-1, 1, 7),
    "step": np.array(12),
    "nothing": np.zeros((0, 3), np.float32),
    "mask": np.array([True, False]),
}
META = {"family": "vae", "config": {"channels": 1, "words": ["seven", "größe"]}, "loss": 0.1}


def saved(tmp_path, arrays=ARRAYS, meta=META):
    path = tmp_path / "checkpoint.npz"
    save(path, arrays, meta)
    return path


def test_what_is_saved_comes_back(tmp_path):
    arrays, meta = load(saved(tmp_path))
    assert meta == META and list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape and arrays[name].flags.writeable


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "|u1", "|i1", "<i2", "<u4", "<i8", "|b1", ">f4", ">i8"])
def test_every_kind_of_number_and_of_layout_in_memory(tmp_path, dtype):
    array = np.arange(12).astype(dtype).reshape(3, 4)
    views = {"as is": array, "transposed": array.T, "fortran": np.asfortranarray(array), "strided": array[::2, ::-1]}
    arrays, _ = load(saved(tmp_path, views))
    for name, view in views.items():
        np.testing.assert_array_equal(arrays[name], view)
        assert arrays[name].dtype == view.dtype.newbyteorder("<")


def test_numpy_opens_it_too(tmp_path):
    with np.load(saved(tmp_path)) as archive:
        np.testing.assert_array_equal(archive["optimiser/m"], ARRAYS["optimiser/m"])


def test_same_content_same_bytes(tmp_path):
    save(tmp_path / "a.npz", ARRAYS, META)
    save(tmp_path / "b.npz", ARRAYS, META)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("content", [np.array([{}, None], dtype=object), np.array(["text"])])
def test_only_numbers_can_be_saved(tmp_path, content):
    with pytest.raises(CheckpointError, match="only numbers"):
        save(tmp_path / "c.npz", {"x": content}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, monkeypatch, number, dtype):
    """Catches a model whose pictures cannot be shown, far from where it went wrong."""
    bad = {"fine": np.ones(2), "ema/w": np.array([[1, number]], dtype)}
    with pytest.raises(CheckpointError, match="'ema/w' holds NaN or infinity"):
        save(tmp_path / "c.npz", bad, {})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_require_finite", lambda name, array: None)
        save(tmp_path / "c.npz", bad, {})
    with pytest.raises(CheckpointError, match="c.npz: The array 'ema/w' holds NaN or infinity"):
        load(tmp_path / "c.npz")


# ---- a save that fails


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), Interrupted()])
@pytest.mark.parametrize("call", ["os.open", "os.fsync", "os.replace", "nn.checkpoint._write"])
def test_a_failure_at_any_call_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, call, failure):
    path = saved(tmp_path)
    before = path.read_bytes()

    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(call, fail)
    with pytest.raises((CheckpointError, Interrupted)) as caught:
        save(path, {"x": np.ones(3)}, {})
    monkeypatch.undo()
    if caught.type is CheckpointError:
        assert "No space left" in str(caught.value) and "intact" in str(caught.value)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


class FullDisk(io.BufferedRandom):
    """A file on a disk that is full after `room` bytes."""

    room = 0

    def write(self, data):
        if self.tell() + memoryview(data).nbytes > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_disk_that_fills_up_at_any_byte(tmp_path, monkeypatch):
    path = saved(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fdopen", lambda fd, mode: FullDisk(io.FileIO(fd, "r+")))
    for room in range(0, len(before) - 1, 97):
        FullDisk.room = room
        with pytest.raises(CheckpointError, match="No space left on device.*intact"):
            save(path, ARRAYS, META)
        assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]
    FullDisk.room = 10**6
    save(path, {"x": np.ones(3)}, {})
    assert list(load(path)[0]) == ["x"]


def test_a_reader_never_sees_a_file_in_the_making(tmp_path, monkeypatch):
    path = saved(tmp_path)
    write = checkpoint._write

    def write_and_look(file, *args):
        write(file, *args)
        assert load(path)[1] == META

    monkeypatch.setattr(checkpoint, "_write", write_and_look)
    save(path, {}, {"new": 1})
    assert load(path)[1] == {"new": 1}


def test_the_new_file_is_on_the_disk_before_it_takes_the_old_one_s_place(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a)))
    saved(tmp_path)
    assert calls == ["fsync", "replace", "fsync"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="Cannot save .*No such file"):
        save(tmp_path / "gone" / "c.npz", {}, {})


# ---- strange files


def test_files_that_are_no_checkpoint(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        load(path)
    with pytest.raises(CheckpointError, match="not a file"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match="not a file"):
        load("/dev/zero")
    for content in (b"", b"hello", os.urandom(5000), b"PK\x05\x06" + bytes(18)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not an Inkling checkpoint"):
            load(path)
    np.savez(path, x=np.ones(3))
    with pytest.raises(CheckpointError, match="not an Inkling checkpoint"):
        load(path)


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a file"):
        load(tmp_path / "pipe")


def crafted(path, members, compression=zipfile.ZIP_STORED, meta=None):
    """A zip like Inkling's, with members as given: name -> bytes."""
    names = [name.removesuffix(".npy") for name in members]
    document = {"format": checkpoint.FORMAT, "arrays": names, "meta": {}} if meta is None else meta
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(zipfile.ZipInfo(checkpoint.META), json.dumps(document))
        for name, content in members.items():
            archive.writestr(name, content, compression)
    return path


def npy(header, body=b""):
    header = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1073741824,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 999999999999999999, 999999999999999999), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 99 + "), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '|V4', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os').abort(), }",
        "(" * 100,
    ],
)
def test_a_header_that_claims_too_much_is_refused_before_anything_is_allocated(tmp_path, header):
    path = crafted(tmp_path / "x.npz", {"x.npy": npy(header, bytes(4))})
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="x.npz"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_compression_bomb_is_refused(tmp_path):
    path = crafted(tmp_path / "x.npz", {"x.npy": bytes(10**7)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="claim more bytes"):
        load(path)


def test_a_member_that_holds_more_than_it_claims_is_not_inflated(tmp_path):
    """A bomb whose directory and CRC say otherwise.  Catches a read without a bound, which inflates first."""
    array = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000,), }", bytes(4000))
    path = crafted(tmp_path / "x.npz", {"x.npy": array + bytes(10**8)}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)  # of the directory, the second
    content[entry + 16 : entry + 20] = zlib.crc32(array).to_bytes(4, "little")
    content[entry + 24 : entry + 28] = len(array).to_bytes(4, "little")
    path.write_bytes(content)
    tracemalloc.start()
    with contextlib.suppress(CheckpointError):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_what_would_shrink_more_than_a_reader_accepts_is_not_written(tmp_path):
    save(tmp_path / "x.npz", {"w": np.ones(10)}, {})
    with pytest.raises(CheckpointError, match="shrink more"):
        save(tmp_path / "x.npz", {"w": np.zeros(100_000)}, {}, compressed=True)
    assert len(load(tmp_path / "x.npz")[0]["w"]) == 10


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_compression_is_refused(tmp_path, compression):
    with pytest.raises(CheckpointError, match="compressed in a way"):
        load(crafted(tmp_path / "x.npz", {"x.npy": bytes(100)}, compression))


def test_compressed_arrays_come_back_and_damage_is_seen(tmp_path):
    """Also in the middle of a stream, where it is the decompressor that stumbles."""
    path = tmp_path / "x.npz"
    arrays = {"w": np.random.default_rng(0).integers(0, 9, 2000).astype(np.float16), "n": np.arange(5)}
    save(path, arrays, {"step": 1}, compressed=True)
    back, meta = load(path)
    assert meta == {"step": 1} and all(np.array_equal(back[name], arrays[name]) for name in arrays)
    content = path.read_bytes()
    assert len(content) < 2000
    unseen = 0
    for at in range(150, len(content) - 1, 37):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        with contextlib.suppress(CheckpointError):
            back, _ = load(path)
            assert all(np.array_equal(back[name], arrays[name]) for name in arrays)
            unseen += 1  # a byte that means nothing: of a date, say
    assert unseen < 5


def test_a_directory_of_a_million_entries_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    body = b"PK\x01\x02" + bytes(42)
    entries = 120_000
    path.write_bytes(
        body * entries + b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff"
        + (len(body) * entries).to_bytes(4, "little") + bytes(6)
    )
    with pytest.raises(CheckpointError, match="table of contents"):
        load(path)


def test_another_format_says_so(tmp_path):
    path = crafted(tmp_path / "x.npz", {}, meta={"format": 7, "meta": {}})
    with pytest.raises(CheckpointError, match="format 7, this Inkling reads 2"):
        load(path)


@pytest.mark.parametrize("meta", [[], 3, {}, {"format": 1}, {"format": 1, "meta": []}, {"format": [1], "meta": {}}])
def test_metadata_of_another_shape(tmp_path, meta):
    with pytest.raises(CheckpointError):
        load(crafted(tmp_path / "x.npz", {}, meta=meta))


def test_metadata_nested_without_end(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(checkpoint.META, "[" * 100_000)
    with pytest.raises(CheckpointError):
        load(path)


def test_a_name_that_is_none(tmp_path):
    """Catches a list taken for a name because it is written like a member that is there."""
    one = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", bytes(4))
    with pytest.raises(CheckpointError):
        load(crafted(tmp_path / "x.npz", {"[1].npy": one}, meta={"format": 1, "arrays": [[1]], "meta": {}}))


@pytest.mark.parametrize("names", [[], ["x", "y"], ["y"], [1], [[]], {"x": 1}])
def test_arrays_other_than_those_listed(tmp_path, names):
    one = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", bytes(4))
    with pytest.raises(CheckpointError):
        load(crafted(tmp_path / "x.npz", {"x.npy": one}, meta={"format": 1, "arrays": names, "meta": {}}))


def test_names_never_reach_the_file_system(tmp_path):
    one = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", bytes(4))
    path = crafted(tmp_path / "x.npz", {"../../escaped.npy": one})
    assert list(load(path)[0]) == ["../../escaped"]
    assert os.listdir(tmp_path) == ["x.npz"]


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("good")).read_bytes()


def load_or_refuse(path, content):
    """Loading gives the true content or a CheckpointError, never anything else."""
    path.write_bytes(content)
    try:
        arrays, meta = load(path)
    except CheckpointError:
        return False
    assert meta == META and list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
    return True


def test_cut_short_at_any_length(tmp_path, good_bytes):
    assert load_or_refuse(tmp_path / "x.npz", good_bytes)
    for length in range(0, len(good_bytes), 5):
        assert not load_or_refuse(tmp_path / "x.npz", good_bytes[:length])


def test_any_one_bit_flipped_is_noticed_or_harmless(tmp_path, good_bytes):
    for position in range(len(good_bytes)):
        content = bytearray(good_bytes)
        content[position] ^= 1 << position % 8
        load_or_refuse(tmp_path / "x.npz", bytes(content))


@settings(max_examples=150)
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bits_are_noticed_or_harmless(tmp_path_factory, good_bytes, flips):
    content = bytearray(good_bytes)
    for position, change in flips:
        content[position % len(content)] ^= change
    load_or_refuse(tmp_path_factory.getbasetemp() / "flipped.npz", bytes(content))


@given(content=st.binary(max_size=200), cut=st.integers(0, 10**6), keep_end=st.booleans())
def test_foreign_bytes_inside(tmp_path_factory, good_bytes, content, cut, keep_end):
    cut %= len(good_bytes)
    rest = good_bytes[cut + len(content) :] if keep_end else good_bytes[cut:]
    load_or_refuse(tmp_path_factory.getbasetemp() / "spliced.npz", good_bytes[:cut] + content + rest)


# ---- one run to a folder


def test_a_second_run_in_the_same_folder_is_told(tmp_path):
    with lock(tmp_path / "run"):
        with pytest.raises(CheckpointError, match="Another run is writing into .*run"):
            with lock(tmp_path / "run"):
                pass
    with lock(tmp_path / "run"):
        pass


def test_a_killed_run_leaves_no_lock_and_its_litter_is_cleared(tmp_path):
    parts = [tmp_path / f".inkling-000000000000000{number}.part" for number in (1, 2)]
    parts[0].touch()
    script = "import sys; from nn.checkpoint import lock\nwith lock(sys.argv[1]): print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(CheckpointError, match="Another run"), lock(tmp_path):
        pass
    parts[1].touch()
    for part in parts:
        os.utime(part, (1000, 1000))
    holder.kill()
    holder.communicate()
    with lock(tmp_path):
        assert os.listdir(tmp_path) == [".lock"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Cannot write into the folder"):
        with lock(tmp_path / "file" / "run"):
            pass
