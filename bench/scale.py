"""What more cores bring: `python -m bench scale`.

    python -m bench scale --families ddpm vae --json scale.json

A training step has a part that every worker does alone on its shards, and a part that does not shrink with them:

    T(W) = data + rest + (sum + update) / W + rounds * cost of a shard,     rounds = shards / W, rounded up

The cost of a shard is measured at 32, 16, 8 and 4 images, on one thread, in the processor's own seconds, so that other
programs hardly disturb it; so are the parts around it.  From these the formula predicts a step for more cores than
there are.  It leaves out what cores do to each other (shared caches, memory, lower clock rates), so a prediction is an
upper bound of the speed-up.  For as many workers as there are cores the step is measured, by the clock, in turns.
"""
from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace

import numpy as np

from bench.models import add_families, data_for, make_trainer
from disk import files
from generators.registry import able
from generators.training import Trainer, planned
from nn import runtime
from nn.parallel import default_threads

SIZES = (32, 16, 8, 4)  # images in a shard
CORES = (4, 8, 16)  # for which a step is predicted
PARTS = {"work": "shards", "add up": "sum", "move": "update"}  # what `Trainer._work` is asked for


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    found = {}
    for name in options.families:
        found[name] = measure(name, data_for(name), options.steps, options.seconds)
        print(table(name, found[name]), flush=True)
    if options.json:
        files.write_json(options.json, {"machine": runtime.describe(), "families": found})
    return 0


def measure(name: str, dataset, steps: int, seconds: float) -> dict:
    """{"batch": .., "shard_ms": {size: of one shard}, "serial_ms": {part: ..}, "predicted_ms": {workers: ..},
    "measured_ms": {workers: ..}}"""
    batch = make_trainer(name, dataset, 1).family.config.batch_size
    by_size = {size: parts_of_a_step(name, dataset, size, steps) for size in SIZES}
    shard = {size: parts["shards"] / math.ceil(batch / size) for size, parts in by_size.items()}
    serial = {part: by_size[SIZES[0]][part] for part in ("data", "sum", "update", "rest")}
    return {
        "batch": batch,
        "shard_ms": {size: 1e3 * cost for size, cost in shard.items()},
        "serial_ms": {part: 1e3 * cost for part, cost in serial.items()},
        "predicted_ms": {cores: 1e3 * predict(name, dataset, shard, serial, cores) for cores in (1, *CORES)},
        "measured_ms": {cores: 1e3 * took for cores, took in by_the_clock(name, dataset, seconds).items()},
    }


def parts_of_a_step(name: str, dataset, size: int, steps: int) -> dict[str, float]:
    """Seconds of one thread, the median of so many steps with shards of this size, in the parts of a step."""
    trainer = cut_to(make_trainer(name, dataset, 1), size)
    work, spent, rows = trainer._work, Counter(), []

    def timed(index: int, request: tuple):
        begin = time.thread_time()
        try:
            return work(index, request)
        finally:
            spent[PARTS[request[1]]] += time.thread_time() - begin

    trainer._work = timed
    with closing(trainer):
        for _ in range(steps + 2):
            spent.clear()
            begin = time.thread_time()
            trainer._shards(trainer.step_number)  # the step finds them cut
            spent["data"] = time.thread_time() - begin
            trainer.step()
            whole = time.thread_time() - begin
            rows.append({**{part: spent[part] for part in ("data", *PARTS.values())}, "rest": whole - spent.total()})
    return {part: float(np.median([row[part] for row in rows[2:]])) for part in rows[0]}


def cut_to(trainer: Trainer, size: int) -> Trainer:
    """The trainer, before its first step, with shards of another size."""
    trainer.family.config = replace(trainer.family.config, shard_size=size)
    return trainer


def predict(name: str, dataset, shard: dict[int, float], serial: dict[str, float], cores: int) -> float:
    """Seconds of a step on so many cores, by the formula above."""
    config = make_trainer(name, dataset, 1).family.config
    size = planned(replace(config, shard_size=SIZES[0]), cores).shard_size
    rounds = math.ceil(math.ceil(config.batch_size / size) / cores)
    slope, once = np.polyfit(list(shard), list(shard.values()), 1)  # between the sizes that were measured
    cost = shard.get(size, once + slope * size)
    return serial["data"] + serial["rest"] + (serial["sum"] + serial["update"]) / cores + rounds * cost


def by_the_clock(name: str, dataset, seconds: float) -> dict[int, float]:
    """Workers -> seconds of a step, the median; 1, 2, 4 ... up to the cores that there are, in turns."""
    cores = default_threads()
    counts = sorted({*(count for count in (1, 2, 4, 8, 16) if count < cores), cores})
    trainers = {}
    for count in counts:
        trainer = make_trainer(name, dataset, count)
        size = planned(replace(trainer.family.config, shard_size=SIZES[0]), count).shard_size
        trainers[count] = make_trainer(name, dataset, count, {"shard_size": size})
    times: dict[int, list[float]] = {count: [] for count in counts}
    for trainer in trainers.values():
        trainer.step()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[counts[-1]]) < 4:
        for count, trainer in trainers.items():
            with closing(trainer):  # a pool that waits would not disturb the others, but it holds memory
                trainer.step()
                for _ in range(2):
                    begin = time.perf_counter()
                    trainer.step()
                    times[count].append(time.perf_counter() - begin)
    return {count: float(np.median(several)) for count, several in times.items()}


def table(name: str, found: dict) -> str:
    shard, first = found["shard_ms"], found["shard_ms"][SIZES[0]] / SIZES[0]
    costs = ", ".join(f"{size}: {cost:.0f} ms, {cost / size / first:.2f} an image" for size, cost in shard.items())
    around = ", ".join(f"{part} {cost:.1f} ms" for part, cost in found["serial_ms"].items())
    lines = [
        f"{name}, batches of {found['batch']}",
        f"  a shard of {costs} (1 = as in one of {SIZES[0]})",
        f"  around them: {around}",
    ]
    for kind in ("measured", "predicted"):
        steps = found[f"{kind}_ms"]
        told = [f"{cores} core{'s' * (cores > 1)} {ms:.0f} ms ({steps[1] / ms:.2f} x)" for cores, ms in steps.items()]
        lines.append(f"  {kind}: {', '.join(told)}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = able("sample", "method", "variation")
    add_families(parser, names, names)
    parser.add_argument("--steps", type=int, default=5, help="for each size of a shard (default: 5)")
    parser.add_argument("--seconds", type=float, default=20, help="of measured steps, for each family (default: 20)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    return parser
