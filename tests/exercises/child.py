"""The process that judges: it can see no `nn`, `datasets` and `generators` but those of one workspace.

Started by judge.py as `python -m tests.exercises.child`, it reads requests from standard input, one JSON object a line,
and answers each with one line.  For each it forks, so that nothing of one judgement is left for the next; the fork

- lets the guarded packages be imported from the workspace alone,
- imports the target's module and makes sure that the very code to be judged came from a file in the workspace,
- runs the tests that are marked with the exercise's id, and reports what they said.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.exercises.catalogue import PACKAGES

MEMORY = 8 << 30  # bytes of address space; a mistake in a shape shall not take the machine down


class Refused(Exception):
    """The code that would be judged is not the learner's."""


class OnlyFrom:
    """Finds the guarded packages in one folder, and makes sure that nobody else finds them elsewhere."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find_spec(self, name: str, path=None, target=None):
        if name.partition(".")[0] not in PACKAGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, [str(self.folder)] if "." not in name else path)
        if spec is None:
            raise ModuleNotFoundError(f"there is no module {name} in {self.folder}", name=name)
        return spec


class Recorder:
    """A pytest plugin that keeps what each test said."""

    def __init__(self, workspace: Path, only: str | None):
        self.workspace, self.only, self.tests, self.broken = workspace, only, [], None

    def pytest_configure(self, config):
        config.addinivalue_line("markers", "exercise(id): judges the exercise of that id")

    def pytest_collection_modifyitems(self, items):
        if self.only:
            items[:] = [item for item in items if item.name == self.only]

    def pytest_exception_interact(self, call, report):
        if self.broken is None and report.when == "collect":
            self.broken = lesson_of(call.excinfo.value, self.workspace)

    def pytest_runtest_makereport(self, item, call):
        if call.excinfo is None and call.when != "call":
            return
        error = call.excinfo.value if call.excinfo else None
        skipped = type(error).__name__ == "Skipped"
        self.tests.append(
            {
                "test": item.name,
                "outcome": "skipped" if skipped else "failed" if error else "passed",
                "lesson": None if skipped or error is None else lesson_of(error, self.workspace),
            }
        )


def lesson_of(error: BaseException, workspace: Path) -> dict:
    """What to tell about an exception: its own lesson if it has one, else where in the learner's code it was raised."""
    if hasattr(error, "lesson"):
        return error.lesson
    lesson = {"kind": "raised", "causes": [], **getattr(error, "trial", {})}
    if isinstance(error, SyntaxError) and error.filename:
        shown = (error.text or "").strip()
        return {
            **lesson,
            "message": f"{type(error).__name__}: {error.msg}",
            "where": f"{_relative(error.filename, workspace)}, line {error.lineno}: {shown}",
        }
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _relative(f.filename, workspace) != f.filename]
    if frames:
        last = frames[-1]
        lesson["where"] = f"{_relative(last.filename, workspace)}, line {last.lineno}: {last.line}"
    text = str(error).strip()
    if isinstance(error, NotImplementedError):
        text = "the `raise NotImplementedError` of the blank is still reached"
        return {**lesson, "message": text}
    if isinstance(error, MemoryError):
        text = text or "more memory was asked for than there is: is a shape wrong?"
    lines = [line for line in text.splitlines() if line.strip()]
    return {**lesson, "message": f"{type(error).__name__}: " + "\n".join(lines[:12])}


def _relative(filename: str, workspace: Path) -> str:
    path = os.path.realpath(filename)
    inside = path.startswith(str(workspace) + os.sep)
    return os.path.relpath(path, workspace.parent) if inside else filename


def resolve(target: str, workspace: Path) -> str:
    """The file that holds the code of `target`; raises Refused unless it lies in the workspace."""
    module_name, _, name = target.partition(":")
    found = importlib.import_module(module_name)
    for part in name.split("."):
        found = getattr(found, part) if not isinstance(found, type) else found.__dict__[part]
    found = getattr(found, "fget", None) or found
    while hasattr(found, "__wrapped__") or hasattr(found, "__func__") or hasattr(found, "py_func"):
        found = getattr(found, "py_func", None) or getattr(found, "__func__", None) or found.__wrapped__
    places = [sys.modules[module_name].__file__ or "", found.__code__.co_filename]
    for place in map(os.path.realpath, places):
        if not place.startswith(str(workspace) + os.sep):
            raise Refused(f"{target} was found in {place}, outside of {workspace}: that is not your code.")
    return os.path.relpath(os.path.realpath(places[1]), workspace.parent)


def check_all_modules(workspace: Path) -> None:
    """Refuse if any loaded module of a guarded package came from elsewhere."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in PACKAGES and file:
            if not os.path.realpath(file).startswith(str(workspace) + os.sep):
                raise Refused(f"the module {name} came from {file}, not from the workspace.")


def judge(request: dict) -> dict:
    """Run the tests of one exercise in this process, which must be a fresh one."""
    workspace = Path(request["workspace"]).resolve()
    os.environ.update(request["environment"])
    sys.dont_write_bytecode = True  # a file saved twice within a second could otherwise be mistaken for the first
    sys.meta_path.insert(0, OnlyFrom(workspace))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    _reload_numba()
    import pytest

    recorder = Recorder(workspace, request.get("only"))
    answer: dict = {"file": None, "tests": recorder.tests, "broken": None, "refused": None}
    try:
        answer["file"] = resolve(request["target"], workspace)
        arguments = [
            f"{request['tests']}",
            "-m",
            f"exercise(id={request['id']!r})",
            "--noconftest",
            "-c",
            os.devnull,
            "-p",
            "no:cacheprovider",
            "-p",
            "no:terminal",
            "-p",
            "no:faulthandler",
            "--assert=plain",
            "--import-mode=importlib",
            f"--rootdir={request['root']}",
            "-W",
            "ignore",
            "-s",
        ]
        pytest.main(arguments, plugins=[recorder])
        answer["broken"] = recorder.broken
        resolve(request["target"], workspace)
        check_all_modules(workspace)
        from tests.exercises.causes import of_situation
        from tests.exercises.trial import trials

        answer["situation"] = of_situation([(trial.tags, trial.right) for trial in trials])
    except Refused as error:
        answer["refused"] = str(error)
    except Exception as error:
        answer["broken"] = lesson_of(error, workspace)
    return answer


def _reload_numba() -> None:
    """Make a Numba that was loaded in advance read its settings from the environment again."""
    if "numba" in sys.modules:
        sys.modules["numba"].config.reload_config()


def in_a_fork(request: dict) -> dict:
    """Judge in a fork; what it prints is kept apart from what it answers."""
    with tempfile.TemporaryDirectory(prefix="inkling-judge-") as folder:
        began = time.monotonic()
        answer, printed = Path(folder, "answer"), Path(folder, "printed")
        if request["fresh_cache"]:  # Numba does not notice when a helper in another file was edited
            request["environment"]["NUMBA_CACHE_DIR"] = folder + "/numba"
        pid = os.fork()
        if pid == 0:
            _judge_and_exit(request, answer, printed)
        status = _wait(pid, request["timeout"])
        result = json.loads(answer.read_text()) if answer.exists() else {"crashed": _how_it_died(status)}
        if status is None:
            result = {"timeout": True}
        text = printed.read_text(errors="replace") if printed.exists() else ""
        shutil.rmtree(folder + "/numba", ignore_errors=True)
        return {**result, "printed": text[-4000:], "seconds": time.monotonic() - began}


def _judge_and_exit(request: dict, answer: Path, printed: Path) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        if not request.get("show"):
            descriptor = os.open(printed, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        else:
            os.dup2(2, 1)  # the answer goes through a file; what is printed may be seen
        result = judge(request)
        sys.stdout.flush()
        partial = answer.with_suffix(".partial")
        partial.write_text(json.dumps(result))
        partial.rename(answer)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _wait(pid: int, timeout: float) -> int | None:
    """The exit status, or None after the time-out, when the whole process group is ended."""
    deadline = time.monotonic() + timeout
    pause = 0.002
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        select.select([], [], [], pause)
        pause = min(0.05, pause * 1.5)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _how_it_died(status: int | None) -> str:
    if status is not None and os.WIFSIGNALED(status):
        return f"the process died of signal {os.WTERMSIG(status)} ({signal.Signals(os.WTERMSIG(status)).name})"
    return "the process ended before the tests did"


def main() -> None:
    sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]
    if "--preload" in sys.argv:  # many judgements will follow: load once what they all need
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        import numba  # noqa: F401
        import numpy  # noqa: F401
        import pytest  # noqa: F401
    for line in sys.stdin:
        print(json.dumps(in_a_fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
