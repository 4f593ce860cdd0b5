"""The user's cache folder, for what can be downloaded or compiled again."""
from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path


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
