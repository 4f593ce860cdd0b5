"""The commands. Each says what it did and what may come next; exit status 0, 1 (judged wrong) or 2 (not understood)."""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
import time

from tests.exercises import workspace as desk
from tests.exercises.catalogue import Course, Exercise, ExerciseError
from tests.exercises.judge import REPOSITORY, Judge, is_blank
from tests.exercises.progress import Progress
from tests.exercises.report import paint, verdict_lines
from tests.exercises.surgery import SurgeryError

RUN = "python -m tests.exercises"


def main(arguments: list[str] | None = None, course: Course | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        course = course or Course.at(REPOSITORY)
        progress = Progress.read(course.workspace / "progress.txt")
        return options.run(course, progress, options) or 0
    except (ExerciseError, SurgeryError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print()
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog=RUN, description="Write Inkling's functions yourself, and be judged.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run, about: str, id: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        command.set_defaults(run=run)
        if id:
            command.add_argument("id", nargs="?", help="the exercise; by default the current one")
        return command

    add("list", show_list, "chapters, exercises, and how far you are", id=False)
    add("start", start, "blank out a function in your working copy (by default the next one)")
    check = add("check", check_one, "judge what you wrote")
    check.add_argument("--replay", action="store_true", help="only the test that failed last; shows what you print")
    add("next", start_next, "start the first exercise that has not passed", id=False)
    add("hint", hint, "one hint more: the concept, the shapes, pseudo-code")
    diff = add("diff", show_diff, "your code beside the library's, once it has passed")
    diff.add_argument("--give-up", action="store_true", help="show it although it has not passed")
    add("watch", watch, "check the exercise again on every save, until Ctrl-C")
    add("reset", reset, "blank the function again; your code is kept as a backup")
    audit = add("audit", run_audit, "for the project itself: is every exercise sound?")
    audit.add_argument("--mutants", action="store_true", help="judge hundreds of wrong solutions too; takes minutes")
    audit.add_argument("--jobs", type=int, default=2, help="processes at a time (default 2)")
    return top


def show_list(course: Course, progress: Progress, options) -> None:
    chapter = None
    marks = {"passed": paint("passed ", "green"), "started": paint("started", "yellow"), "new": "       "}
    for number, exercise in enumerate(course.exercises, start=1):
        if exercise.chapter != chapter:
            chapter = exercise.chapter
            members = [e for e in course.exercises if e.chapter == chapter]
            passed = sum(progress.state(e.id) == "passed" for e in members)
            print(f"\n{paint(chapter, 'bold')}  {passed}/{len(members)}")
        state = progress.state(exercise.id)
        note = paint("  <- here", "yellow") if exercise.id == progress.current else ""
        if state == "passed" and desk.fingerprint(course, exercise) != progress.entries[exercise.id].code:
            note += paint("  changed since it passed", "yellow")
        print(f"  {number:2}  {marks[state]}  {exercise.id:28} {exercise.title}{note}")
    done = sum(progress.state(e.id) == "passed" for e in course.exercises)
    print(f"\n{done} of {len(course.exercises)} passed.  {_then(course, progress)}")


def start(course: Course, progress: Progress, options) -> None:
    exercise = course.get(options.id) if options.id else _first_open(course, progress)
    for note in desk.start(course, exercise, progress):
        print(note)
    place = course.workspace / exercise.path
    line = desk.own(course, exercise).node.lineno
    print(f"{paint(exercise.id, 'bold')}  {exercise.title}  ({exercise.chapter})")
    print(f"Write  {exercise.name}  in  {_shown(place)}:{line}")
    print(f"then   {RUN} check     (or `watch` while you write; `hint` if you are stuck)")


def start_next(course: Course, progress: Progress, options) -> None:
    options.id = None
    start(course, progress, options)


def check_one(course: Course, progress: Progress, options) -> int:
    exercise = _chosen(course, progress, options)
    if progress.state(exercise.id) == "new":
        print(f"{paint('not started', 'yellow')}  {exercise.id}: begin with  {RUN} start {exercise.id}")
        return 0
    only = None
    if options.replay:
        only = progress.entries[exercise.id].failing
        if only == "-":
            raise ExerciseError(f"there is no failed test of {exercise.id} to replay; `check` judges it")
    with Judge(course) as judge:
        return _judge_once(course, progress, exercise, judge, only)


def _judge_once(course: Course, progress: Progress, exercise: Exercise, judge: Judge, only: str | None = None) -> int:
    verdict = judge.verdict(exercise, course.workspace, only=only)
    print("\n".join(verdict_lines(exercise, verdict)))
    status = verdict["status"]
    if status == "not started":
        print(f"Write it, then check again; `{RUN} hint` helps.")
        return 0
    if only:
        return 0 if status == "passed" else 1
    if status in ("passed", "failed", "timeout", "crashed"):
        code = desk.fingerprint(course, exercise) or "-"
        progress.record(exercise.id, status == "passed", code, verdict.get("test", "-"))
        progress.save()
    if status == "passed":
        print(f"`{RUN} diff` shows the library's code beside yours.  {_then(course, progress)}")
        return 0
    unsure = _unpassed_before(course, progress, exercise)
    if unsure:
        print(f"Also written by you and not passed yet: {', '.join(unsure)}; the cause may lie there.")
    return 2 if status in ("refused", "error") else 1


def hint(course: Course, progress: Progress, options) -> None:
    exercise = _chosen(course, progress, options)
    if progress.state(exercise.id) == "new":
        raise ExerciseError(f"{exercise.id} is not started yet: {RUN} start {exercise.id}")
    entry = progress.entries[exercise.id]
    entry.hints = min(entry.hints + 1, len(exercise.hints))
    progress.save()
    for number in range(entry.hints):
        print(paint(f"hint {number + 1} of {len(exercise.hints)}", "bold"))
        print("\n".join("  " + line for line in exercise.hints[number].splitlines()) + "\n")
    if entry.hints == len(exercise.hints):
        print(f"These are all of them. To see the library's code: {RUN} diff --give-up")


def show_diff(course: Course, progress: Progress, options) -> None:
    exercise = _chosen(course, progress, options)
    if progress.state(exercise.id) == "new":
        raise ExerciseError(f"{exercise.id} is not started yet: {RUN} start {exercise.id}")
    if progress.state(exercise.id) != "passed" and not options.give_up:
        raise ExerciseError(f"{exercise.id} has not passed yet; --give-up shows the library's code all the same")
    for line in side_by_side(desk.own(course, exercise).text, desk.library_cut(course, exercise).text):
        print(line)


def side_by_side(yours: str, ours: str) -> list[str]:
    """Two texts in two columns where the terminal is wide enough for both, else one below the other."""
    left, right = yours.splitlines(), ours.splitlines()
    width = max([len(line) for line in left] + [len("yours")]) + 3
    if width + max(len(line) for line in right) > shutil.get_terminal_size().columns:
        return [
            paint("yours", "bold"),
            *("  " + x for x in left),
            "",
            paint("the library's", "bold"),
            *("  " + x for x in right),
        ]
    rows = [paint("yours".ljust(width) + "the library's", "bold")]
    for kind, a, b, c, d in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for i in range(max(b - a, d - c)):
            one = left[a + i] if a + i < b else ""
            two = right[c + i] if c + i < d else ""
            row = one.ljust(width) + two
            rows.append(row.rstrip() if kind == "equal" else paint(row.rstrip(), "yellow"))
    return rows


def reset(course: Course, progress: Progress, options) -> None:
    exercise = _chosen(course, progress, options)
    backup = desk.reset(course, exercise, progress)
    print(f"{exercise.id} is blank again. Your file as it was: {_shown(backup)}")


def watch(course: Course, progress: Progress, options) -> None:
    """Judge on every save. The exercise stays the same, also when it has passed: going on is the learner's to say."""
    exercise = _chosen(course, progress, options)
    if progress.state(exercise.id) == "new":
        raise ExerciseError(f"{exercise.id} is not started yet: {RUN} start {exercise.id}")
    seen = None
    with Judge(course) as judge:
        while True:
            now = _stamps(course)
            if now != seen:
                if sys.stdout.isatty():
                    print("\033[2J\033[H", end="")
                seen = now
                progress = Progress.read(progress.path)
                _judge_once(course, progress, exercise, judge)
                print(paint("watching: save to check again, Ctrl-C to end", "dim"), flush=True)
            time.sleep(0.3)


def run_audit(course: Course, progress: Progress, options) -> int:
    from tests.exercises import audit

    chosen = [course.get(options.id)] if options.id else list(course.exercises)
    return audit.run(course, chosen, mutants=options.mutants, jobs=options.jobs)


def _stamps(course: Course) -> dict:
    stamps = {}
    for package in desk.PACKAGES:
        for path in (course.workspace / package).rglob("*.py"):
            try:
                status = path.stat()
            except OSError:  # an editor that saves by renaming may be between two steps
                continue
            stamps[path] = (status.st_mtime_ns, status.st_size)
    return stamps


def _chosen(course: Course, progress: Progress, options) -> Exercise:
    if options.id:
        return course.get(options.id)
    if progress.current is None:
        raise ExerciseError(f"nothing is started yet: {RUN} start")
    return course.get(progress.current)


def _first_open(course: Course, progress: Progress) -> Exercise:
    for exercise in course.exercises:
        if progress.state(exercise.id) != "passed":
            return exercise
    raise ExerciseError("every exercise has passed: there is nothing left to start")


def _then(course: Course, progress: Progress) -> str:
    left = [e for e in course.exercises if progress.state(e.id) != "passed"]
    return f"Next: {RUN} next  ({left[0].id})" if left else "That was the last one: all have passed."


def _unpassed_before(course: Course, progress: Progress, exercise: Exercise) -> list[str]:
    names = []
    for other in course.exercises:
        if other != exercise and progress.state(other.id) == "started":
            try:
                if not is_blank(desk.own(course, other), other):
                    names.append(other.id)
            except (OSError, ExerciseError):
                names.append(other.id)
    return names


def _shown(path) -> str:
    try:
        return str(path.relative_to(REPOSITORY))
    except ValueError:
        return str(path)
