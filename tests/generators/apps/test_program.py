"""The program in surroundings that are not as usual: each case in a process of its own."""
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import generators
from generators.apps import program
from generators.cli import main
from nn import checkpoint, processes
from tests.reliability.fuzz import train_arguments

ROOT = Path(generators.__file__).parent.parent
INKLING = [sys.executable, "-m", "generators"]
WITHOUT = """
import fcntl, os, subprocess, sys, types  # subprocess takes a system with msvcrt for Windows
hold = lambda file, mode, count: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
sys.modules["msvcrt"], sys.modules["fcntl"] = types.SimpleNamespace(LK_NBLCK=2, locking=hold), None
del os.fork
from generators import cli
sys.exit(cli.main(sys.argv[1:]))
"""

IMPORTING = """
import sys
from time import sleep

class Slow:  # the import of one module takes long enough to be met
    def find_spec(name, path=None, target=None):
        if name == sys.argv[1]:
            print("importing", flush=True)
            sleep(60)

sys.meta_path.insert(0, Slow)
sys.argv[0] = "inkling"
from generators.cli import main
main(["sample", "nowhere", "--out", "x.png"])
"""

HANDLER = """
import os, signal, sys

class Watch:  # says what answers Ctrl-C when this module is imported
    def find_spec(name, path=None, target=None):
        if name == "nn.runtime":
            print(signal.getsignal(signal.SIGINT).__name__, flush=True)
            os._exit(0)

sys.meta_path.insert(0, Watch)
"""

SAMPLING = """
import gc, sys
sys.argv[0] = "inkling"
from generators.cli import main
main(["sample", "vae", "--caption", "a bold seven", "--out", sys.argv[1]])
print(gc.isenabled(), gc.get_freeze_count() > 0, *sys.modules)
"""
UNUSED = {
    "generators.apps.demo", "generators.apps.explore", "generators.apps.lecture", "generators.apps.play",
    "http.client", "http.server", "numba.np.arrayobj", "numpy.ma", "webbrowser",
}  # fmt: skip


def run(command, **options):
    return subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=300, **options)


def shell(arguments, redirections):
    quoted = " ".join(f"'{word}'" for word in [*INKLING, *arguments])
    return run(["bash", "-c", f"{quoted} {redirections}"], stdout=subprocess.PIPE)


def trained(folder):
    return checkpoint.load(folder / "checkpoint.npz")[1]["step"]


@pytest.mark.parametrize("redirections", ["| head -1; exit ${PIPESTATUS[0]}", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_run_whose_output_nobody_reads_goes_on(tmp_path, redirections):
    """Catches a run that stops with success and without training, a traceback, and a checkpoint that gets the number
    of standard error and is written over by messages."""
    done = shell(train_arguments("vae", tmp_path / "x", 3), redirections)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert trained(tmp_path / "x") == 3


def test_a_full_disk_under_standard_output_is_named(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    done = shell(["--help"], "> /dev/full")
    assert (done.returncode, done.stderr) == (2, "inkling: standard output: No space left on device\n")


class Recorder:
    """A stream that notes what is done to it, and fails with an error if it is given one."""

    def __init__(self, error=None):
        self.done, self.error = [], error

    def fileno(self):
        return os.open(os.devnull, os.O_WRONLY)  # a number of its own, which is pointed elsewhere

    def write(self, text):
        self.done.append(text)
        if self.error:
            raise OSError(self.error, "it went wrong")

    def flush(self):
        self.done.append("flushed")


@pytest.mark.parametrize(
    ("error", "named"), [(None, False), (errno.EPIPE, False), (errno.EBADF, False), (errno.ENOSPC, True)]
)
def test_a_stream_fails_once_and_is_then_silent(error, named):
    """Catches: a reader that has gone reported as an error, a full disk not reported, and text that stays behind."""
    recorder = Recorder(error)
    stream = program._Stream(recorder, "standard output", str.upper)
    with pytest.raises(OSError, match="standard output") if named else contextlib.nullcontext():
        assert stream.write("word") == 4
    stream.flush()
    assert recorder.done == (["WORD"] if error else ["WORD", "flushed"])
    assert (stream.failure is not None) == named
    assert stream.write("more") == 4 and recorder.done[1:] == ([] if error else ["flushed", "MORE"])


CLOSED = """
import os, sys
from generators.apps.program import streams
os.close(int(sys.argv[1]))
with streams():
    assert os.fstat(int(sys.argv[1])).st_rdev == os.stat(os.devnull).st_rdev
"""


@pytest.mark.parametrize("descriptor", ["0", "1", "2"])
def test_a_standard_stream_that_is_closed_leads_nowhere(descriptor):
    """Catches a file of ours that gets its number, and is then printed into or read from."""
    assert subprocess.run([sys.executable, "-c", CLOSED, descriptor], cwd=ROOT, check=False).returncode == 0


def test_where_there_is_no_stream_text_goes_nowhere():
    """Catches a program without standard output (pythonw) that fails at its first word."""
    stream = program._Stream(None, "standard output", str)
    assert stream.write("word") == 4
    stream.flush()
    stream.stream.close()


def test_without_compiled_kernels_one_sentence(tmp_path):
    done = run([*INKLING, *train_arguments("vae", tmp_path / "x", 1)], env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert done.returncode == 2 and done.stderr.startswith("inkling: NUMBA_DISABLE_JIT is set")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "x").exists()


def test_without_forks_and_locks_of_posix_it_trains_on_threads(tmp_path):
    done = run([sys.executable, "-c", WITHOUT, *train_arguments("vae", tmp_path / "x", 3, "--threads", "2")])
    assert done.returncode == 0, done.stderr
    assert trained(tmp_path / "x") == 3


@pytest.mark.parametrize("module", ["nn", "numba.core.types", "generators.apps.commands"])
def test_ctrl_c_while_importing_is_one_line(module):
    """Catches a traceback.  What Python does before it reads the first line of ours is not ours to answer for."""
    command = [sys.executable, "-c", IMPORTING, module]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "inkling: stopped\n")


@pytest.mark.parametrize(("package", "ours"), [("generators", True), ("theirs", False)])
def test_ctrl_c_is_ours_only_in_our_program(tmp_path, package, ours):
    """Catches a handler that ends somebody else's `python -m theirs`, whose package imports ours, without its
    `finally`; and one that is not installed for `python -m generators`."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("import generators")
    (tmp_path / "sitecustomize.py").write_text(HANDLER)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = run([sys.executable, "-m", package, "info"], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
    assert done.stdout == ("stop_at_once\n" if ours else "default_int_handler\n"), done.stderr


def test_sample_imports_nothing_that_it_does_not_use(tmp_path):
    """Catches a first picture that takes a third longer, and a command that never collects garbage."""
    command = [sys.executable, "-c", SAMPLING, str(tmp_path / "x.png")]
    run(command)  # compiles what no test before it has
    enabled, frozen, *imported = run(command, stdout=subprocess.PIPE).stdout.splitlines()[-1].split()
    assert (enabled, frozen) == ("True", "True") and not UNUSED & {*imported}


def test_what_is_printed_cannot_command_a_terminal(capsys):
    with program.streams():
        print("a\x1b]0;owned\x07\x9b31m\x7f\tb\ud800")
    assert capsys.readouterr().out == "a\\x1b]0;owned\\x07\\x9b31m\\x7f\tb\\ud800\n"


def test_a_warning_is_one_line(monkeypatch, capsys, tmp_path):
    """Catches the name of a file and a line of code before what the user is to know."""
    refuse = lambda thread: (_ for _ in ()).throw(RuntimeError("can't start new thread"))  # noqa: E731
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(processes, "AVAILABLE", False)
    assert main(train_arguments("vae", tmp_path / "x", 1, "--threads", "2")) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "threads" in line]
    assert warnings == ["inkling: the system allows no 2 threads (can't start new thread); one does it all"]
