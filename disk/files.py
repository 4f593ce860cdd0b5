"""A file is written whole or not at all.

The content goes to a new file of a random name beside the target, is forced to the disk, and takes the target's place
in one move. So a reader sees the old file or the new one, whichever moment the process or the machine dies at. The
new file is opened exclusively (O_EXCL): a link that somebody has planted under its name is never followed.
"""
from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PART = re.compile(r"\.inkling-[0-9a-f]{16}\.part")
_ABANDONED = 3600  # seconds since the last byte was written to a part: its process is gone
_KINDS = (
    (stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
)  # fmt: skip


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A new file, open for writing, that takes the place of `path` once the block has ended without an error.

    Raises an OSError whose `filename` is `path` if that is no plain file (see `require_plain`) or cannot be written;
    what was there before is intact then.
    """
    path = Path(path)
    with naming(path):
        require_plain(path)
        part = path.with_name(f".inkling-{secrets.token_hex(8)}.part")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(part, flags, 0o666), "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:  # Ctrl-C too
            part.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Let every OSError name `path`: that of a full disk names no file, that of a move the wrong one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write(path: str | os.PathLike, content: bytes) -> None:
    """Write a file by `replacing`; folders that are missing are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)


def write_json(path: str | os.PathLike, value) -> None:
    """A JSON value, indented and with its keys in the order that they have."""
    write(path, (json.dumps(value, indent=2) + "\n").encode())


def append(path: str | os.PathLike, content: bytes) -> None:
    """Add to a plain file, made if need be.  On a full disk a part of `content` may be left there."""
    with naming(path):
        require_plain(path)
        with open(path, "ab") as file:
            file.write(content)


def require_plain(path: str | os.PathLike) -> None:
    """Raise an OSError that names `path` if a link, a folder, a pipe or a device stands there."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # nothing there, or the writing itself will say why not
        return
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise OSError(errno.EINVAL, f"this is {kind}, where a plain file is needed; choose another name", str(path))


def clear(folder: str | os.PathLike) -> None:
    """Remove the new files that killed processes left half-written in `folder` an hour ago, and nothing else."""
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):  # finished, or removed by another process
            if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                if time.time() - entry.stat().st_mtime > _ABANDONED:
                    os.unlink(entry.path)


def _sync_folder(folder: Path) -> None:
    """Make the move itself survive a power cut, where folders can be opened (not on Windows) and synced (not on all
    network drives)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # the move has been made; only its durability is unknown
            raise
    finally:
        os.close(descriptor)
