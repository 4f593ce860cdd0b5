"""What to tell about an exception: the lesson that a trial put into it, or where the learner's code raised it."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

WIDTH = 300  # characters of one line that are shown

NUMBA = (
    "Numba compiles loops over numbers and arrays: indices, +, math.exp, np.zeros. Lists of different things, einsum, "
    "most keywords, and a name that is a number here and an array there it cannot"
)
FLOAT64 = "float64 has come in on the way, from a draw, np.sqrt(a number) or np.zeros: .astype, or dtype=x.dtype"
ADVICE = {
    "EOFError": "nobody answers input() here: take it out, or run `check --replay`",
    "BdbQuit": "nobody answers a debugger here: `check --replay` does",
    "RecursionError": "it calls itself without an end, or too deep: keep a stack in a list",
}


def lesson_of(error: BaseException, workspace: Path) -> dict:
    if type(error).__name__ == "Wrong" and isinstance(getattr(error, "lesson", None), dict):
        return error.lesson
    if type(error).__name__ in ("Skipped", "Exit", "SystemExit"):
        word = "left the program" if isinstance(error, SystemExit) else "skipped the test"
        return {"kind": "rule", "message": f"your code {word}: that is no answer", "where": _where(error, workspace)}
    lesson = {"kind": "raised", "causes": [], **_trial(error)}
    if isinstance(error, SyntaxError) and error.filename:
        shown = (error.text or "").strip()[:WIDTH]
        return {
            **lesson,
            "message": f"{type(error).__name__}: {error.msg}",
            "where": f"{_relative(error.filename, workspace)}, line {error.lineno}: {shown}",
        }
    where = lesson["where"] = _where(error, workspace)
    if isinstance(error, NotImplementedError) and "raise NotImplementedError" in where:
        return {**lesson, "message": "the `raise NotImplementedError` of the blank is still reached"}
    if type(error).__module__.startswith("numba"):
        lesson["causes"] = [NUMBA]
    elif "inputs of dtype float32 and float64" in said(error):
        lesson["causes"] = [FLOAT64]
    elif "math domain error" in said(error):
        lesson["causes"] = ["the logarithm of 0, or the root or logarithm of a number below 0"]
    elif type(error).__name__ in ADVICE:
        lesson["causes"] = [ADVICE[type(error).__name__]]
    lines = [line[:WIDTH] for line in said(error).splitlines() if line.strip()]
    return {**lesson, "message": f"{type(error).__name__}: " + "\n".join(lines[:12])}


def said(error: BaseException) -> str:
    """An exception's own words, if it can say them."""
    try:
        text = str(error).strip()
    except Exception as another:
        return f"(its message cannot be shown: __str__ raises {type(another).__name__})"
    if isinstance(error, MemoryError) and not text:
        return "more memory was asked for than there is: is a shape wrong?"
    return text


def _trial(error: BaseException) -> dict:
    trial = getattr(error, "trial", None)
    return trial if isinstance(trial, dict) else {}


def _where(error: BaseException, workspace: Path) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _relative(f.filename, workspace) != f.filename]
    if not frames:
        return ""
    return f"{_relative(frames[-1].filename, workspace)}, line {frames[-1].lineno}: {(frames[-1].line or '')[:WIDTH]}"


def _relative(filename: str, workspace: Path) -> str:
    path = os.path.realpath(filename)
    inside = path.startswith(str(workspace) + os.sep)
    return os.path.relpath(path, workspace.parent) if inside else filename
