"""Is every exercise sound?  What continuous integration asks of each:

- the target is there, with a docstring; there are three hints; stub and graft give back every byte
- the library's own solution passes, also with every later exercise blanked
- so do solutions in another style (solutions.py, solutions_more.py)
- the blank is reported as not started; zeros, and an empty value of the right type, fail

and with `--mutants` of all of them: wrong solutions made by machine and by hand fail, and the likely cause is named.
"""

from __future__ import annotations

import ast
import textwrap
import time

from tests.exercises import solutions, wrapped
from tests.exercises.catalogue import Course, Exercise
from tests.exercises.report import paint
from tests.exercises.surgery import Cut, SurgeryError, cut
from tests.exercises.variants import Variant, verdicts
from tests.exercises.workspace import library_cut


def run(course: Course, exercises: list[Exercise], mutants: bool = False, jobs: int = 2) -> int:
    """Audit these exercises, print what is found, and return 0 if all is well."""
    began = time.monotonic()
    faults: list[str] = []
    whole = []  # the exercises whose target is there, whatever else is wrong with them
    for exercise in course.exercises:
        found = static_faults(course, exercise)
        faults += [f"{exercise.id}: {fault}" for fault in found if exercise in exercises]
        if not any("the target" in fault for fault in found):
            whole.append(exercise)
    sound = [exercise for exercise in exercises if exercise in whole]
    judged = 0
    for variant, verdict in verdicts(course, [v for e in sound for v in variants(course, e, whole)], jobs):
        judged += 1
        wanted = EXPECTED[variant.name]
        if verdict["status"] not in wanted:
            detail = verdict.get("message") or verdict.get("lesson") or ""
            faults.append(f"{variant.exercise.id}: {variant.name}: {verdict['status']}, not {wanted[0]}. {detail}")
    for fault in faults:
        print(paint("fault", "red"), fault)
    seconds = time.monotonic() - began
    print(f"audit: {len(exercises)} exercises, {judged} judgements, {len(faults)} faults, {seconds:.0f} s")
    if mutants:
        from tests.exercises import mutants as machine

        faults += machine.report(course, sound, jobs)
    return 1 if faults else 0


EXPECTED = {
    "the solution": ("passed",),
    "the solution with every later exercise blanked": ("passed",),
    "another right solution": ("passed",),
    "the blank": ("not started",),
    "zeros": ("failed",),
    "an empty value": ("failed",),
}


def static_faults(course: Course, exercise: Exercise) -> list[str]:
    """What is wrong with an exercise on paper."""
    faults = []
    if len(exercise.hints) != 3 or not all(hint.strip() for hint in exercise.hints):
        faults.append(f"there should be three hints; there are {len(exercise.hints)}")
    if not (exercise.title and exercise.chapter):
        faults.append("it has no title or no chapter")
    if not (course.root / exercise.tests).is_file():
        faults.append(f"there is no file {exercise.tests}")
    try:
        original = library_cut(course, exercise)
    except (OSError, SurgeryError) as error:
        return [*faults, f"the target {exercise.target} is not there: {error}"]
    if not ast.get_docstring(original.node) and not _class_docstring(course, exercise):
        faults.append(f"{exercise.target} has no docstring, nor has its class")
    source = (course.root / exercise.path).read_bytes()
    stubbed = original.with_body(original.layout(exercise.stub))
    if cut(stubbed, exercise.name).with_body(original.body) != source:
        faults.append("stub and graft do not give back every byte")
    again = original.with_body(original.layout(original.text))
    if cut(again, exercise.name).fingerprint() != original.fingerprint():
        faults.append("its body does not survive being laid out again")
    return faults


def variants(course: Course, exercise: Exercise, whole: list[Exercise]) -> list[Variant]:
    """What is judged for one exercise; `whole` are those that can be blanked."""
    original = library_cut(course, exercise)
    later = tuple((other, other.stub) for other in course.later(exercise) if other in whole)
    others = solutions.of(exercise.id)
    return [
        *(Variant(exercise, "another right solution", ((exercise, textwrap.dedent(body)),)) for body in others),
        Variant(exercise, "the solution"),
        Variant(exercise, "the solution with every later exercise blanked", later),
        Variant(exercise, "the blank", ((exercise, exercise.stub),)),
        Variant(exercise, "zeros", ((exercise, hollow(original, _ZEROS)),)),
        Variant(exercise, "an empty value", ((exercise, hollow(original, _EMPTY)),)),
    ]


_ZEROS = """\
def _hollow(value):
    if isinstance(value, (list, tuple)):
        return type(value)(_hollow(v) for v in value)
    if isinstance(value, dict):
        return {key: _hollow(v) for key, v in value.items()}
    if value is None or isinstance(value, str):
        return value and type(value)()
    return iter(()) if hasattr(value, "send") else value * 0
"""
_EMPTY = """\
def _hollow(value):
    import numpy as np
    if value is None or isinstance(value, (list, tuple, dict, str, int, float)):
        return None if value is None else type(value)()
    if hasattr(value, "requires_grad"):
        return type(value)(np.zeros((0,) * value.ndim, value.dtype))
    return iter(()) if hasattr(value, "send") else np.zeros((0,) * np.ndim(value))
"""


def hollow(original: Cut, maker: str) -> str:
    """A body that runs the solution on copies of its arguments and returns something of the same type, but empty.

    So its effects are gone, whether it returns its result or writes it into an argument.
    """
    a = original.node.args
    copies = "".join(f"{arg.arg} = _copied({arg.arg})\n" for arg in [*a.posonlyargs, *a.args])
    return wrapped.around(
        original,
        "def _copied(value):\n"
        "    import copy\n"
        "    try:\n"
        "        return copy.deepcopy(value)\n"
        "    except Exception:\n"
        "        return value\n"
        f"{maker}{copies}return _hollow(_solution({{1}}))",
    )


def _class_docstring(course: Course, exercise: Exercise) -> str | None:
    """The docstring of the class around a method: `forward` and `backward` share their formula there."""
    scope: ast.AST = ast.parse((course.root / exercise.path).read_bytes())
    for part in exercise.name.split(".")[:-1]:
        scope = next(n for n in ast.walk(scope) if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == part)
    return ast.get_docstring(scope) if isinstance(scope, ast.ClassDef) else None
