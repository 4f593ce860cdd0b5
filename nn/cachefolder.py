"""The user's cache folder: small notes, and one private folder of compiled kernels for each version of their sources.

Compiled code is run when it is read back, so its folder must belong to the user and nobody else may write there. Each
process holds a shared `flock` on the folder that it uses; only a folder that nobody holds is ever removed.
"""
from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

KEEP = 8  # the most recently used folders of compiled kernels; older ones are removed when a new one is made
VARIABLE, MARK = "NUMBA_CACHE_DIR", "INKLING_NUMBA_CACHE_DIR"
_held: list[int] = []  # descriptors that hold this process's shared locks until it ends


def choose(key: str) -> None:
    """Point Numba at the folder for `key`, unless the user has pointed it elsewhere.

    A child process inherits the variable; it knows from the mark that Inkling had set it, and chooses anew by its own
    sources. Where the user's cache folder cannot be used, a temporary one serves, removed at exit.
    """
    if os.environ.get(VARIABLE) and os.environ[VARIABLE] != os.environ.get(MARK):
        return
    folder = _claim(root() / f"numba-{key}") or _temporary()
    os.environ[VARIABLE] = os.environ[MARK] = str(folder)
    _tell_loaded_numba(str(folder))


def root() -> Path:
    """`$XDG_CACHE_HOME/inkling`, by default `~/.cache/inkling`; not made here."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~")) / ".cache"
    return base / "inkling"


def read_note(name: str) -> str | None:
    """A short text kept in the cache folder, or None; never trusted further than its text."""
    try:
        with open(root() / name, encoding="utf-8", errors="replace") as file:
            return file.read(200).strip()
    except OSError:
        return None


def write_note(name: str, text: str) -> None:
    """Keep a short text; silently not, where the folder cannot be written."""
    try:
        _make_root()
        folder = root()
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, folder / name)
    except OSError:
        pass


def _claim(folder: Path) -> Path | None:
    """`folder`, made if need be and held by this process; None where it cannot be used safely."""
    try:
        is_new = not folder.is_dir()
        _make_root()
        _make_private(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass  # writable, and the disk not full
        _hold(folder)
        os.utime(folder)
        if is_new:
            _prune(folder.parent)
    except OSError:
        return None
    return folder


def _make_root() -> None:
    """Make the cache folder; one that another program of the user made too open is closed to others."""
    folder = root()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        folder.chmod(0o700)


def _make_private(folder: Path) -> None:
    """Make the folder; one that somebody else may have filled is refused."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder):
        raise PermissionError(f"{folder} can be written by others")


def _is_private(folder: Path) -> bool:
    status = os.lstat(folder)
    mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return stat.S_ISDIR(status.st_mode) and mine and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _hold(folder: Path) -> None:
    """Take the shared lock; if another process removed the folder meanwhile, make it again and start over."""
    while True:
        descriptor = os.open(folder / ".in-use", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(folder / ".in-use")):
                _held.append(descriptor)
                return
        except FileNotFoundError:
            pass
        os.close(descriptor)
        _make_private(folder)


def _prune(parent: Path) -> None:
    """Remove all but the most recently used folders, passing over those that a process holds."""
    folders = sorted(parent.glob("numba-*"), key=_last_use, reverse=True)
    for folder in folders[KEEP:]:
        try:
            if not _is_private(folder):
                continue
            descriptor = os.open(folder / ".in-use", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(descriptor)


def _last_use(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="inkling-numba-"))  # mode 0700
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))
    return folder


def _tell_loaded_numba(folder: str) -> None:
    """Numba reads its environment when it is imported; one that already was is told directly."""
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.config.CACHE_DIR = folder
