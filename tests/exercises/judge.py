"""Asking for a verdict: the parent's side of child.py.

A verdict is a dict: `status` (passed, failed, not started, timeout, refused, crashed, error), `file`, `seconds`,
`passed` and `total` tests, and for what is not passed `lesson`, `message`, `test`, `printed`, `stage`.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.exercises.catalogue import Course, Exercise
from tests.exercises.surgery import SurgeryError, cut

REPOSITORY = Path(__file__).resolve().parents[2]
# First with kernels as plain Python (uncompiled.py); those that are exercises then compiled as well.
STAGES = {
    "plain": ({}, 20.0),
    "compiled": ({"NUMBA_DISABLE_JIT": "0", "NUMBA_BOUNDSCHECK": "1"}, 120.0),
}


class Judge:
    """A child process that judges one request after another."""

    def __init__(self, course: Course, preload: bool = False):
        """preload: import NumPy, Numba and pytest once for all judgements"""
        self.course = course
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "INKLING_NUMBA_"))}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        environment.pop("PYTEST_ADDOPTS", None)
        try:
            self.terminal = os.dup(0)  # the learner's own, for --replay; the judge's is the pipe of requests
        except OSError:
            self.terminal = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.exercises.child", *(["--preload"] if preload else [])],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=() if self.terminal is None else (self.terminal,),
            text=True,
        )

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *error) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(10)
        self.process.stdout.close()
        if self.terminal is not None:
            os.close(self.terminal)

    def verdict(
        self, exercise: Exercise, workspace: Path, *, only: str | None = None, timeout: float | None = None
    ) -> dict:
        """Judge the code in `workspace`.

        only     the name of one test: run it alone, show what it prints, and set no time-out
        timeout  seconds for each stage, in place of its own
        """
        blank = self._blank(exercise, workspace)
        if blank is not None:
            return blank
        seconds, verdict = 0.0, {}
        for stage in exercise.stages:
            environment, limit = STAGES[stage]
            limit = timeout or limit
            answer = self._ask(
                {
                    "id": exercise.id,
                    "target": exercise.target,
                    "tests": str(self.course.root / exercise.tests),
                    "root": str(self.course.root),
                    "workspace": str(workspace),
                    "plain": stage == "plain",
                    "environment": dict(environment),
                    "terminal": self.terminal,
                    "timeout": 1e6 if only else limit,
                    "only": only,
                    "show": bool(only),
                }
            )
            seconds += answer.get("seconds", 0.0)
            verdict = {**_weigh(answer, exercise, limit), "stage": stage, "seconds": seconds}
            if verdict["status"] != "passed":
                break
        return verdict

    def _blank(self, exercise: Exercise, workspace: Path) -> dict | None:
        """A verdict that needs no judging: nothing has been written yet, or the file cannot be read."""
        verdict = {"file": f"{workspace.name}/{exercise.path}", "seconds": 0.0, "stage": "reading"}
        try:
            found = cut((workspace / exercise.path).read_bytes(), exercise.name)
            ours = cut((self.course.root / exercise.path).read_bytes(), exercise.name)
        except SurgeryError as error:
            message = f"{workspace.name}/{exercise.path}: {error}"
            return {**verdict, "status": "failed", "lesson": {"kind": "raised", "message": message}}
        except OSError:
            message = f"There is no file {workspace / exercise.path}: `start {exercise.id}` copies it anew, blank."
            return {**verdict, "status": "refused", "message": message}
        if is_blank(found, exercise):
            return {**verdict, "status": "not started"}
        lines, wanted = (["@" + ast.unparse(d) for d in c.node.decorator_list] for c in (found, ours))
        missing = [line for line in wanted if line not in lines]
        if missing:
            message = f"above `def {found.node.name}` stands {' '.join(lines) or 'nothing'}"
            lesson = {"kind": "rule", "message": f"{message}; it was {' '.join(wanted)}: put that back"}
            return {**verdict, "status": "failed", "lesson": lesson}
        return None

    def _ask(self, request: dict) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"crashed": "the judging process could not be started"}


def is_blank(found, exercise: Exercise) -> bool:
    """Whether a body is still the blank that `start` left, or nothing at all."""
    blanks = (found.with_body(found.layout(body)) for body in (exercise.stub, "pass"))
    return not found.text or found.fingerprint() in [cut(b, exercise.name).fingerprint() for b in blanks]


def _weigh(answer: dict, exercise: Exercise, limit: float) -> dict:
    verdict = {"file": answer.get("file"), "printed": answer.get("printed", "").strip()}
    if answer.get("timeout"):
        message = f"Stopped after {limit:.0f} seconds: an endless loop, or far more work than is needed?"
        return {**verdict, "status": "timeout", "message": message}
    if answer.get("crashed"):
        return {**verdict, "status": "crashed", "message": f"No verdict: {answer['crashed']}."}
    if answer.get("refused"):
        return {**verdict, "status": "refused", "message": f"Not judged: {answer['refused']}"}
    if answer.get("broken"):
        return {**verdict, "status": "failed", "lesson": answer["broken"]}
    tests = answer["tests"]
    failed = [t for t in tests if t["outcome"] == "failed"]
    verdict |= {"total": len(tests), "passed": len(tests) - len(failed)}
    if not tests and not answer["chosen"]:
        message = f"No test was found that judges {exercise.id}, in {exercise.tests}: that proves nothing."
        return {**verdict, "status": "error", "message": message}
    if not failed and len(tests) < answer["chosen"]:
        message = f"No verdict: the tests were left after {len(tests)} of {answer['chosen']}."
        return {**verdict, "status": "crashed", "message": message}
    if not failed:
        return {**verdict, "status": "passed"}
    lesson = failed[0]["lesson"]
    if answer.get("situation"):
        lesson["causes"] = [*lesson.get("causes", ()), answer["situation"]]
    return {**verdict, "status": "failed", "lesson": lesson, "test": failed[0]["test"]}
