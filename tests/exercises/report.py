"""Telling the learner: lessons and verdicts as lines of text, with colour on a terminal only."""

from __future__ import annotations

import os
import sys
import textwrap

_CODES = {"green": "32", "red": "31", "yellow": "33", "bold": "1", "dim": "2"}


def paint(text: str, colour: str) -> str:
    """`text` in a colour if a person is looking at it: on a terminal, and NO_COLOR is not set."""
    if not sys.stdout or not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{_CODES[colour]}m{text}\033[0m"


def explain(lesson: dict) -> list[str]:
    """What went wrong in one call: the call, what came out and what should have, and the likely cause."""
    lines = [f"{'call':>10}  {lesson['call']}"] if lesson.get("call") else []
    for name, text in lesson.get("inputs", ()):
        lines.append(f"{'':>10}  {name}: {text}")
    for label, text in _findings(lesson):
        first, *more = text.splitlines() or [""]
        lines.append(f"{label:>10}  {first}")
        lines += [f"{'':>10}  {line}" for line in more]
    for cause in lesson.get("causes", ()):
        wrapped = textwrap.wrap(cause, 96, break_on_hyphens=False)
        lines += [f"{'' if i else 'likely':>10}  {line}" for i, line in enumerate(wrapped)]
    return lines


def _findings(lesson: dict) -> list[tuple[str, str]]:
    kind, name = lesson["kind"], lesson.get("name", "")
    if kind == "value":
        place = f"{name}{lesson['index']}"
        count = f"{lesson['wrong']} of {lesson['total']} are wrong; the first is {place}"
        wrong = count if lesson["index"] else name
        return [("wrong", wrong), ("yours", lesson["actual"]), ("expected", lesson["expected"])]
    if kind == "shape":
        return [("wrong", f"the shape of {name}"), ("yours", lesson["actual"]), ("expected", lesson["expected"])]
    if kind == "dtype":
        return [("wrong", f"the dtype of {name}"), ("yours", lesson["actual"]), ("expected", lesson["expected"])]
    if kind == "nothing":
        return [("wrong", f"{name} is None, where shape {lesson['shape']} was expected: is a return missing?")]
    if kind == "type":
        return [("wrong", f"{name} is a {lesson['actual']}, where numbers of shape {lesson['shape']} were expected")]
    if kind == "mutated":
        return [("wrong", f"the input {name} is not the same after the call")]
    if kind == "raised":
        return [("raised", lesson.get("message", "")), *([("where", lesson["where"])] if lesson.get("where") else [])]
    return [("wrong", lesson.get("message", "")), *([("where", lesson["where"])] if lesson.get("where") else [])]


def verdict_lines(exercise, verdict: dict) -> list[str]:
    """A verdict as the learner reads it."""
    status, seconds = verdict["status"], f"{verdict['seconds']:.1f} s"
    if status == "passed":
        judged = f"{verdict['total']} tests, {seconds}; judged {verdict['file']}"
        return [f"{paint('passed', 'green')}  {exercise.id}  {paint('(' + judged + ')', 'dim')}"]
    if status == "not started":
        return [
            f"{paint('not started', 'yellow')}  {exercise.id}: the body of {exercise.name} is still to be written, in "
            f"{verdict['file']}"
        ]
    title = {"failed": "not yet", "timeout": "time-out"}.get(status, status)
    lines = [f"{paint(title, 'red')}  {exercise.id}  {paint('(' + exercise.target + ', ' + seconds + ')', 'dim')}"]
    if verdict.get("stage") == "compiled":
        lines.append("As plain Python it passed; this is what happens when Numba compiles it.")
    if verdict.get("message"):
        lines += textwrap.wrap(verdict["message"], 110, replace_whitespace=False, break_on_hyphens=False)
    if verdict.get("lesson"):
        lines += ["", *explain(verdict["lesson"]), ""]
    if verdict.get("printed"):
        lines += ["your code printed:", *("    " + line for line in verdict["printed"].splitlines()[-20:])]
    if status == "failed" and verdict.get("total"):
        lines.append(
            paint(f"{verdict['passed']} of {verdict['total']} tests pass; this is the first that does not, ", "dim")
            + paint(verdict["test"], "dim")
        )
    return lines
