"""The runtime: what it sets before NumPy, what it leaves alone, and a cache folder that nobody else can write."""
import fcntl
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest

from nn import cachefolder, runtime

ROOT = runtime.ROOT
OURS = ("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "NUMBA_CACHE_DIR", cachefolder.MARK)


def run(script, tmp_path, root=ROOT, **environment):
    """What `script` prints as JSON in a fresh process that inherits nothing that this one's runtime has set."""
    inherited = {name: value for name, value in os.environ.items() if name not in (*OURS, "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", "import json, os, sys\n" + script], cwd=root, capture_output=True, text=True,
        env={**inherited, "XDG_CACHE_HOME": str(tmp_path / "cache"), **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SETTINGS = (
    "from nn import runtime; runtime.configure()\n"
    f"print(json.dumps({{name: os.environ.get(name) for name in {OURS!r}}}))"
)


def test_what_it_sets(tmp_path):
    found = run(SETTINGS, tmp_path)
    assert found["OPENBLAS_NUM_THREADS"] == "1"
    folder = Path(found["NUMBA_CACHE_DIR"])
    assert folder.parent == tmp_path / "cache" / "inkling" and folder.name.startswith("numba-")
    for private in (folder, folder.parent):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert run(SETTINGS, tmp_path) == found


def test_what_the_user_has_set_stays(tmp_path):
    mine = {"OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Haswell", "NUMBA_CACHE_DIR": str(tmp_path / "mine")}
    found = run(SETTINGS, tmp_path, **mine)
    assert {name: found[name] for name in mine} == mine


def test_blas_obeys(tmp_path):
    script = "import nn, threadpoolctl\nprint(json.dumps([p['num_threads'] for p in threadpoolctl.threadpool_info()]))"
    assert set(run(script, tmp_path)) <= {1}


def test_it_runs_before_numpy_with_the_standard_library_alone(tmp_path):
    script = (
        "import types; nn = types.ModuleType('nn'); nn.__path__ = ['nn']; sys.modules['nn'] = nn\n"
        "from nn import runtime; runtime.configure()\n"
        "print(json.dumps([m for m in ('numpy', 'numba', 'threadpoolctl') if m in sys.modules]))"
    )
    assert run(script, tmp_path) == []


NUMPY_FIRST = """
import numpy, threadpoolctl, warnings
def threads():
    return [p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
threadpoolctl.threadpool_limits(2)
from nn import runtime
seen = [threads()]
with runtime.single_threaded_blas():
    seen.append(threads())
    with runtime.single_threaded_blas():
        seen.append(threads())
    seen.append(threads())
seen.append(threads())
print(json.dumps(seen))
"""


def test_with_numpy_loaded_first_blas_is_limited_within_and_restored_after(tmp_path):
    before, within, nested, still_within, after = run(NUMPY_FIRST, tmp_path)
    if not before:
        pytest.skip("NumPy's BLAS here is none that threadpoolctl knows")
    assert set(within) == set(nested) == set(still_within) == {1}
    assert after == before


def test_with_numpy_loaded_first_the_user_s_own_number_stays(tmp_path):
    seen = run(NUMPY_FIRST, tmp_path, OPENBLAS_NUM_THREADS="2")
    assert all(threads == seen[0] for threads in seen)


def test_the_limit_is_restored_after_an_error(monkeypatch):
    calls = []
    limits = types.SimpleNamespace(restore_original_limits=lambda: calls.append("restored"))
    controller = types.SimpleNamespace(limit=lambda **options: calls.append(options) or limits)
    monkeypatch.setattr(runtime, "_blas_controller", lambda: controller)
    monkeypatch.setitem(runtime._state, "blas_is_single", False)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    with pytest.raises(KeyError), runtime.single_threaded_blas():
        raise KeyError
    assert calls == [{"limits": 1, "user_api": "blas"}, "restored"]


# ---- the BLAS core

AVX512 = "fma avx2 avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.mark.parametrize(
    "vendor, flags, own_choice, expected",
    [
        ("AuthenticAMD", AVX512, "Haswell", "SkylakeX"),
        ("AuthenticAMD", AVX512, "Zen", "SkylakeX"),
        ("AuthenticAMD", AVX512, "SkylakeX", None),
        ("AuthenticAMD", AVX512, "Cooperlake", None),
        ("AuthenticAMD", AVX512, "", None),  # could not be asked
        ("AuthenticAMD", "fma avx2 avx512f", "Haswell", None),
        ("AuthenticAMD", "fma avx2", "Haswell", None),
        ("GenuineIntel", AVX512, "Haswell", None),
        (None, None, "armv8", None),
    ],
)
def test_the_core_is_changed_only_on_amd_with_avx512_where_openblas_chose_worse(
    monkeypatch, vendor, flags, own_choice, expected
):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    monkeypatch.setattr(runtime, "_cpu_field", {"vendor_id": vendor, "flags": flags}.get)
    monkeypatch.setattr(runtime, "_openblas_library", lambda: Path("libopenblas.so"))
    monkeypatch.setattr(runtime, "_probe_openblas", lambda library: own_choice)
    assert runtime._better_blas_core() == expected
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert runtime._better_blas_core() is None


@pytest.mark.parametrize(
    ("core", "flags", "told"),
    [("Haswell", AVX512, True), ("SkylakeX", AVX512, False), (None, AVX512, False), ("Haswell", "fma avx2", False)],
)
def test_who_measures_is_told_of_a_core_that_holds_back(monkeypatch, core, flags, told):
    """Catches: figures at half of what the processor can do, and nobody knows why."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", core) if core else monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    monkeypatch.setattr(runtime, "_cpu_field", {"flags": flags}.get)
    monkeypatch.setattr(runtime, "_openblas_library", lambda: Path("libopenblas.so"))
    assert bool(runtime.held_back()) == told
    if told:
        assert "OPENBLAS_CORETYPE=Haswell" in runtime.held_back()


def test_asking_openblas_gives_the_core_that_it_loads(tmp_path, monkeypatch):
    library = runtime._openblas_library()
    if library is None:
        pytest.skip("NumPy here brings no OpenBLAS of its own")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")  # reaches the process that is asked
    assert runtime._probe_openblas(library) == "Haswell"
    monkeypatch.setattr(subprocess, "run", None)
    assert runtime._probe_openblas(library) == "Haswell", "remembered, not asked again"


def test_that_the_core_can_no_longer_change_is_said_once(monkeypatch):
    monkeypatch.setitem(runtime._state, "told", False)
    monkeypatch.setattr(runtime, "_better_blas_core", lambda: "SkylakeX")
    monkeypatch.setattr(runtime, "_keep_memory", lambda: None)
    monkeypatch.setattr(cachefolder, "choose", lambda key: None)
    for expected in (1, 0):
        monkeypatch.setitem(runtime._state, "configured", False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runtime.configure()
        assert [str(w.message).startswith("NumPy was imported before") for w in caught] == [True] * expected


def test_the_description_can_be_kept_in_a_checkpoint():
    about = runtime.describe()
    assert json.loads(json.dumps(about)) == about
    assert {"processor", "blas_core", "python", "numpy", "numba"} <= set(about)


# ---- the allocator


def test_large_arrays_are_served_from_warm_pages(tmp_path):
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc is tuned")
    script = (
        "import nn, resource, numpy as np\n"
        "x = np.ones(200_000, np.float32)\n"
        "def chain():\n"
        "    y = [x]\n"
        "    for _ in range(30): y.append(y[-1] + 1)\n"
        "chain(); before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): chain()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    assert run(script, tmp_path) < 300
    fresh = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    assert run(script, tmp_path, **fresh) > 10_000, "the user's own setting stays"


# ---- Numba's cache


@pytest.fixture
def tree(tmp_path):
    """A copy of the runtime beside a kernel of its own."""
    for name in ("runtime.py", "cachefolder.py"):
        (tmp_path / "nn").mkdir(exist_ok=True)
        shutil.copy(ROOT / "nn" / name, tmp_path / "nn" / name)
    for path in ("nn/modules.py", "nn/kernels/helper.py", "nn/kernels/reference/helper.py", "datasets/ink.py",
                 "generators/cli.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    "edited, text, changes",
    [
        ("nn/kernels/helper.py", "x = 2\n", True),
        ("datasets/ink.py", "x = 2\n", True),
        ("generators/cli.py", "@njit(cache=True)\ndef f(): pass\n", True),
        ("nn/modules.py", "    @numba.njit\n    def f(): pass\n", True),
        ("nn/modules.py", "x = 2  # njit is not used here\n", False),
        ("nn/kernels/reference/helper.py", "x = 2\n", False),
    ],
)
def test_an_edited_kernel_source_gets_another_folder(tree, edited, text, changes):
    before = run(SETTINGS, tree, root=tree)["NUMBA_CACHE_DIR"]
    (tree / edited).write_text(text)
    assert (run(SETTINGS, tree, root=tree)["NUMBA_CACHE_DIR"] != before) == changes


def test_a_child_process_with_other_sources_chooses_anew(tree):
    parent = run(SETTINGS, tree)
    child = run(SETTINGS, tree, root=tree, **{name: parent[name] for name in ("NUMBA_CACHE_DIR", cachefolder.MARK)})
    assert child["NUMBA_CACHE_DIR"] != parent["NUMBA_CACHE_DIR"]


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Calls `cachefolder.choose` in an empty cache folder; returns what Numba would be given."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cachefolder, "_held", [])
    monkeypatch.setattr(cachefolder, "_tell_loaded_numba", lambda folder: None)

    def choose(key):
        monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
        cachefolder.choose(key)
        return Path(os.environ["NUMBA_CACHE_DIR"])

    yield choose
    for descriptor in cachefolder._held:
        os.close(descriptor)


def spoil_by_permission(folder):
    folder.mkdir(parents=True)
    folder.chmod(0o770)


def spoil_by_link(folder):
    folder.parent.mkdir(parents=True)
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


def spoil_by_file(folder):
    folder.parent.parent.mkdir(parents=True)
    folder.parent.write_text("a file where the folder should be")


@pytest.mark.parametrize("spoil", [spoil_by_permission, spoil_by_link, spoil_by_file])
def test_a_folder_that_others_could_fill_or_that_cannot_be_made_is_not_used(chosen, spoil):
    folder = cachefolder.root() / "numba-k"
    spoil(folder)
    used = chosen("k")
    assert used != folder and stat.S_IMODE(used.stat().st_mode) == 0o700
    shutil.rmtree(used)


def test_a_cache_root_that_is_too_open_is_closed(chosen):
    cachefolder.root().mkdir(parents=True)
    cachefolder.root().chmod(0o777)
    assert chosen("k").parent == cachefolder.root()
    assert stat.S_IMODE(cachefolder.root().stat().st_mode) == 0o700


def test_old_folders_are_removed_but_never_one_in_use(chosen):
    for number in range(cachefolder.KEEP + 6):
        folder = chosen(f"{number:02}")
        os.utime(folder, (1000 + number, 1000 + number))
        if number not in (1, 3):  # those two stay in use
            os.close(cachefolder._held.pop())
    left = {folder.name for folder in cachefolder.root().glob("numba-*")}
    newest = {f"numba-{number:02}" for number in range(7, cachefolder.KEEP + 6)}
    assert newest | {"numba-01", "numba-03"} <= left and not left & {"numba-00", "numba-02", "numba-04"}


def test_a_folder_removed_while_it_is_being_taken_is_made_again(chosen, monkeypatch):
    flock, removed = fcntl.flock, []

    def remove_first(descriptor, operation):
        if not removed:
            removed.append(shutil.rmtree(cachefolder.root() / "numba-k"))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    folder = chosen("k")
    assert removed and (folder / ".in-use").is_file()
