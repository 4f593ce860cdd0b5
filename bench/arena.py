"""Contestants in processes of their own, taking turns."""
from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OURS = {"ours": ("ours", "2"), "ours_1_thread": ("ours", "1")}
TORCH = {f"torch_{way}": ("torch", way) for way in ("eager", "channels_last", "compile", "pair")}
ALL = OURS | TORCH
PAUSE = 0.7  # seconds between turns: OpenMP's threads spin on for about 0.2 s after work


def torch_is_installed() -> bool:
    return importlib.util.find_spec("torch") is not None


class Failed(RuntimeError):
    """A contestant's process ended; the message is the last line that it wrote."""


class Contestant:
    """A running `bench.contestant`; `ask(do, ...)` returns its answer."""

    def __init__(self, name: str, environment: dict[str, str] | None = None):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.contestant", *ALL[name]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            cwd=ROOT, env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self._answer()

    def ask(self, do: str, **options) -> dict:
        try:
            self.process.stdin.write(json.dumps({"do": do, **options}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; what it wrote before says why
        return self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        said = [line.strip() for line in self.errors.read().splitlines() if line.strip()]
        raise Failed(said[-1] if said else f"ended with status {self.process.returncode}")

    def close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.stdout.close()
        self.errors.close()


@dataclass
class Outcome:
    """What was measured of one contestant, in seconds and megabytes; `failure` says why there is nothing."""

    steps: list[float] = field(default_factory=list)
    samples: list[float] = field(default_factory=list)  # seconds for `pictures` pictures
    pictures: int = 0
    first_step: float = math.nan  # compiles
    megabytes: float = math.nan
    gemm: list[float] = field(default_factory=list)  # GFLOP/s of np.matmul after every turn, ours only
    failure: str = ""
    expected: float = math.nan  # a later step and a later painting, by which the turns are measured out
    painting: float = math.nan

    @property
    def milliseconds(self) -> float:
        """The median step."""
        return float(np.median(self.steps)) * 1e3 if self.steps else math.nan

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the steps, in milliseconds."""
        return tuple(float(q) * 1e3 for q in np.quantile(self.steps, [0.25, 0.75])) if self.steps else (math.nan,) * 2

    @property
    def per_second(self) -> float:
        """Pictures painted in a second, by the median time."""
        return self.pictures / float(np.median(self.samples)) if self.samples else math.nan


@contextmanager
def contest(names: list[str]) -> Iterator[dict[str, Contestant]]:
    """The contestants, started; closed at the end."""
    running: dict[str, Contestant] = {}
    try:
        for name in names:
            running[name] = Contestant(name)
        yield running
    finally:
        for contestant in running.values():
            contestant.close()


def match(
    names: list[str], build: dict, rounds: int, turn: float, pictures: int = 0, say=lambda text: None
) -> dict[str, Outcome]:
    """Let contestants train the same model, in turns of about `turn` seconds, and then paint, if `pictures` > 0.

    build: the options of `bench.contestant.Contestant.build`.  A contestant that fails drops out.
    """
    outcomes = {name: Outcome(pictures=pictures) for name in names}
    with contest(names) as running:

        def attempt(name: str, work) -> None:
            try:
                work(running[name], outcomes[name])
            except Failed as failure:
                outcomes[name].failure = str(failure)
                say(f"{name} failed: {failure}")

        def everyone(work, number: int = 0) -> None:
            for name in [*names[number % len(names) :], *names[: number % len(names)]]:
                if not outcomes[name].failure:
                    time.sleep(PAUSE)
                    attempt(name, work)

        def warm(contestant: Contestant, outcome: Outcome) -> None:
            say(f"{contestant.name}: first steps")
            if contestant.name in OURS:
                contestant.ask("gemm")  # so that its matrices are there before memory is counted
            contestant.ask("build", **build)
            outcome.first_step = contestant.ask("train", steps=1)["seconds"][0]
            outcome.expected = contestant.ask("train", steps=2)["seconds"][-1]

        def train(contestant: Contestant, outcome: Outcome) -> None:
            steps = max(2, min(200, round(turn / outcome.expected)))
            outcome.steps += contestant.ask("train", steps=steps)["seconds"]
            if contestant.name in OURS:
                outcome.gemm.append(contestant.ask("gemm")["gflops"])

        def remember(contestant: Contestant, outcome: Outcome) -> None:
            outcome.megabytes = contestant.ask("memory")["megabytes"]

        def paint(contestant: Contestant, outcome: Outcome) -> None:
            if not outcome.samples:
                outcome.painting = contestant.ask("sample", count=pictures, times=2)["seconds"][-1]
            times = max(2, min(200, round(turn / outcome.painting)))
            outcome.samples += contestant.ask("sample", count=pictures, times=times)["seconds"]

        everyone(warm)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: training")
            everyone(train, number)
        everyone(remember)
        for number in range(rounds if pictures else 0):
            say(f"round {number + 1} of {rounds}: sampling")
            everyone(paint, number)
    return outcomes


def series(names: list[str], builds: dict[str, dict], rounds: int, turn: float) -> dict[str, dict[str, Outcome]]:
    """Let contestants train several models, all of them in every round, so that their times can be compared too.

    builds: options of `bench.contestant.Contestant.build`, by a name -> outcomes by that name and by contestant.
    Each is built anew for each turn, and dropped after it; the first steps, on memory never touched before, take up to
    a tenth longer, so of a turn twice as long the second half counts.
    """
    outcomes = {key: {name: Outcome() for name in names} for key in builds}
    with contest(names) as running:
        for number in range(rounds):
            for key, build in builds.items():
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    outcome = outcomes[key][name]
                    if outcome.failure:
                        continue
                    time.sleep(PAUSE)
                    try:
                        running[name].ask("build", **build)
                        warm = running[name].ask("train", steps=3)["seconds"]
                        steps = max(2, min(200, round(turn / warm[-1])))
                        outcome.steps += running[name].ask("train", steps=2 * steps)["seconds"][steps:]
                    except Failed as failure:  # out of memory, perhaps: the next model may still be small enough
                        outcome.failure = str(failure)
                        running[name].close()
                        running[name] = Contestant(name)
    return outcomes


def ask_once(name: str, do: str, environment: dict[str, str] | None = None, **options) -> dict:
    """One question to a contestant that is started for it."""
    contestant = Contestant(name, environment)
    try:
        return contestant.ask(do, **options)
    finally:
        contestant.close()
