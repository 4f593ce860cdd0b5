"""The runtime: what it sets before NumPy, what it leaves alone, and a cache folder that nobody else can write."""
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
import threadpoolctl

from disk import cache
from nn import runtime

ROOT = Path(runtime.__file__).parent.parent
OURS = ("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "NUMBA_CACHE_DIR", runtime.MARK)


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


@pytest.mark.parametrize("threads", [None, "1"])  # 1 is what `configure` sets, and not every BLAS heeds it
def test_the_limit_is_restored_after_an_error(monkeypatch, threads):
    calls = []
    limits = types.SimpleNamespace(restore_original_limits=lambda: calls.append("restored"))
    controller = types.SimpleNamespace(limit=lambda **options: calls.append(options) or limits)
    monkeypatch.setattr(runtime, "_blas_controller", lambda: controller)
    monkeypatch.setitem(runtime._state, "blas_is_single", False)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
    with pytest.raises(KeyError), runtime.single_threaded_blas():
        raise KeyError
    assert calls == [{"limits": 1, "user_api": "blas"}, "restored"]


# ---- the BLAS core

AVX512 = "fma avx2 avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.mark.parametrize(
    "vendor, flags, expected",
    [
        ("AuthenticAMD", AVX512, "SkylakeX"),
        ("AuthenticAMD", "fma avx2 avx512f", None),
        ("AuthenticAMD", "fma avx2", None),
        ("GenuineIntel", AVX512, None),
        (None, None, None),
    ],
)
def test_the_core_is_chosen_only_on_amd_with_avx512(monkeypatch, vendor, flags, expected):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    monkeypatch.setattr(runtime, "_cpu_field", {"vendor_id": vendor, "flags": flags}.get)
    monkeypatch.setattr(runtime, "_openblas_library", lambda: Path("libopenblas.so"))
    assert runtime._better_blas_core() == expected
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert runtime._better_blas_core() is None


@pytest.mark.parametrize(("loaded", "told"), [("Zen", [True, False]), ("Cooperlake", [False, False])])
def test_that_the_core_can_no_longer_change_is_said_once_where_another_was_better(monkeypatch, loaded, told):
    monkeypatch.setitem(runtime._state, "configured", False)
    monkeypatch.setattr(runtime, "_better_blas_core", lambda: "SkylakeX")
    monkeypatch.setattr(runtime, "_blas", lambda: [{"architecture": loaded}])
    monkeypatch.setattr(runtime, "_keep_memory", lambda: None)
    monkeypatch.setattr(runtime, "choose_cache", lambda key: None)
    for expected in told:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runtime.configure()
        assert [str(w.message).startswith("NumPy was imported before") for w in caught] == [True] * expected


def test_the_description_can_be_kept_in_a_checkpoint():
    about = runtime.describe()
    assert json.loads(json.dumps(about)) == about
    assert {"processor", "blas_core", "python", "numpy", "numba"} <= set(about)
    for pool in threadpoolctl.threadpool_info():
        assert (f"{pool['internal_api']} {pool['version']}" in (about["blas"] or "")) == (pool["user_api"] == "blas")


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
    shutil.copytree(ROOT / "disk", tmp_path / "disk")
    (tmp_path / "nn").mkdir()
    shutil.copy(ROOT / "nn/runtime.py", tmp_path / "nn")
    for path in ("nn/modules.py", "nn/kernels/helper.py", "nn/kernels/deeper/helper.py", "generators/cli.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    "edited, changes",
    [("nn/kernels/helper.py", True), ("nn/kernels/deeper/helper.py", True), ("nn/modules.py", False),
     ("generators/cli.py", False)],
)  # fmt: skip
def test_an_edited_kernel_source_gets_another_folder(tree, edited, changes):
    before = run(SETTINGS, tree, root=tree)["NUMBA_CACHE_DIR"]
    (tree / edited).write_text("x = 2\n")
    assert (run(SETTINGS, tree, root=tree)["NUMBA_CACHE_DIR"] != before) == changes


def test_compiled_code_elsewhere_takes_its_helpers_from_its_own_file_or_from_the_kernels():
    """Catches a kernel of an upper package that keeps running with the old code of a helper that was edited."""
    for path in ROOT.glob("*/**/*.py"):
        source, where = path.read_text(encoding="utf-8"), path.relative_to(ROOT).parts
        if where[0] in ("tests", ".venv") or where[:2] == ("nn", "kernels"):
            continue
        if re.search(r"^\s*@[\w.]*(njit|kernel)\b|numba\.njit", source, re.MULTILINE):
            imports = re.findall(r"^\s*(?:from|import) ([\w.]+)", source, re.MULTILINE)
            assert set(imports) <= {"math", "numba", "numpy"} or all(i.startswith("nn.kernels") for i in imports), path


def test_a_child_process_with_other_sources_chooses_anew(tree):
    parent = run(SETTINGS, tree)
    child = run(SETTINGS, tree, root=tree, **{name: parent[name] for name in ("NUMBA_CACHE_DIR", runtime.MARK)})
    assert child["NUMBA_CACHE_DIR"] != parent["NUMBA_CACHE_DIR"]


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Calls `runtime.choose_cache` in an empty cache folder; returns what Numba would be given."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys.modules["numba"].config, "CACHE_DIR", "")

    def choose(key):
        monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
        runtime.choose_cache(key)
        return Path(os.environ["NUMBA_CACHE_DIR"])

    yield choose
    cache.temporary.cache_clear()


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
    folder = cache.root() / "numba-k"
    spoil(folder)
    used = chosen("k")
    assert used != folder and stat.S_IMODE(used.stat().st_mode) == 0o700
    shutil.rmtree(used)


def test_a_cache_root_that_is_too_open_is_closed(chosen):
    cache.root().mkdir(parents=True)
    cache.root().chmod(0o777)
    assert chosen("k").parent == cache.root()
    assert stat.S_IMODE(cache.root().stat().st_mode) == 0o700


def test_the_folders_used_least_recently_are_removed(chosen):
    """Catches an order by name, and the removal of what is no folder of kernels, or leads elsewhere."""
    order = [str(5 * number % (cache.KEEP + 1)) for number in range(cache.KEEP + 1)]
    for number, key in enumerate(order):
        folder = chosen(key)
        os.utime(folder, (1000 + number, 1000 + number))
    elsewhere = cache.root() / "notes"
    elsewhere.mkdir()
    (cache.root() / "numba-link").symlink_to(elsewhere)
    os.utime(elsewhere, (0, 0))
    for key in order[3:5]:  # of a process that runs
        os.utime(cache.root() / f"numba-{key}")
    chosen("new")
    left = {folder.name for folder in cache.root().iterdir()}
    assert left == {"notes", "numba-link", "numba-new", *(f"numba-{k}" for k in order[2:])}


def test_folders_that_others_use_or_remove_meanwhile(chosen, monkeypatch):
    """Catches the kernels of a running process removed, and a folder given up as another process removes one."""
    keys = {f"numba-{number}" for number in range(cache.KEEP + 3)}
    for key in keys:
        chosen(key.removeprefix("numba-"))
    assert {folder.name for folder in cache.root().iterdir()} == keys
    for key in keys:
        os.utime(cache.root() / key, (1000, 1000))
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda root, pattern: [root / "numba-gone", *glob(root, pattern)])
    assert chosen("new") == cache.root() / "numba-new"
    assert len(os.listdir(cache.root())) == cache.KEEP


NO_HOME = """
import pwd
os.environ.pop("HOME"), os.environ.pop("XDG_CACHE_HOME")
def unknown(number): raise KeyError(number)
pwd.getpwuid = unknown
"""
WHERE = """
import nn
folder = os.environ["NUMBA_CACHE_DIR"]
print(json.dumps([folder, os.path.isdir(folder)]))
"""


def test_without_a_home_the_cache_is_temporary(tmp_path):
    """Catches a folder named "~" in the working folder, an error, and a temporary folder that stays."""
    folder, there = run(NO_HOME + WHERE, tmp_path, TMPDIR=str(tmp_path))
    assert there and folder.startswith(str(tmp_path / "inkling-")) and not os.path.exists(folder)
    assert os.listdir(tmp_path) == [] and not os.path.exists("~")


def test_without_any_place_for_a_cache_there_is_none(tmp_path):
    """Catches what cannot be imported, and a cache beside the sources, where an edited helper is not noticed."""
    nowhere = NO_HOME + "import tempfile\ndef no(*a, **k): raise FileNotFoundError(2, 'none')\ntempfile.mkdtemp = no\n"
    folder, there = run(nowhere + WHERE, tmp_path)
    assert not there and folder == os.devnull
