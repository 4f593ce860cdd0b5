"""A file written whole or not at all, and nothing else touched."""
import errno
import os
import re
import socket
import stat
import time

import pytest

from disk import files


def make_link(path):
    path.with_name("precious").write_bytes(b"old")
    path.symlink_to("precious")


def make_dangling(path):
    path.symlink_to("nowhere")


def make_socket(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


@pytest.mark.parametrize(
    ("make", "word"),
    [(make_link, "a link"), (make_dangling, "a link"), (os.mkfifo, "a pipe"), (os.mkdir, "a folder"),
     (make_socket, "a socket")],
)  # fmt: skip
def test_what_is_no_plain_file_is_refused_and_left_as_it_is(tmp_path, monkeypatch, make, word):
    """Catches a link that is replaced, or followed, and a pipe that hangs its writer."""
    monkeypatch.chdir(tmp_path)  # a socket's name may not be long
    path = tmp_path / "x.png"
    make(path if make is not make_socket else path.relative_to(tmp_path))
    before = {p.name: p.lstat() for p in tmp_path.iterdir()}
    with pytest.raises(OSError, match=f"this is {word}, where a plain file is needed") as error:
        files.write(path, b"new")
    assert error.value.filename == str(path)
    after = {p.name: p.lstat() for p in tmp_path.iterdir()}
    assert [stat.S_IFMT(s.st_mode) for s in after.values()] == [stat.S_IFMT(s.st_mode) for s in before.values()]
    assert after.keys() == before.keys() and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("path", ["/dev/null", ".", "", "/"])
def test_devices_and_names_that_are_none(path):
    with pytest.raises(OSError, match="device|folder"):
        files.write(path, b"new")


def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    """Catches a temporary name that is opened for writing whatever stands there."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    (tmp_path / "precious").write_bytes(b"old")
    (tmp_path / f".inkling-{'0' * 16}.part").symlink_to("precious")
    with pytest.raises(FileExistsError) as error:
        files.write(tmp_path / "x", b"new")
    assert error.value.filename == str(tmp_path / "x") and (tmp_path / "precious").read_bytes() == b"old"


def test_names_are_random(tmp_path):
    """Catches a name that can be foretold, and two writers of one process that share one."""
    seen = set()
    for _ in range(3):
        with files.replacing(tmp_path / "x") as one, files.replacing(tmp_path / "x") as other:
            seen |= set(os.listdir(tmp_path)) - {"x"}
            one.write(b"1")
            other.write(b"2")
        assert (tmp_path / "x").read_bytes() == b"1"
    assert len(seen) == 6 and all(files._PART.fullmatch(name) for name in seen) and os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["open", "fsync", "replace", "fdopen"])
def test_an_error_at_any_call_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, number, call):
    path = tmp_path / "x"
    files.write(path, b"old")

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as error:
        files.write(path, b"new")
    monkeypatch.undo()
    assert error.value.filename == str(path) and error.value.errno == number
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch, number):
    """Catches an error after the move, which callers take for "what was there before is intact"."""
    fsync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    files.write(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


def test_only_names_of_its_own_are_cleared(tmp_path):
    """Catches a pattern that takes what others have begun, links, and the part of a process that still writes it."""
    old, alive = time.time() - 3700, ".inkling-3123456789abcdef.part"
    kept = (".notes.part", ".checkpoint.npz.12.part", ".inkling-0123456789abcdeg.part", ".inkling-0123.part",
            "a.inkling-0123456789abcdef.part", ".inkling-0123456789abcdef.part.gz")  # fmt: skip
    for name in (*kept, ".inkling-0123456789abcdef.part"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    (tmp_path / alive).touch()
    (tmp_path / ".inkling-1123456789abcdef.part").symlink_to(kept[0])
    (tmp_path / ".inkling-2123456789abcdef.part").mkdir()
    files.clear(tmp_path)
    others = {alive, ".inkling-1123456789abcdef.part", ".inkling-2123456789abcdef.part"}
    assert set(os.listdir(tmp_path)) == others | set(kept)


def test_the_umask_decides_who_may_read(tmp_path):
    """Catches files that only their writer can read, as those of `mkstemp` are."""
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "deeper" / "x", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "deeper" / "x").stat().st_mode) == 0o640
