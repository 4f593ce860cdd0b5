"""One private folder of compiled kernels for each version of their sources, in the user's cache.

Compiled code is run when it is read back, so its folder must belong to the user and nobody else may write there.
"""

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

from disk import cache

KEEP = 8  # the most recently used folders of compiled kernels; older ones are removed when a new one is made,
UNUSED = 86400  # if no process has claimed them for so many seconds
VARIABLE, MARK = "NUMBA_CACHE_DIR", "INKLING_NUMBA_CACHE_DIR"


def choose(key: str) -> None:
    """Point Numba at the folder for `key`, unless the user has pointed it elsewhere.

    A child process inherits the variable; the mark tells it that Inkling had set it, and it chooses by its own sources.
    Where the user's cache folder cannot be used (read-only, full, no home), a temporary one serves.  Where that cannot
    be made either, Numba gets a name under which nothing can be kept, and compiles anew (`kernels/cache`).
    """
    if os.environ.get(VARIABLE) and os.environ[VARIABLE] != os.environ.get(MARK):
        return
    try:
        folder = _claim(f"numba-{key}") or cache.temporary()
    except OSError:
        folder = Path(os.devnull)
    os.environ[VARIABLE] = os.environ[MARK] = str(folder)
    if "numba" in sys.modules:  # it has read its environment already
        sys.modules["numba"].config.CACHE_DIR = str(folder)


def _claim(name: str) -> Path | None:
    """The folder of this name in the user's cache, both made if need be; None where it cannot be used safely."""
    try:
        parent = cache.root()
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):  # another program of the user made it too open
            parent.chmod(0o700)
        folder = parent / name
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
        _prune(parent)
    return folder


def _is_private(folder: Path) -> bool:
    status, windows = os.lstat(folder), not hasattr(os, "geteuid")  # there permissions do not show in the mode
    closed = windows or (status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return stat.S_ISDIR(status.st_mode) and closed


def _prune(parent: Path) -> None:
    """Remove folders that nobody has claimed for a day, but the most recently used.  A process that still uses one
    compiles what it lacks anew."""
    claimed = {}
    for folder in parent.glob("numba-*"):
        with contextlib.suppress(OSError):  # another process removes folders too
            if _is_private(folder):
                claimed[folder] = folder.stat().st_mtime
    for folder in sorted(claimed, key=claimed.__getitem__, reverse=True)[KEEP:]:
        if time.time() - claimed[folder] > UNUSED:
            shutil.rmtree(folder, ignore_errors=True)
