"""Compiled kernels on a disk that loses, garbles or refuses them."""
import errno
import importlib.util
import os
import subprocess
import sys
import tempfile

import numba
import numpy as np
import pytest
from numba.core import caching

from nn.kernels import cache, kernel

SOURCE = "def twice(x):\n    return x + x\n"


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Compiles a kernel for two types as a new process would; returns how many of them were read from the disk."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "twice.py").write_text(SOURCE)

    def compile_both():
        spec = importlib.util.spec_from_file_location("twice", tmp_path / "twice.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "twice", module)
        spec.loader.exec_module(module)
        twice = kernel(module.twice)
        assert (twice(1), twice(0.5)) == (2, 1.0)
        return sum(twice.stats.cache_hits.values())

    return compile_both


@pytest.mark.parametrize("array", [
    np.zeros((2, 3), np.float16), np.zeros((2, 3)), np.zeros(3, np.int64), np.zeros(3, bool), np.zeros((), np.float32),
    np.zeros((4, 6)).T, np.zeros((4, 6))[:, ::2], np.broadcast_to(np.float32(1), (2, 2)), np.zeros(0),
    np.zeros(2, "U3"),
], ids=str)  # fmt: skip
def test_types_of_arrays_are_numba_s(array):
    """Catches a layout, a writable flag or a dtype taken for another, for which kernels would be wrong."""
    assert cache._type_of(array, None) == cache._numbas_type_of(array, None)


def garble(path):
    path.write_bytes(bytes(byte ^ (place % 97 == 5) for place, byte in enumerate(path.read_bytes())))


SPOILED = {
    "removed": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut by one": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "garbled": garble,
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_spoiled_entry_is_dropped_and_compiled_anew(compiled, tmp_path, spoil):
    """Catches an error for good, and machine code that is run although it is not what was written."""
    assert compiled() == 0
    SPOILED[spoil](sorted(tmp_path.glob("cache/*/*.nbc"))[0])  # one of two
    assert compiled() == 1
    SPOILED[spoil](*tmp_path.glob("cache/*/*.nbi"))  # the index of both
    assert [compiled(), compiled()] == [0, 2]


def test_numba_itself_can_read_it(compiled, monkeypatch):
    """Catches a cache that another program of the user, with a kernel of the same file, fails on."""
    compiled()
    monkeypatch.setattr(caching, "IndexDataCacheFile", cache._CheckedFile.__base__)
    assert compiled() == 2


@pytest.mark.parametrize(
    "module, call, number",
    [(os, "makedirs", errno.EROFS), (os, "replace", errno.EDQUOT), (tempfile, "TemporaryFile", errno.ENOSPC),
     (cache.io, "BytesIO", errno.EACCES)],
)  # fmt: skip
def test_what_cannot_be_kept_is_compiled_all_the_same(compiled, tmp_path, monkeypatch, module, call, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(module, call, refuse)
        assert [compiled(), compiled()] == [0, 0]
    assert not list(tmp_path.glob("**/*.nb?")) and [compiled(), compiled()] == [0, 2]


def test_a_folder_that_is_taken_away_meanwhile_is_made_again(compiled, tmp_path):
    compiled()
    for path in sorted(tmp_path.glob("cache/**/*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert [compiled(), compiled()] == [0, 2]


def test_without_a_folder_nothing_is_kept_beside_the_sources(compiled, tmp_path, monkeypatch):
    """Catches kernels in __pycache__, where Numba does not notice that a helper in another file was edited."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", os.devnull)
    assert [compiled(), compiled()] == [0, 0]
    assert not list(tmp_path.glob("**/*.nb?"))


PROCESS = """
import sys, numpy as np
from nn.kernels import kernel
import lines
total, x = kernel(lines.total), np.ones(12, np.float32)
total(x)
print("numba.np.linalg" in sys.modules, total(x), *(total(x.astype(kind)) for kind in sys.argv[1:]))
"""


def test_loading_a_kernel_imports_nothing_that_only_compiling_needs(tmp_path):
    """Catches a start that takes as long again, and a kernel that cannot be compiled after another was loaded."""
    (tmp_path / "lines.py").write_text(
        "def total(x):\n    s = 0.0\n    for i in range(len(x)):\n        s += x[i]\n    return s\n"
    )
    known = os.pathsep.join([str(tmp_path), os.getcwd()])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": known}
    said = []
    for others in ([], [], ["float64"], ["float64"]):
        command = [sys.executable, "-c", PROCESS, *others]
        said.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split())
    assert said == [["True", "12.0"], ["False", "12.0"], ["False", "12.0", "12.0"], ["False", "12.0", "12.0"]]
