"""Prepares the process for fast NumPy and Numba; runs before NumPy is first imported, with the standard library alone.

Four things that no array code can choose later:

- the BLAS kernels: on AMD processors with AVX-512 some versions of OpenBLAS pick their AVX2 kernels, at little more
  than half the speed, so there it is told to take the others;
- one BLAS thread: the batch is what runs in parallel (`parallel.py`), and two thread pools fight over the cores;
- the allocator: glibc may take every large array from the system and give it back at once, which costs more than the
  arithmetic on it; it is told to keep the memory;
- Numba's cache: in a folder private to the user, named by a hash of all sources in `nn/kernels`, since Numba notices no
  edit of a file that a kernel's helpers come from. So compiled code elsewhere takes its helpers from there, or has them
  in its own file.

What the user has set in the environment is never overridden.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import threading
import warnings
from pathlib import Path

from disk import cache

KERNELS = Path(__file__).resolve().parent / "kernels"
AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}  # what OpenBLAS's kernels of these cores need:
AVX512_CORES = {"skylakex", "cooperlake", "sapphirerapids"}  # in float32 and float64 the same

_state = {"configured": False, "blas_is_single": False}
_limit_lock = threading.Lock()
_limit = {"depth": 0, "limits": None}


def configure() -> None:
    """Do all four. Called on import of `nn`; a second call does nothing."""
    if _state["configured"]:
        return
    _state["configured"] = True
    core = _better_blas_core()
    if "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        _state["blas_is_single"] = os.environ["OPENBLAS_NUM_THREADS"] == "1" and _openblas_library() is not None
        if core:
            os.environ["OPENBLAS_CORETYPE"] = core
    elif core and not {pool.get("architecture", "").lower() for pool in _blas()} & AVX512_CORES:
        late = "NumPy was imported before Inkling, so its BLAS cannot change to the faster"
        advice = f"import nn first, or set OPENBLAS_CORETYPE={core}"
        warnings.warn(f"{late} {core} kernels any more: {advice}.", RuntimeWarning, stacklevel=3)
    _keep_memory()
    choose_cache(_numba_key())


@contextlib.contextmanager
def single_threaded_blas():
    """Within it BLAS runs on the calling thread alone; the limit is restored after.

    Costs nothing where `configure` came before NumPy. Respects an OPENBLAS_NUM_THREADS that the user set. May be
    nested, also by several threads: the last one out restores.
    """
    if _state["blas_is_single"] or os.environ.get("OPENBLAS_NUM_THREADS", "1") != "1":
        yield
        return
    with _limit_lock:
        _limit["depth"] += 1
        if _limit["depth"] == 1:
            _limit["limits"] = _blas_controller().limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _limit_lock:
            _limit["depth"] -= 1
            if _limit["depth"] == 0:
                _limit["limits"].restore_original_limits()


def uncompiled() -> str | None:
    """A sentence where the user has switched Numba off: kernels that work on whole vectors exist only compiled."""
    import numba

    if not numba.config.DISABLE_JIT:
        return None
    return "NUMBA_DISABLE_JIT is set, but Inkling's kernels can only run compiled; unset it"


def describe() -> dict[str, str | int | None]:
    """The machine, BLAS core and versions that the bits of a run depend on; JSON-able, kept in every checkpoint."""
    import llvmlite
    import numba
    import numpy

    blas = _blas()
    return {
        "processor": _cpu_field("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "blas": ", ".join(sorted(f"{pool['internal_api']} {pool['version']}" for pool in blas)) or None,
        "blas_core": ", ".join(sorted({str(pool.get("architecture")) for pool in blas})) or None,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
    }


@functools.lru_cache(maxsize=1)
def _blas_controller():
    import numpy  # noqa: F401  (the controller sees only libraries that are loaded)
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


def _blas() -> list[dict]:
    """What threadpoolctl knows of each BLAS that is loaded."""
    return [pool for pool in _blas_controller().info() if pool["user_api"] == "blas"]


# ---- BLAS


def _better_blas_core() -> str | None:
    """The OpenBLAS core type to ask for, or None where its own choice is good or cannot be improved."""
    if os.environ.get("OPENBLAS_CORETYPE") or _cpu_field("vendor_id") != "AuthenticAMD" or not has_avx512():
        return None
    return "SkylakeX" if _openblas_library() else None


def has_avx512() -> bool:
    """Whether the processor has all that OpenBLAS's kernels for AVX-512 need."""
    return set((_cpu_field("flags") or "").split()) >= AVX512


def _openblas_library() -> Path | None:
    """The OpenBLAS inside NumPy's wheel for Linux, found without importing NumPy; None with any other BLAS."""
    spec = importlib.util.find_spec("numpy") if "numpy" not in sys.modules else sys.modules["numpy"].__spec__
    if spec is None or not spec.origin:
        return None
    return next(iter(sorted((Path(spec.origin).parent.parent / "numpy.libs").glob("*openblas*.so*"))), None)


@functools.cache
def _cpu_field(name: str) -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            text = file.read(8192)  # the first processor's paragraph is enough
    except OSError:
        return None
    match = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return match.group(1).strip() if match else None


# ---- the allocator


def _keep_memory() -> None:
    """Let glibc reuse the memory of large arrays: take them from the heap, and do not return its top to the system.

    Two threads making and freeing the arrays of 360 training steps ran 3 to 8 times as fast. One arena, so that what
    one thread freed another can reuse: resident memory stayed at 83 MB; with one a thread it crept from 80 to 129 MB.
    """
    try:
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, ValueError):
        return
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    options = (
        (-3, 1 << 30, "MALLOC_MMAP_THRESHOLD_", "malloc.mmap_threshold"),
        (-1, 2**31 - 1, "MALLOC_TRIM_THRESHOLD_", "malloc.trim_threshold"),
        (-8, 1, "MALLOC_ARENA_MAX", "malloc.arena_max"),
    )
    for option, value, variable, tunable in options:
        if variable in os.environ or tunable in tunables:
            continue
        if not mallopt(option, value) and option == -3:
            mallopt(option, 32 << 20)  # the most that older versions accept


# ---- Numba's cache

CACHE, MARK = "NUMBA_CACHE_DIR", "INKLING_NUMBA_CACHE_DIR"


def choose_cache(key: str) -> None:
    """Point Numba at the folder for `key`, unless the user has pointed it elsewhere.

    A child process inherits the variable; the mark tells it that Inkling had set it, and it chooses by its own sources.
    Where the user's cache folder cannot be used (read-only, full, no home), a temporary one serves.  Where that cannot
    be made either, Numba gets a name under which nothing can be kept, and compiles anew (`kernels/cache`).
    """
    if os.environ.get(CACHE) and os.environ[CACHE] != os.environ.get(MARK):
        return
    try:
        folder = cache.private("numba", key) or cache.temporary()
    except OSError:
        folder = Path(os.devnull)
    os.environ[CACHE] = os.environ[MARK] = str(folder)
    if "numba" in sys.modules:  # it has read its environment already
        sys.modules["numba"].config.CACHE_DIR = str(folder)


def _numba_key() -> str:
    """A hash of all that compiled kernels depend on: their sources, Numba, Python, processor."""
    parts = [platform.python_version(), sys.implementation.cache_tag, platform.machine()]
    parts += [_cpu_field(name) or "" for name in ("vendor_id", "cpu family", "model", "stepping", "flags")]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        parts.append(importlib.metadata.version("numba"))
    for path in sorted(KERNELS.rglob("*.py")):
        parts += [str(path.relative_to(KERNELS)), path.read_text(encoding="utf-8", errors="replace")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
