"""Does the suite see a mistake, wherever it is made?  Wrong functions, made by machine, and the tests that see them.

    python -m tests.mutation --calls calls.json                  # once, half an hour: which test enters which function
    python -m tests.mutation --calls calls.json --count 300      # then mutants, each in a copy of the library

A mutant differs from the library in one place of a function: a sign, an operand, a condition (`exercises/mutants.py`).
Functions are drawn from `nn` and `generators` outside the exercises, whose mutants are `python -m tests.exercises audit
--mutants`' affair.  Of each function one mutant is taken, and the tests that enter it are run on that, the quickest
first, until one fails: then it is killed.  What survives is either a hole in the suite or changes nothing that matters;
for the latter `mutation.toml` has the reason.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from tqdm import tqdm

from tests.exercises import mutants
from tests.exercises.catalogue import Course
from tests.exercises.surgery import Def, cut

ROOT = Path(__file__).parents[1]
PACKAGES = ("nn", "generators")
SECONDS = 60.0  # of tests, as they took without tracing, that a mutant is shown


# Which test enters which function ------------------------------------------------------------------------------------


class Recorder:
    """A pytest plugin: {"path:function": {test: seconds}} of all that a test enters, in this process, in any thread.

    What a fixture enters that several tests share counts for the first of them, which is run alone on a mutant.
    """

    def __init__(self, file: str):
        self.file, self.entered, self.calls, self.seconds = file, set(), {}, 0.0
        self.mine = tuple(str(ROOT / package) + os.sep for package in PACKAGES)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        self.entered.clear()
        self.seconds = 0.0
        threading.settrace(self.trace)
        sys.settrace(self.trace)

    def pytest_runtest_logreport(self, report):
        self.seconds += report.duration
        if report.when == "call" and report.passed:
            for code in self.entered:
                self.calls.setdefault(name_of(code), {})[report.nodeid] = round(self.seconds, 3)

    def pytest_runtest_teardown(self):
        sys.settrace(None)
        threading.settrace(None)

    def pytest_sessionfinish(self):
        Path(self.file).write_text(json.dumps(self.calls, indent=0, sort_keys=True), encoding="utf-8")

    def trace(self, frame, event, argument):
        if frame.f_code.co_filename.startswith(self.mine):
            self.entered.add(frame.f_code)


def name_of(code) -> str:
    path = Path(code.co_filename).relative_to(ROOT).as_posix()
    return f"{path}:{code.co_qualname.replace('.<locals>', '')}"


# The mutants ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    path: str
    function: str
    about: str  # what became of what
    source: bytes  # of the whole file

    @property
    def name(self) -> str:
        return f"{self.path}:{self.function}: {self.about}"


def functions(path: Path) -> Iterator[str]:
    """The dotted names of all functions and methods of a file."""

    def inside(scope: ast.AST, name: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(scope):
            if isinstance(child, ast.ClassDef):
                yield from inside(child, f"{name}{child.name}.")
            elif isinstance(child, Def):
                yield name + child.name

    yield from inside(ast.parse(path.read_bytes()), "")


def drawn(count: int, seed: int) -> list[Mutant]:
    """One mutant of each of `count` functions, or of all, if there are fewer."""
    taught = {(exercise.path, exercise.name) for exercise in Course.at(ROOT).exercises}
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    names = [(path, name) for path in paths for name in functions(path)]
    rng = random.Random(seed)
    rng.shuffle(names)
    found = []
    for path, name in names:
        relative = path.relative_to(ROOT).as_posix()
        if len(found) == count or (relative, name) in taught:
            continue
        original = cut(path.read_bytes(), name)
        if made := mutants.of(original, limit=30):
            one = rng.choice(made)
            source = original.with_body(original.layout(one.body))
            found.append(Mutant(relative, name, f"{one.kind}: {one.about}", source))
    return found


# Killing them --------------------------------------------------------------------------------------------------------


def importers(path: str) -> Iterator[str]:
    """The files of the library with a line of import that has this one's name, or that of another of that name."""
    named = re.compile(rf"^\s*(from|import)\b.*\b{Path(path).stem}\b", re.MULTILINE)
    for package in PACKAGES:
        for other in sorted((ROOT / package).rglob("*.py")):
            if named.search(other.read_text(encoding="utf-8")):
                yield other.relative_to(ROOT).as_posix()


def tests_of(mutant: Mutant, calls: dict[str, dict[str, float]]) -> list[str]:
    """The tests to run, the quickest first; of what nobody enters those that enter its file, or, if nobody does, the
    files that import it, or that import these, and so on."""
    found, paths, seen = calls.get(f"{mutant.path}:{mutant.function}"), {mutant.path}, set()
    if mutant.path.startswith("nn/kernels/"):  # who entered it was perhaps only the first to compile it
        found = None
        for _ in range(2):
            paths |= {importer for path in paths for importer in importers(path)}
    while not found and paths:
        found = {test: seconds for name, tests in calls.items() if name.partition(":")[0] in paths
                 for test, seconds in tests.items()}  # fmt: skip
        seen |= paths
        paths = {importer for path in paths for importer in importers(path)} - seen
    chosen, spent = [], 0.0
    for test, seconds in sorted((found or {}).items(), key=lambda item: (item[1], item[0])):
        spent += seconds
        if chosen and spent > SECONDS:
            break
        chosen.append(test)
    return chosen


def verdict(mutant: Mutant, tests: list[str], copy: Path) -> str:
    """What became of a mutant: "killed", "survived", or "no test"."""
    if not tests:
        return "no test"
    place = copy / mutant.path
    before, status = place.read_bytes(), place.stat()
    place.write_bytes(mutant.source)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    # A file that is written twice in a second looks the same to Python's cache of compiled code.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=5 * SECONDS, check=False)
        return "survived" if done.returncode == 0 else "killed"
    except subprocess.TimeoutExpired:
        return "killed"
    finally:
        place.write_bytes(before)
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))


def check_tests(calls: dict[str, dict[str, float]]) -> None:
    """Raises SystemExit if the suite lacks a test of the file of calls: every mutant shown to it would seem killed."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-o", "addopts=", "-q", "tests"]
    there = set(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().splitlines())
    if any(test not in there for tests in calls.values() for test in tests):
        raise SystemExit("tests have changed since the file of calls was made; remove it, and it is made anew")


def judge(chosen: list[Mutant], calls: dict, jobs: int) -> Iterator[tuple[Mutant, str]]:
    """The verdict on each mutant, in order."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    with tempfile.TemporaryDirectory(prefix="inkling-mutants-") as scratch, ThreadPoolExecutor(jobs) as pool:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            for name in filter(None, listed.split("\0")):
                (Path(scratch, str(number), name)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, Path(scratch, str(number), name))
            copies.put(Path(scratch, str(number)))

        def work(mutant: Mutant) -> tuple[Mutant, str]:
            copy = copies.get()
            try:
                return mutant, verdict(mutant, tests_of(mutant, calls), copy)
            finally:
                copies.put(copy)

        yield from pool.map(work, chosen)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", required=True, help="the file of what tests enter; it is made where there is none")
    parser.add_argument("--count", type=int, default=0, help="of mutants (default: none)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: 2)")
    options = parser.parse_args(arguments)
    if sys.version_info < (3, 11):
        parser.error("needs Python 3.11, in which a function's code knows its full name")
    import tomllib

    if not Path(options.calls).exists():
        if code := pytest.main(["-q", "-p", "no:cacheprovider", str(ROOT / "tests")], [Recorder(options.calls)]):
            return int(code)
    calls = json.loads(Path(options.calls).read_text(encoding="utf-8"))
    reasons = tomllib.loads((ROOT / "tests" / "mutation.toml").read_text(encoding="utf-8"))["harmless"]
    began, count, killed, open_ = time.monotonic(), 0, 0, 0
    chosen = drawn(options.count, options.seed)
    if chosen:
        check_tests(calls)
    try:
        for mutant, end in tqdm(judge(chosen, calls, options.jobs), total=len(chosen), disable=None):
            count, killed = count + 1, killed + (end == "killed")
            if end != "killed":
                open_ += mutant.name not in reasons
                tqdm.write(f"{end}: {mutant.name}   {reasons.get(mutant.name, '')}")
    except KeyboardInterrupt:
        print("stopped; so far:")
    if count:
        seconds = time.monotonic() - began
        print(f"{count} mutants, {killed / count:.1%} killed, {open_} without a reason, {seconds:.0f} s")
    return int(open_ > 0)


if __name__ == "__main__":
    sys.exit(main())
