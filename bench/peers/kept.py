"""The twin's run beside ours, for `python -m bench quality`: kept in a folder, made by processes of its own.

No torch in here: `bench/peers/quality.py` has it, and is asked first how long a step takes in each of PyTorch's ways,
then to train in the fastest.  What it leaves in the folder is a checkpoint of ours, with its averaged weights.
"""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from bench.arena import Failed
from datasets.dataset import Dataset
from generators import plans
from generators.errors import RunError
from generators.family import Family, FamilyConfig
from generators.registry import of_this_version, open_run
from nn import checkpoint
from nn.parallel import Threads

WAYS = ("eager", "channels_last", "compile")
PATIENCE = 600.0  # seconds until a way is given up whose speed is not known yet: torch.compile may take minutes


def trained(
    out: Path, config: FamilyConfig, name: str, dataset: Dataset, data: str, minutes: float, seed: int,
    threads: Threads, ways: list[str], our_steps: int,
) -> tuple[Family, dict]:  # fmt: skip
    """(a model of ours with the twin's averaged weights, how it was trained), from its folder below `out` if there.

    our_steps: of our run; the twin makes as many as it has time for while ours makes these, by both speeds measured now
    How: {"way": the fastest, "milliseconds": {way: of a step, None where it failed}, "ours_milliseconds": {way: of our
    steps just before and after}, "our_steps": .., "steps": .., "train_minutes": ..}.
    Raises RunError if the folder holds another run or if PyTorch cannot do it.
    """
    folder = out / f"{name}-twin-{minutes:g}-minutes-seed-{seed}"
    wanted = plans.Plan(name, data, seed, 1, config, plans.fingerprint(dataset))  # the number of steps is found below
    with checkpoint.lock(folder):
        if not (folder / "checkpoint.npz").exists():
            _make(folder, wanted, dataset, threads, ways, our_steps)
        model, meta = open_run(folder)
    how = meta.get("twin", {})
    with of_this_version(folder):
        found = replace(plans.Plan.from_json(meta["plan"]), steps=1)
    if found != wanted or how.get("our_steps") != our_steps or set(how.get("ours_milliseconds", ())) != set(ways):
        raise RunError(
            f"{folder} holds a twin on other data, or of other steps of ours, settings or ways than asked for now; "
            "choose another --out, or remove it"
        )
    return model, how


def _make(folder: Path, plan: plans.Plan, dataset: Dataset, threads: Threads, ways: list[str], our_steps: int) -> None:
    """Train the twin in the way that is fastest beside ours, for as long as ours takes for its steps.

    The machine may be faster in one minute than in the next, so our own steps are timed before and after each way.
    """
    seconds, ours = {}, [plans.seconds_per_step(plan.family, dataset, plan.config, threads)]
    for way in ways:
        seconds[way] = _seconds_per_step(plan, threads.count, way)
        ours.append(plans.seconds_per_step(plan.family, dataset, plan.config, threads))
    beside = {way: (before + after) / 2 for way, before, after in zip(ways, ours, ours[1:], strict=False)}
    ratios = {way: found / beside[way] for way, found in seconds.items() if found}
    if not ratios:
        raise RunError(f"PyTorch made no training step in any of its ways ({', '.join(ways)})")
    way = min(ratios, key=ratios.get)
    plan = replace(plan, steps=max(1, round(our_steps / ratios[way])))
    how = {
        "our_steps": our_steps,
        "milliseconds": {way: found and 1e3 * found for way, found in seconds.items()},
        "ours_milliseconds": {way: 1e3 * found for way, found in beside.items()},
    }
    try:
        _ask({"do": "train", "folder": str(folder), "how": how}, plan, threads.count, way)
    except Failed as failure:
        raise RunError(f"the PyTorch twin was not trained: {failure}") from failure


def _seconds_per_step(plan: plans.Plan, threads: int, way: str) -> float | None:
    """The time of a training step, which is also printed; None, and the reason printed, where there is none."""
    try:
        seconds = float(_ask({"do": "time"}, plan, threads, way, PATIENCE)["seconds"])
    except Failed as failure:
        print(f"PyTorch twin, {way}: left out, for {failure}", flush=True)
        return None
    print(f"PyTorch twin, {way}: {1e3 * seconds:.0f} ms a step", flush=True)
    return seconds


def _ask(request: dict, plan: plans.Plan, threads: int, way: str, patience: float | None = None) -> dict:
    """The answer of a `bench.peers.quality` that is started for this request; Failed if there is none in time.

    It leads a process group, so that nothing of it (torch.compile starts compilers) outlives the answer or Ctrl-C.
    With `patience` it is silent; otherwise it shows its progress.
    """
    request = {**request, "plan": asdict(plan), "threads": threads, "way": way, "asker": os.getpid()}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.peers.quality"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if patience else None, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        answer, errors = process.communicate(json.dumps(request), patience)
    except subprocess.TimeoutExpired:
        raise Failed(f"it took longer than {patience:.0f} seconds") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        said = [line.strip() for line in (errors or "").splitlines() if line.strip()]
        raise Failed(f"its process says: {said[-1]}" if said else f"its process ended with {process.returncode}")
    return json.loads(answer.splitlines()[-1])
