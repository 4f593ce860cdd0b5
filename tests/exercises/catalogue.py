"""What an exercise is, and the list of them: exercises.toml."""

from __future__ import annotations

import ast
import difflib
import re
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("disk", "nn", "datasets", "generators")  # what a workspace holds a copy of


class ExerciseError(ValueError):
    """Something that the learner can put right, said in one sentence."""


@dataclass(frozen=True)
class Exercise:
    id: str
    chapter: str
    title: str
    target: str  # `nn.ops.conv:Conv2d.backward`
    tests: str  # the file whose tests, marked with this id, judge it
    hints: tuple[str, ...]  # the concept, the shapes, pseudo-code
    compiled: bool = False  # the target is a Numba kernel: judged as plain Python, then compiled with bounds checks

    @property
    def stages(self) -> tuple[str, ...]:
        """How it is judged, one after the other; see judge.py."""
        return ("plain", "compiled") if self.compiled else ("plain",)

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def name(self) -> str:
        return self.target.partition(":")[2]

    @property
    def path(self) -> str:
        return self.module.replace(".", "/") + ".py"

    @property
    def stub(self) -> str:
        context = "# Leave in ctx what the backward below reads.\n" if self.name.endswith(".forward") else ""
        return (
            f"# Exercise {self.id}: write this. Then: python -m tests.exercises check\n"
            f'{context}raise NotImplementedError("{self.id}")'
        )


@dataclass(frozen=True)
class Course:
    """A library to learn from, the exercises taken from it, and where the learner works."""

    root: Path
    exercises: tuple[Exercise, ...]
    workspace: Path

    @classmethod
    def at(cls, root: Path, workspace: Path | None = None) -> Course:
        text = (root / "tests/exercises/exercises.toml").read_text(encoding="utf-8")
        return cls(root, tuple(exercises(read_toml(text))), workspace or root / "workspace")

    def get(self, id: str) -> Exercise:
        for exercise in self.exercises:
            if exercise.id == id:
                return exercise
        near = [e.id for e in self.exercises if _alike(id, e.id)][:3]
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `list` shows them all"
        raise ExerciseError(f"there is no exercise {id!r}{hint}")

    def later(self, exercise: Exercise) -> tuple[Exercise, ...]:
        return self.exercises[self.exercises.index(exercise) + 1 :]


def exercises(table: dict) -> list[Exercise]:
    """The exercises of a parsed exercises.toml, in its order; the chapter's title holds until the next one."""
    found: list[Exercise] = []
    for entry in table["exercise"]:
        entry = {"chapter": found[-1].chapter if found else "", **entry}
        entry["hints"] = tuple(hint.strip("\n") for hint in entry["hints"])
        found.append(Exercise(**entry))
    ids = [e.id for e in found]
    if len(set(ids)) != len(ids):
        raise ExerciseError(f"exercises.toml has an id twice: {sorted(i for i in ids if ids.count(i) > 1)[0]}")
    return found


def read_toml(text: str) -> dict:
    """A TOML file of the plain kind: [[tables]], and keys whose value is a string, a number, a boolean or a list.

    Python has a reader of its own from 3.11 on only; values of this plain kind are written the same in Python.
    """
    result: dict = {}
    table = result
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        header = re.fullmatch(r"\[\[(\w+)\]\]\s*", line)
        if header:
            table = {}
            result.setdefault(header[1], []).append(table)
            continue
        key, _, value = line.partition("=")
        while (parsed := _value(value)) is None:
            value += "\n" + next(lines)  # a list or a string that goes on
        table[key.strip()] = parsed
    return result


def _value(text: str):
    """The value written there, or None while it is not complete."""
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return None


def _alike(given: str, known: str) -> bool:
    return given in known or known in given or difflib.SequenceMatcher(None, given, known).ratio() > 0.6
