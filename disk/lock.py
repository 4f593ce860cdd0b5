"""A folder for one process at a time, by the lock that the system's kernel keeps on the file `.lock` in it.

That is `flock` on POSIX systems and `locking` on Windows. The lock of a killed process vanishes with it.
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
except ImportError:  # Windows
    import msvcrt

    fcntl = None

PATIENCE = 600.0  # seconds; longer than any download
PAUSE = 0.02


@contextlib.contextmanager
def locked(folder: str | os.PathLike, wait: bool = False) -> Iterator[None]:
    """Hold `folder`, which must exist, until the block ends.

    Raises BlockingIOError if another process holds it, with `wait` after PATIENCE seconds; OSError if it cannot be
    locked at all.
    """
    give_up = time.monotonic() + (PATIENCE if wait else 0)
    while (descriptor := _take(Path(folder) / ".lock")) is None:
        if time.monotonic() >= give_up:
            raise BlockingIOError(errno.EAGAIN, "another process holds this folder", str(folder))
        time.sleep(PAUSE)
    try:
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def _take(path: Path) -> int | None:
    """The file, open and locked; None if another process has locked it."""
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
