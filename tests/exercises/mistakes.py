"""Wrong solutions made by hand: what people really get wrong, and the cause that the checker should name for each.

Among them are the classic mistakes of small repositories: a time index that is off by one and wraps around, captions
dropped for the whole batch, the sign of the guidance, a KL weight that is never used, a log-determinant with the wrong
sign, a largest noise level that is never drawn, a softmax whose backward returns zeros.
"""
from __future__ import annotations

from dataclasses import dataclass

from tests.exercises.catalogue import Course
from tests.exercises.mistakes_engine import ENGINE
from tests.exercises.mistakes_families import FAMILIES
from tests.exercises.variants import Variant
from tests.exercises.workspace import library_cut


@dataclass(frozen=True)
class Mistake:
    exercise: str
    about: str
    cause: str  # a piece of the cause that must be named
    old: str  # the piece of the solution, as it is written in the library ...
    new: str  # ... and what the mistake puts there; an old piece of "" means the whole body


def variant(course: Course, mistake: Mistake) -> Variant:
    """The library with this mistake in it; raises ValueError where the solution has no such piece any more."""
    exercise = course.get(mistake.exercise)
    text = library_cut(course, exercise).text
    if mistake.old not in text:
        raise ValueError(f"{mistake.exercise}: {mistake.about}: the solution does not contain {mistake.old!r} any more")
    body = text.replace(mistake.old, mistake.new, 1) if mistake.old else mistake.new
    return Variant(exercise, mistake.about, ((exercise, body),))


# Mutants that are no mistakes: (exercise, what was changed) -> why no test can or should fail them.
HARMLESS: dict[tuple[str, str], str] = {}

ALL = [Mistake(exercise, *rest) for exercise, several in {**ENGINE, **FAMILIES}.items() for rest in several]
