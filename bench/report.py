"""The figures of the speed benchmark: as JSON values, as a table, as bars."""
from __future__ import annotations

import math

import numpy as np

from bench.arena import ALL, TORCH, Outcome

LEAST_BATCH = 32  # from which on the cost of a step should be in proportion to its images
LABELS = {
    "ours": "Inkling, 2 threads",
    "ours_1_thread": "Inkling, 1 thread",
    "torch_eager": "PyTorch eager",
    "torch_channels_last": "PyTorch channels_last",
    "torch_compile": "PyTorch compile",
    "torch_pair": "PyTorch, 2 processes",
}


def figures(outcomes: dict[str, Outcome]) -> dict:
    """What was measured and its ratios; in a ratio of times less is better, in one of throughput more."""
    found: dict = {f"{name}_ms": outcome.milliseconds for name, outcome in outcomes.items()}
    found["quartiles_ms"] = {name: outcome.spread for name, outcome in outcomes.items()}
    found["steps"] = {name: len(outcome.steps) for name, outcome in outcomes.items()}
    found["pictures_per_second"] = {name: outcome.per_second for name, outcome in outcomes.items()}
    found["megabytes"] = {name: outcome.megabytes for name, outcome in outcomes.items()}
    found["first_step_seconds"] = {name: outcome.first_step for name, outcome in outcomes.items()}
    found["failures"] = {name: outcome.failure for name, outcome in outcomes.items() if outcome.failure}
    theirs = [outcome for name, outcome in outcomes.items() if name in TORCH]
    none = Outcome()
    ours, one, eager = (outcomes.get(name, none) for name in ("ours", "ours_1_thread", "torch_eager"))
    found["ratio"] = ours.milliseconds / _best(min, [o.milliseconds for o in theirs])
    found["sampling_ratio"] = ours.per_second / _best(max, [o.per_second for o in theirs])
    found["memory_ratio"] = ours.megabytes / eager.megabytes
    found["threads_1_over_2"] = one.milliseconds / ours.milliseconds
    found["gemm_gflops"] = {name: float(np.median(o.gemm)) for name, o in outcomes.items() if o.gemm}
    # Within a round, for what a machine shares with others changes from minute to minute.
    found["gemm_2_over_1"] = float(np.median([b / a for a, b in zip(one.gemm, ours.gemm, strict=False)] or [math.nan]))
    return found


def _best(choose, values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return choose(known) if known else math.nan


def without_nan(value):
    """The same with None, which JSON knows, in the place of every NaN."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def family(name: str, measured: dict) -> str:
    """The table of one family."""
    if "ratio" not in measured:
        return ""
    lines = [f"{name:<24}{'step ms':>9}{'quartiles':>18}{'pictures/s':>12}{'peak MB':>9}{'first step s':>14}"]
    for contestant in [key for key in ALL if f"{key}_ms" in measured]:
        if contestant in measured["failures"]:
            lines.append(f"  {LABELS[contestant]:<22}failed: {measured['failures'][contestant]}")
            continue
        low, high = measured["quartiles_ms"][contestant]
        lines.append(
            f"  {LABELS[contestant]:<22}{measured[f'{contestant}_ms']:>9.1f}{f'{low:.1f} to {high:.1f}':>18}"
            f"{measured['pictures_per_second'][contestant]:>12.0f}{measured['megabytes'][contestant]:>9.0f}"
            f"{measured['first_step_seconds'][contestant]:>14.1f}"
        )
    if "gflop" in measured:
        lines.append(
            f"  a step is {measured['gflop']:.0f} GFLOP by the direct method: "
            f"Inkling reaches {measured['gemm_share']:.0%} of what np.matmul does"
        )
    if measured["gemm_gflops"]:
        rates = ", ".join(f"{rate:.0f} ({LABELS[key]})" for key, rate in measured["gemm_gflops"].items())
        lines.append(f"  np.matmul between the turns, GFLOP/s: {rates}")
    if "first_step" in measured:
        told = [f"{LABELS[name]} {cold:.1f} s, with a warm one {warm:.1f} s"
                for name, (cold, warm) in measured["first_step"].items()]  # fmt: skip
        lines.append(f"  process start to the first step, from an empty cache of compiled code: {'; '.join(told)}")
        lines.append(
            f"  process start to one picture "
            f"{measured['first_picture_seconds']:.2f} s, "
            f"from an empty cache {measured['first_picture_cold_seconds']:.1f} s"
        )
    return "\n".join(lines)


def summary(families: dict[str, dict]) -> str:
    """The ratios that the goals are about."""
    heads = f"{'step / best':>14}{'sampling / best':>18}{'memory / eager':>17}{'1 / 2 threads':>16}"
    lines = [f"\n{'':<10}{heads}{'matmul, 1 / 2':>16}"]
    for name, measured in families.items():
        if "ratio" in measured:
            keys = ("ratio", "sampling_ratio", "memory_ratio", "threads_1_over_2", "gemm_2_over_1")
            cells = [f"{measured[key]:.2f}".replace("nan", "-") for key in keys]
            lines.append(f"{name:<10}{cells[0]:>14}{cells[1]:>18}{cells[2]:>17}{cells[3]:>16}{cells[4]:>16}")
    lines.append("Step, memory: less is better. Sampling: more is better. Best: the best of PyTorch's ways.")
    lines.append("Matmul: how much faster two threads multiply matrices than one, in the same minutes: about the most")
    lines.append("that this machine gives; where it shares its cores with others, that can be far less than two.")
    return "\n".join(lines)


def sweep(name: str, kind: str, milliseconds: dict[str, dict[str, float]]) -> str:
    """A line for each value of what was swept; after batches, how far from proportional the cost is."""
    lines = []
    for value, by_contestant in milliseconds.items():
        times = ", ".join(f"{LABELS[contestant]} {ms:.1f}" for contestant, ms in by_contestant.items())
        lines.append(f"  {name}, {kind} {value}: {times} ms")
    if kind == "batch":
        for contestant in next(iter(milliseconds.values())):
            costs = {int(value): by_contestant[contestant] for value, by_contestant in milliseconds.items()}
            kept = {batch: ms for batch, ms in costs.items() if batch >= LEAST_BATCH and math.isfinite(ms)}
            if kept:  # what failed has no time, and must not pass for measured
                each, off = proportional(kept)
                span = f"from {min(kept)} to {max(kept)}"
                lines.append(f"  {LABELS[contestant]}, {span}: within {off:.1%} of {each:.2f} ms an image")
    return "\n".join(lines)


def proportional(costs: dict[int, float]) -> tuple[float, float]:
    """(c, d): the cost c of an image for which every batch costs c * size to within a share d, as small as can be."""
    each = [cost / batch for batch, cost in costs.items()]
    return (max(each) + min(each)) / 2, (max(each) - min(each)) / (max(each) + min(each))


def plot(families: dict[str, dict], path: str) -> None:
    """Bars of step time and of throughput, each family's fastest PyTorch at 1."""
    try:
        import matplotlib
    except ImportError:
        print("--plot needs matplotlib: .venv/bin/pip install -e '.[plot]'")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = {name: measured for name, measured in families.items() if "ratio" in measured}
    contestants = [key for key in ALL if any(f"{key}_ms" in measured for measured in shown.values())]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    width = 0.8 / max(1, len(contestants))
    for index, key in enumerate(contestants):
        at = [place + index * width for place in range(len(shown))]
        left.bar(at, [m.get(f"{key}_ms", math.nan) for m in shown.values()], width, label=LABELS[key])
        right.bar(at, [m["pictures_per_second"].get(key, math.nan) for m in shown.values()], width)
    for axes, title in ((left, "ms for a training step of 128 images (less is better)"), (right, "pictures a second")):
        axes.set_title(title, fontsize=10)
        axes.set_xticks([place + 0.4 - width / 2 for place in range(len(shown))], list(shown))
        axes.spines[["top", "right"]].set_visible(False)
    right.set_yscale("log")
    left.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
