"""A folder for one process at a time, by whatever lock the system has.

On POSIX systems and Windows the lock is the kernel's (`flock`, `locking`) on the file `.lock` in the folder, and that
of a killed process vanishes with it. Elsewhere the lock is that the file `.locked` exists; a killed process leaves it
behind, and the error says so.
"""
from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

PATIENCE = 600.0  # seconds; longer than any download
PAUSE = 0.02


@contextlib.contextmanager
def locked(folder: str | os.PathLike, wait: bool = False) -> Iterator[None]:
    """Hold `folder`, which must exist, until the block ends.

    Raises BlockingIOError if another process holds it, with `wait` after PATIENCE seconds; OSError if it cannot be
    locked at all.
    """
    by_kernel = fcntl is not None or msvcrt is not None
    path = Path(folder) / (".lock" if by_kernel else ".locked")
    take = _take_by_kernel if by_kernel else _take_by_existence
    give_up = time.monotonic() + (PATIENCE if wait else 0)
    while (descriptor := take(path)) is None:
        if time.monotonic() >= give_up:
            left = "" if by_kernel else f" (if none is at work there, one was killed: remove {path})"
            raise BlockingIOError(errno.EAGAIN, f"another process holds this folder{left}", str(folder))
        time.sleep(PAUSE)
    try:
        yield
    finally:
        os.close(descriptor)  # and with it the kernel's lock
        if not by_kernel:
            path.unlink(missing_ok=True)


def _take_by_kernel(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return None
        raise
    return descriptor


def _take_by_existence(path: Path) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None
