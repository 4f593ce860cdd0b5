"""Trained models that the benches keep in folders: an interrupted run goes on, a finished one is used again.

A folder's name says the budget and the seed; all else that a figure depends on is compared before a run is reused.
"""

from dataclasses import replace
from pathlib import Path

from datasets.dataset import Dataset
from generators import plans, runs
from generators.errors import RunError
from generators.family import Family, FamilyConfig
from nn import checkpoint
from nn.parallel import Threads


def place(out: Path, name: str, minutes: float, seed: int, steps: int | None = None) -> Path:
    """The folder of a run with this budget."""
    return out / f"{name}-{f'{steps}-steps' if steps else f'{minutes:g}-minutes'}-seed-{seed}"


def trained(
    out: Path, config: FamilyConfig, name: str, dataset: Dataset, data: str, minutes: float, seed: int,
    threads: Threads, steps: int | None = None, origin: str = "", weights: dict | None = None,
) -> tuple[Family, dict]:  # fmt: skip
    """(model with averaged weights, how it was trained), from its folder below `out` as far as it is there.

    How: {"steps": .., "train_minutes": .., as long as they took}.
    data: what the plan calls the data set. steps: in place of minutes. origin, weights: of what it begins with, where
    that is a trained model. Raises RunError if the folder holds another run, KeyboardInterrupt if this one was stopped:
    it is not to be measured half-trained.
    """
    folder = place(out, name, minutes, seed, steps)
    with checkpoint.lock(folder):
        if (folder / "checkpoint.npz").exists():
            run = runs.Run.resume(folder, threads, dataset)
            plan = run.plan
            asked = replace(config, shard_size=plan.config.shard_size)  # which was planned by the number of cores
            if (plan.family, plan.data, plan.seed, plan.config, plan.origin) != (name, data, seed, asked, origin):
                raise RunError(
                    f"{folder} holds a {plan.family} on {plan.data} with another seed, other settings or another "
                    "beginning than asked for now; choose another --out, or remove it"
                )
        else:
            plan = plans.plan_run(name, data, dataset, config, seed, threads, steps, minutes, origin=origin)
            run = runs.start(folder, plan, dataset, threads, weights)
        if not run.finish():
            raise KeyboardInterrupt
    run.model.load_state(run.trainer.averaged_state())
    return run.model, {"steps": run.plan.steps, "train_minutes": run.seconds / 60}
