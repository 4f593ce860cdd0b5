"""The user's cache folder, for what can be downloaded or compiled again.

Compiled code is run when it is read back, so its folder must belong to the user and nobody else may write there: that
is a `private` one.
"""
from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

KEEP = 8  # the most recently used private folders of a kind; older ones are removed when a new one is made,
UNUSED = 86400  # if no process has claimed them for so many seconds


def root() -> Path:
    """`$XDG_CACHE_HOME/inkling`, by default `~/.cache/inkling`; not made here.

    A user without a home folder gets one that lasts as long as the process.  Raises OSError if that cannot be made.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~")) / ".cache"
    return (base if base.is_absolute() else temporary()) / "inkling"


@functools.lru_cache(maxsize=1)
def temporary() -> Path:
    """A private folder that this process removes at its end.  Raises OSError where there is no place for one."""
    folder, owner = Path(tempfile.mkdtemp(prefix="inkling-")), os.getpid()  # mode 0700
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))
    return folder


def private(kind: str, version: str) -> Path | None:
    """The folder of this kind and version in the user's cache, both made if need be; None where it cannot be used
    safely: others could write to it, or nobody can."""
    try:
        parent = root()
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):  # another program of the user made it too open
            parent.chmod(0o700)
        folder = parent / f"{kind}-{version}"
        is_new = not folder.is_dir()
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(folder):  # somebody else may have filled it
            return None
        with tempfile.TemporaryFile(dir=folder):
            pass  # writable, and the disk not full
        os.utime(folder)
    except OSError:
        return None
    if is_new:
        _prune(parent, kind)
    return folder


def _is_private(folder: Path) -> bool:
    status, windows = os.lstat(folder), not hasattr(os, "geteuid")  # there permissions do not show in the mode
    closed = windows or (status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return stat.S_ISDIR(status.st_mode) and closed


def _prune(parent: Path, kind: str) -> None:
    """Remove folders that nobody has claimed for a day, but the most recently used.  A process that still uses one
    makes what it lacks anew."""
    claimed = {}
    for folder in parent.glob(f"{kind}-*"):
        with contextlib.suppress(OSError):  # another process removes folders too
            if _is_private(folder):
                claimed[folder] = folder.stat().st_mtime
    for folder in sorted(claimed, key=claimed.__getitem__, reverse=True)[KEEP:]:
        if time.time() - claimed[folder] > UNUSED:
            shutil.rmtree(folder, ignore_errors=True)
