"""The process that judges: it can see no `nn`, `datasets` and `generators` but those of one workspace.

Started by judge.py as `python -m tests.exercises.child`, it reads requests from standard input, one JSON object a line,
and answers each with one line.  For each it forks, so that nothing of one judgement is left for the next; the fork

- works in an empty folder, lets the guarded packages be imported from the workspace alone, and no answers at all,
- imports the target's module and makes sure that the very code to be judged came from a file in the workspace,
- runs the tests that are marked with the exercise's id, every one of them, and reports what they said (lessons.py).
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.machinery
import importlib.util
import json
import os
import secrets
import select
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.exercises.catalogue import PACKAGES
from tests.exercises.lessons import lesson_of

MEMORY = 8 << 30  # bytes of address space; a mistake in a shape shall not take the machine down
PATIENCE = 6  # the limit is in seconds of the processor; so many times as many go by before it counts as asleep
ANSWERS = ("solutions", "mistakes", "mutants", "audit", "workspace")  # parts of the checker that say what is right


class Refused(Exception):
    """The code that would be judged is not the learner's."""


class OnlyFrom:
    """Finds the guarded packages in one folder, and makes sure that nobody else finds them elsewhere."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find_spec(self, name: str, path=None, target=None):
        if name.startswith(tuple(f"tests.exercises.{part}" for part in ANSWERS)):
            raise ModuleNotFoundError(f"there is no module {name} for a solution", name=name)
        if name.partition(".")[0] not in PACKAGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, [str(self.folder)] if "." not in name else path)
        if spec is None:
            raise ModuleNotFoundError(f"there is no module {name} in {self.folder}", name=name)
        return spec


class Recorder:
    """A pytest plugin that keeps what each test said."""

    def __init__(self, workspace: Path, only: str | None):
        self.workspace, self.only, self.tests, self.broken, self.chosen = workspace, only, [], None, 0

    def pytest_configure(self, config):
        config.addinivalue_line("markers", "exercise(id): judges the exercise of that id")

    def pytest_collection_modifyitems(self, items):
        if self.only:
            items[:] = [item for item in items if item.name == self.only]

    def pytest_collection_finish(self, session):
        self.chosen = len(session.items)

    def pytest_exception_interact(self, call, report):
        if self.broken is None and report.when == "collect":
            self.broken = lesson_of(call.excinfo.value, self.workspace)

    def pytest_runtest_makereport(self, item, call):
        if call.excinfo is None and call.when != "call":
            return
        error = call.excinfo.value if call.excinfo else None
        lesson = None if error is None else lesson_of(error, self.workspace)
        self.tests.append({"test": item.name, "outcome": "failed" if error else "passed", "lesson": lesson})


def resolve(target: str, workspace: Path) -> str:
    """The file that holds the code of `target`; raises Refused unless it lies in the workspace."""
    module_name, _, name = target.partition(":")
    found = importlib.import_module(module_name)
    for part in name.split("."):
        found = getattr(found, part) if not isinstance(found, type) else found.__dict__[part]
    found = getattr(found, "fget", None) or found
    while hasattr(found, "__wrapped__") or hasattr(found, "__func__") or hasattr(found, "py_func"):
        found = getattr(found, "py_func", None) or getattr(found, "__func__", None) or found.__wrapped__
    if not hasattr(found, "__code__"):
        raise Refused(f"{target} is a {type(found).__name__}, not a function that is written in your file.")
    places = [sys.modules[module_name].__file__ or "", found.__code__.co_filename]
    for place in map(os.path.realpath, places):
        if not place.startswith(str(workspace) + os.sep):
            raise Refused(f"{target} was found in {place}, outside of {workspace}: that is not your code.")
    _refuse_answers(Path(places[1]))
    return os.path.relpath(os.path.realpath(places[1]), workspace.parent)


def _refuse_answers(file: Path) -> None:
    """Refuse a file that imports the judge: an editor may have put that there, and what passes would be its code."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
        if isinstance(node, ast.Import | ast.ImportFrom) and any(name.split(".")[0] == "tests" for name in names):
            raise Refused(f"line {node.lineno} of {file.name} imports from `tests`, which judges you: take it out.")


def check_all_modules(workspace: Path, root: Path) -> None:
    """Refuse if any loaded module came from the library, or one of a guarded package from elsewhere."""
    library = tuple(str(root / package) + os.sep for package in PACKAGES)
    for name, module in list(sys.modules.items()):
        file = os.path.realpath(getattr(module, "__file__", None) or "")
        own = file.startswith(str(workspace) + os.sep)
        if not own and (file.startswith(library) or (name.partition(".")[0] in PACKAGES and module.__file__)):
            raise Refused(f"the module {name} came from {file}, not from the workspace.")


def judge(request: dict) -> dict:
    """Run the tests of one exercise in this process, which must be a fresh one."""
    workspace = Path(request["workspace"]).resolve()
    os.environ.update(request["environment"])
    sys.dont_write_bytecode = True  # a file saved twice within a second could otherwise be mistaken for the first
    _limit(request["timeout"])
    if request["plain"]:
        from tests.exercises import uncompiled

        uncompiled.install()
    elif "numba" in sys.modules:  # loaded in advance: its settings are in the environment now
        sys.modules["numba"].config.reload_config()
    import pytest

    from tests.exercises.causes import of_situation
    from tests.exercises.trial import trials

    sys.meta_path.insert(0, OnlyFrom(workspace))
    recorder = Recorder(workspace, request.get("only"))
    answer: dict = {"file": None, "tests": recorder.tests, "broken": None, "refused": None}
    quiet = ["cacheprovider", "terminal", "faulthandler", "debugging", "doctest", "junitxml", "unittest"]
    try:
        answer["file"] = resolve(request["target"], workspace)
        arguments = [
            request["tests"],
            *("-m", f"exercise(id={request['id']!r})", "--noconftest", "-c", os.devnull),
            *(word for plugin in quiet for word in ("-p", f"no:{plugin}")),
            *("--assert=plain", "--import-mode=importlib", f"--rootdir={request['root']}", "-W", "ignore", "-s"),
        ]
        pytest.main(arguments, plugins=[recorder])
        answer["broken"], answer["chosen"] = recorder.broken, recorder.chosen
        resolve(request["target"], workspace)
        check_all_modules(workspace, Path(request["root"]).resolve())
        answer["situation"] = of_situation([(trial.tags, trial.right) for trial in trials])
    except Refused as error:
        answer["refused"] = str(error)
    except BaseException as error:  # sys.exit() and pytest.skip() where the module is imported, too
        answer["broken"] = lesson_of(error, workspace)
    return answer


def _limit(seconds: float) -> None:
    """Of memory MEMORY, or less where that was set from outside; macOS knows no such limit, and goes without."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        limits = [n for n in resource.getrlimit(resource.RLIMIT_AS) if n != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min([MEMORY, *limits]), resource.getrlimit(resource.RLIMIT_AS)[1]))


def in_a_fork(request: dict) -> dict:
    """Judge in a fork; what it prints is kept apart from what it answers."""
    with tempfile.TemporaryDirectory(prefix="inkling-judge-", ignore_cleanup_errors=True) as folder:
        began = time.monotonic()
        answer, printed = Path(folder, secrets.token_hex(16)), Path(folder, "printed")
        # Numba does not notice when a helper in another file was edited
        request["environment"]["NUMBA_CACHE_DIR"] = folder + "/numba"
        pid = os.fork()
        if pid == 0:
            _judge_and_exit(request, answer, printed)
        status = _wait(pid, PATIENCE * request["timeout"], alone=not request.get("show"))
        result = json.loads(answer.read_text()) if answer.exists() else {"crashed": _how_it_died(status)}
        if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
            result = {"timeout": True}
        text = printed.read_bytes()[-4000:].decode(errors="replace") if printed.exists() else ""
        return {**result, "printed": text, "seconds": time.monotonic() - began}


def _judge_and_exit(request: dict, answer: Path, printed: Path) -> None:
    code = 1
    try:
        work = answer.parent / "empty"
        work.mkdir()
        os.chdir(work)
        if request.get("show"):  # the answer goes through a file; what is printed may be seen, and questions answered
            os.dup2(2, 1)
            if request.get("terminal") is not None:
                os.dup2(request["terminal"], 0)
            sys.stdin = open(0, closefd=False)
        else:
            os.setpgid(0, 0)
            sys.stdin = open(os.devnull)
            os.dup2(sys.stdin.fileno(), 0)
            descriptor = os.open(printed, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.breakpointhook = _pass_over
        result = judge(request)
        with contextlib.suppress(Exception):  # it may have been closed
            sys.stdout.flush()
        partial = answer.with_suffix(".partial")
        partial.write_text(json.dumps(result))
        partial.rename(answer)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _pass_over(*arguments, **options) -> None:
    print("breakpoint(): `check` does not stop there; `check --replay` does")


def _wait(pid: int, timeout: float, alone: bool) -> int | None:
    """The exit status, or None after the time-out, when it is ended: with its process group, if it has one alone."""
    deadline = time.monotonic() + timeout
    pause = 0.002
    try:
        while time.monotonic() < deadline:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            select.select([], [], [], pause)
            pause = min(0.05, pause * 1.5)
    except KeyboardInterrupt:
        _end(pid, alone)
        raise
    _end(pid, alone)
    return None


def _end(pid: int, alone: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if alone else os.kill)(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


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
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            print(json.dumps(in_a_fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
