"""What a run promises, put to the test.

- kills: training is killed (SIGKILL) at random moments, also inside the checkpoint's write, and resumed, again and
  again; the final weights and metrics must equal, bit for bit, those of a run that nobody killed;
- endurance: a family trains for many steps at tiny size; memory must stay flat, speed must hold (on a machine that has
  nothing else to do).
"""
from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import datasets
from bench.memory import resident_megabytes
from generators import plans, runs
from generators.registry import FAMILIES
from generators.training import Trainer, train
from nn import checkpoint
from nn.parallel import Threads
from tests.reliability.fuzz import inkling, train_arguments

STEPS_PER_KILL = 15


def digest(folder: Path) -> str:
    """A hash of everything that a finished run leaves: each bit of weights, averages, optimiser, and the metrics."""
    arrays, meta = checkpoint.load(folder / "checkpoint.npz")
    found = hashlib.sha256(json.dumps([meta["step"], meta["config"]]).encode())
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    found.update((folder / "metrics.jsonl").read_bytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Kills:
    kills: int
    inside_write: int  # of those, how many left a half-written file behind
    runs: int
    equal: int  # runs whose final bits were those of the run that nobody killed


def kill_and_resume(family: str, folder: Path, kills: int, seed: int = 0) -> Kills:
    """Kill training `kills` times, in as many runs as that takes, resuming each to its end.

    Raises AssertionError if a run ends by itself in any other way, CheckpointError if a kill left one that cannot be
    read.
    """
    steps = STEPS_PER_KILL * max(2, kills)
    _run_to_end(_go_on(family, folder / "undisturbed", steps))
    expected = digest(folder / "undisturbed")
    chance = random.Random(seed)
    killed = inside = count = equal = 0
    while killed < kills:
        count += 1
        run = folder / f"killed-{count}"
        while killed < kills and _kill_once(_go_on(family, run, steps), run, chance):
            killed += 1
            parts = [*run.glob(".inkling-*.part")]
            inside += bool(parts)
            for part in parts:  # else it is counted for the next kill, too
                part.unlink()
            if (run / "checkpoint.npz").exists():
                checkpoint.load(run / "checkpoint.npz")
        _run_to_end(_go_on(family, run, steps))
        equal += digest(run) == expected
    return Kills(killed, inside, count, equal)


def _go_on(family: str, run: Path, steps: int) -> list[str]:
    """The command that begins the run, or goes on with it."""
    begun = (run / "checkpoint.npz").exists()
    return ["train", "--resume", "--out", str(run)] if begun else train_arguments(family, run, steps)


def _run_to_end(arguments: list[str]) -> None:
    outcome = inkling(arguments, seconds=3600)
    assert outcome.status == 0, outcome.errors


def _kill_once(arguments: list[str], run: Path, chance: random.Random) -> bool:
    """Train, with a checkpoint at every step, and kill that somewhere; False if it ended before.

    After 0 steps is before the first one, while kernels are loaded or compiled.
    """
    steps, delay = chance.randrange(2 * STEPS_PER_KILL), chance.uniform(0, 0.1)
    command = [sys.executable, "-m", "generators", *arguments, "--save-every", "1e-9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()  # "vae on digits: ..., 50 steps": now it trains
        begin = _steps_logged(run)
        while process.poll() is None and _steps_logged(run) < begin + steps:
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
    assert process.returncode in (0, -signal.SIGKILL), "a run that was to be killed failed by itself"
    return process.returncode != 0


def _steps_logged(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@dataclass(frozen=True)
class Endurance:
    steps: int
    megabytes_early: float
    megabytes_late: float
    growth: float  # late / early - 1
    slowdown: float  # of a step's time, in units of a fixed piece of work done beside it, late / early - 1


def endure(family: str, steps: int, threads: int | None = None) -> Endurance:
    """Train for so many steps in this process; compare the memory and the speed of its second and last fifths.

    The speed of a machine that is shared goes up and down by a third within minutes, whatever it does.  So after each
    step a fixed piece of work is timed too, and what is compared is how many of those a step takes.  Other programs
    must still leave two cores alone, or a step that is shared out suffers more than that piece does.
    Raises generators.training.Diverged at a NaN.
    """
    dataset = datasets.load("digits", limit=60)
    tiny = {"batch_size": 4, "shard_size": 2} | FAMILIES[family].tiny
    config = replace(plans.default_config(family, dataset), **tiny)
    trainer = Trainer(runs.build(family, config, np.random.default_rng(0)), dataset, 0, steps, Threads(threads))
    memory, times, yardstick = np.empty((3, steps))
    began = time.perf_counter()
    for metrics in train(trainer):
        step = metrics["step"]
        times[step] = time.perf_counter() - began
        memory[step] = resident_megabytes()
        began = time.perf_counter()
        _fixed_work()
        yardstick[step] = time.perf_counter() - began
        began = time.perf_counter()
    early, late = slice(steps // 5, 2 * steps // 5), slice(-(steps // 5), None)
    before, after = float(np.median(memory[early])), float(np.median(memory[late]))
    lengths = [np.median(times[part]) / np.median(yardstick[part]) for part in (early, late)]
    return Endurance(steps, before, after, after / before - 1, float(lengths[1] / lengths[0] - 1))


def _fixed_work() -> None:
    """About half a millisecond of what a tiny step is made of: Python, and NumPy on small arrays."""
    a = np.ones((32, 32), np.float32)
    for _ in range(100):
        a = a @ a * np.float32(1 / 32)
