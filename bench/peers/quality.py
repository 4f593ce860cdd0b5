"""The twin in training, in a process of its own: what `bench/peers/kept.py` asks, `python -m bench.peers.quality` does.

Reads one request from standard input, as JSON, and answers with one line of JSON.  The twin begins with the weights of
our model, sees the same batches at the same learning rates, and gives its averaged weights back.
"""
from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import bench.peers.ddpm  # noqa: F401  (the import makes the twin known)
import datasets
from bench.peers.training import TwinTrainer
from generators.family import Family
from generators.plans import Plan
from generators.registry import build
from nn import checkpoint, runtime
from nn.parallel import derive_rng


def make_trainer(plan: Plan, dataset, way: str) -> tuple[Family, TwinTrainer]:
    """The model that a run of this plan begins with, and what trains its twin."""
    torch.manual_seed(plan.seed)
    ours = build(plan.family, plan.config, derive_rng(plan.seed, "weights"))
    return ours, TwinTrainer(ours, dataset, plan.seed, plan.steps, way)


def seconds_per_step(trainer: TwinTrainer) -> float:
    """The median time of a training step without the first two, which compile: as `plans.seconds_per_step` has it."""
    for _ in range(2):
        trainer.step()
    times, begin = [], time.perf_counter()
    while len(times) < 5 or (len(times) < 60 and time.perf_counter() - begin < 4):
        start = time.perf_counter()
        trainer.step()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def rehearse(trainer: TwinTrainer) -> None:
    """Forward and backward without an update: what must be compiled is, and no weight or random number has changed."""
    state = torch.get_rng_state()
    batch = trainer.batch()
    for phase, loss in zip(trainer.phases, trainer.losses, strict=True):
        loss(batch, *phase.draw(batch, trainer.rng)).backward()
    trainer.family.zero_grad(set_to_none=True)
    torch.set_rng_state(state)


def train(trainer: TwinTrainer, asker: int) -> float:
    """Train to the end of the schedule; the seconds that it took, without compiling.

    Ends early if the process `asker`, our parent, has ended: what it waited for nobody waits for.
    """
    rehearse(trainer)
    begin = time.perf_counter()
    name = f"{type(trainer.family).__name__.lower()} in PyTorch, {trainer.way}"
    with tqdm(desc=name, total=trainer.total_steps, unit="step", dynamic_ncols=True) as bar:
        while trainer.step_number < trainer.total_steps:
            loss = trainer.step()
            if not math.isfinite(loss):
                sys.exit(f"the twin's training diverged: its loss at step {trainer.step_number - 1} is {loss}")
            if os.getppid() != asker:
                sys.exit("the bench that asked for this twin has ended, so it ends too")
            bar.update()
            bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
    return time.perf_counter() - begin


def give_back(trainer: TwinTrainer, ours: Family) -> None:
    """Copy the twin's averaged weights into the model of ours that it was made from."""
    averages = {
        id(parameter): average
        for phase, values in zip(trainer.phases, trainer.averages, strict=True)
        for parameter, average in zip(phase.parameters, values, strict=True)
    }
    pairs = trainer.family.pairs()
    for name, weight in ours.named_parameters():
        parameter, layout = pairs[name]
        weight.data[...] = layout.to_ours(averages[id(parameter)], weight.shape)


def save(folder: Path, plan: Plan, model: Family, how: dict) -> None:
    """A checkpoint that `generators.load` opens."""
    meta = {
        "family": plan.family, "config": asdict(plan.config), "plan": asdict(plan),
        "step": plan.steps, "machine": runtime.describe(), "twin": how,
    }  # fmt: skip
    arrays = {f"ema/{name}": array for name, array in model.state().items()}
    checkpoint.save(folder / "checkpoint.npz", arrays, meta)


def main() -> int:
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    plan, way = Plan.from_json(request["plan"]), request["way"]
    ours, trainer = make_trainer(plan, datasets.load(plan.data, split="train", limit=plan.limit), way)
    if request["do"] == "time":
        print(json.dumps({"seconds": seconds_per_step(trainer)}))
        return 0
    how = request["how"] | {"way": way, "steps": plan.steps}
    how["train_minutes"] = train(trainer, request["asker"]) / 60
    give_back(trainer, ours)
    save(Path(request["folder"]), plan, ours, how)
    print(json.dumps(how))
    return 0


if __name__ == "__main__":
    sys.exit(main())
