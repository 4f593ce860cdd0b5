"""The learner's working copy: the library, with the functions they are writing blanked out or written.

workspace/nn, datasets, generators   the copy
workspace/progress.txt               see progress.py
workspace/library.txt                the library's files as they were copied, by hash: to notice when it moves on
workspace/backups/DATE/              what `reset` and a newer library have replaced
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

from tests.exercises.catalogue import PACKAGES, Course, Exercise, ExerciseError
from tests.exercises.judge import is_blank
from tests.exercises.progress import Progress
from tests.exercises.surgery import Cut, SurgeryError, cut


def library_files(course: Course) -> list[str]:
    """The files that a workspace has a copy of, relative to the root."""
    found = []
    for package in PACKAGES:
        for path in sorted((course.root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found.append(path.relative_to(course.root).as_posix())
    return found


def copy_library(course: Course, workspace: Path) -> None:
    """A copy with nothing blanked; times of change are kept, by which Numba's cache knows a file."""
    for name in library_files(course):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(course.root / name, workspace / name)


def library_cut(course: Course, exercise: Exercise) -> Cut:
    """The library's own function, cut around its body."""
    return cut((course.root / exercise.path).read_bytes(), exercise.name)


def put(workspace: Path, exercise: Exercise, body: str | bytes) -> None:
    """Put a body in place of the one in the workspace: text laid out for its place, bytes as they are."""
    path = workspace / exercise.path
    found = cut(path.read_bytes(), exercise.name)
    path.write_bytes(found.with_body(body if isinstance(body, bytes) else found.layout(body)))


def blank(workspace: Path, exercise: Exercise) -> None:
    put(workspace, exercise, exercise.stub)


def start(course: Course, exercise: Exercise, progress: Progress) -> list[str]:
    """Make or refresh the working copy for this exercise; returns what there is to tell.

    Code that was written stays, whichever exercise it belongs to.  Other blanks that nobody has filled are solved
    again, so that they do not stand in the way.
    """
    notes = _refresh(course, progress)
    for other in course.exercises:
        if other.id == exercise.id:
            continue
        try:
            found = own(course, other)
        except ExerciseError as error:
            note = f"It stays as it is: {error}"
            notes += [note] * (note not in notes)
            continue
        if is_blank(found, other):  # of one that is "new", too: progress.txt may have been lost
            if found.text not in ("", "pass", other.stub):  # notes in comments, say
                notes.append(f"{other.id}: what stood in its blank is kept in {_backup(course, other.path)}")
            put(course.workspace, other, library_cut(course, other).body)
            progress.forget(other.id)
            notes.append(f"{other.id} was still blank: the library's own code stands there again.")
    found = own(course, exercise)
    if progress.state(exercise.id) != "new":
        notes.append(f"{exercise.id} was begun before: your code is as you left it (`reset` would blank it again).")
    elif found.fingerprint() == library_cut(course, exercise).fingerprint():
        if found.body != library_cut(course, exercise).body:
            notes.append(f"What stood there is kept in {_backup(course, exercise.path)}")
        blank(course.workspace, exercise)
        progress.begin(exercise.id)
    else:  # written before its start, or started and then progress.txt was lost
        progress.begin(exercise.id)
        if not is_blank(found, exercise):
            notes.append(f"{exercise.id} holds code that is not the library's: it stays (`reset` would blank it).")
    progress.current = exercise.id
    progress.save()
    return notes


def reset(course: Course, exercise: Exercise, progress: Progress) -> Path:
    """Blank the function again; the file as it was is kept, and its place returned."""
    if progress.state(exercise.id) == "new":
        raise ExerciseError(f"{exercise.id} was never started, so there is nothing to reset")
    backup = _backup(course, exercise.path)
    try:
        blank(course.workspace, exercise)
    except SurgeryError:  # the file is not Python any more: begin with the library's
        _rebuild(course, exercise.path, progress, without=exercise)
        blank(course.workspace, exercise)
    progress.begin(exercise.id)
    progress.save()
    return backup


def fingerprint(course: Course, exercise: Exercise) -> str | None:
    """The fingerprint of the learner's code, or None where it cannot be read."""
    try:
        return own(course, exercise).fingerprint()
    except (ExerciseError, OSError):
        return None


def own(course: Course, exercise: Exercise) -> Cut:
    """The learner's function, cut around its body; ExerciseError names the file where that cannot be read."""
    path = course.workspace / exercise.path
    try:
        return cut(path.read_bytes(), exercise.name)
    except SurgeryError as error:
        raise ExerciseError(f"{course.workspace.name}/{exercise.path}, {error}") from error


def _refresh(course: Course, progress: Progress) -> list[str]:
    """Bring files that the library has changed since they were copied up to date, keeping what the learner wrote."""
    notes = []
    record = course.workspace / "library.txt"
    known = {}
    if record.exists():
        known = dict(reversed(line.split("  ", 1)) for line in record.read_text(encoding="utf-8").splitlines())
    current = {name: _hash(course.root / name) for name in library_files(course)}
    for name in known.keys() - current.keys():
        if (course.workspace / name).exists():
            _backup(course, name)
            (course.workspace / name).unlink()
    for name, digest in current.items():
        path = course.workspace / name
        if path.exists() and known.get(name) == digest:
            continue
        if not path.exists() or _hash(path) == known.get(name):
            gone = not path.exists()
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(course.root / name, path)
            begun = [e for e in course.exercises if e.path == name and progress.state(e.id) != "new"]
            for exercise in begun if gone else ():  # or the library's solution would stand there as the learner's
                blank(course.workspace, exercise)
                progress.begin(exercise.id)
            if gone and begun:
                ids = ", ".join(e.id for e in begun)
                notes.append(f"{name} was gone from {course.workspace.name}/: copied anew, and blank again: {ids}")
            continue
        backup = _backup(course, name)
        moved = ", ".join(_rebuild(course, name, progress)) or "none, since progress.txt names none"
        notes.append(f"The library's {name} has changed. Of yours was moved into it: {moved}. As it was: {backup}")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("".join(f"{digest}  {name}\n" for name, digest in current.items()), encoding="utf-8")
    return notes


def _rebuild(course: Course, name: str, progress: Progress, without: Exercise | None = None) -> list[str]:
    """The library's file with the bodies that the learner has begun put in; the ids of these."""
    moved = []
    path = course.workspace / name
    source = (course.root / name).read_bytes()
    for exercise in course.exercises:
        if exercise.path != name or exercise == without or progress.state(exercise.id) == "new":
            continue
        try:
            own = cut(path.read_bytes(), exercise.name)
        except SurgeryError:
            continue
        place = cut(source, exercise.name)
        source = place.with_body(own.body if own.indent == place.indent else place.layout(own.text))
        moved.append(exercise.id)
    path.write_bytes(source)
    return moved


def _backup(course: Course, name: str) -> Path:
    stamp = time.strftime("%Y-%m-%d-%H%M%S")
    target = course.workspace / "backups" / stamp / name
    number = 1
    while target.exists():
        number += 1
        target = course.workspace / "backups" / f"{stamp}-{number}" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(course.workspace / name, target)
    return target


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
