"""Judging many variants of the library, several at a time: what audit.py and the tests of the exercises stand on."""

from __future__ import annotations

import compileall
import os
import queue
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.exercises.catalogue import Course, Exercise
from tests.exercises.judge import Judge
from tests.exercises.surgery import cut
from tests.exercises.workspace import copy_library


@dataclass(frozen=True)
class Variant:
    """A library with some bodies replaced, and the exercise that it is to be judged by."""

    exercise: Exercise
    name: str
    bodies: tuple[tuple[Exercise, str], ...] = ()


class _Station:
    """One copy of the library and one judging process; a variant's files are put in and taken out again."""

    def __init__(self, course: Course, tree: Path, judge: Judge):
        self.course, self.tree, self.judge = course, tree, judge

    def verdict(self, variant: Variant, timeout: float | None) -> dict:
        with self._changed(variant.bodies):
            return self.judge.verdict(variant.exercise, self.tree, timeout=timeout)

    @contextmanager
    def _changed(self, bodies: Iterable[tuple[Exercise, str]]) -> Iterator[None]:
        sources: dict[str, bytes] = {}
        for exercise, body in bodies:
            found = cut(sources.get(exercise.path) or (self.tree / exercise.path).read_bytes(), exercise.name)
            sources[exercise.path] = found.with_body(found.layout(body))
        before = {name: ((self.tree / name).read_bytes(), (self.tree / name).stat()) for name in sources}
        for name, source in sources.items():
            (self.tree / name).write_bytes(source)
        try:
            yield
        finally:
            for name, (source, status) in before.items():  # with its time, by which its compiled form is known
                (self.tree / name).write_bytes(source)
                os.utime(self.tree / name, ns=(status.st_atime_ns, status.st_mtime_ns))


def verdicts(
    course: Course, variants: Iterable[Variant], jobs: int = 2, timeout: float | None = None
) -> Iterator[tuple[Variant, dict]]:
    """The verdict on each variant, in order."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="inkling-audit-")))
        stations: queue.Queue[_Station] = queue.Queue()
        copy_library(course, scratch / "0")
        compileall.compile_dir(scratch / "0", quiet=2)
        for number in range(jobs):
            if number:
                shutil.copytree(scratch / "0", scratch / str(number))
            judge = stack.enter_context(Judge(course, preload=True))
            stations.put(_Station(course, scratch / str(number), judge))

        def work(variant: Variant) -> tuple[Variant, dict]:
            station = stations.get()
            try:
                return variant, station.verdict(variant, timeout)
            finally:
                stations.put(station)

        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        yield from pool.map(work, variants)
