"""`make demo`: the lecture on one page, and then its methods trained on this machine.

The lecture (`lecture.py`) is painted by the weights that come along, so that what one sees first does not depend on the
machine. Then each method is trained anew, with the minutes that there are, and a last section of the page grows with
each: what was painted after how many steps, and how long this machine would take for as many as those weights had.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from disk import files
from generators import plans, pretrained, registry, runs
from generators.apps.experiments import CAPTIONS, LABELS, OPTIONS
from generators.apps.lecture import begin
from generators.config import with_text
from generators.showing import log, pictures
from generators.showing.charts import line_chart
from generators.showing.page import Page
from generators.training import planned
from nn import checkpoint
from nn.parallel import Threads, derive_rng

READABLE = 0.9  # share of captions that the judge must read as asked, or the page says that time was short


@dataclass(frozen=True)
class Entry:
    """A model that the demo trains: its name, family, share of the time and settings."""

    name: str
    family: str
    share: float
    settings: dict[str, str]


# The defaults want ten minutes of fast cores each; here there are one to three: mostly narrower networks and smaller
# batches, which make more steps.
SMALL = {"batch_size": "64", "width": "16"}
ENTRIES = [
    Entry("vae", "vae", 0.13, {"batch_size": "64", "latent": "12"}),
    Entry("ddpm", "ddpm", 0.18, {}),
    Entry("gan", "gan", 0.165, {**SMALL, "gamma": "0.2"}),  # small batches need it, or variety is lost
    Entry("gan-no-noise", "gan", 0.13, {**SMALL, "gamma": "0.2", "noise": "0"}),
    Entry("regression", "regression", 0.02, SMALL),
    Entry("realnvp", "realnvp", 0.375, {"batch_size": "32", "widths": "[32, 48]", "depth": "2"}),
]


@dataclass
class Trained:
    """A run that was made here; its model has the averaged weights."""

    run: runs.Run
    default_seconds: float  # of a step of the family's default, as weights that come along were trained; 0 without any


def make(out: Path, minutes: float, seed: int, threads: Threads) -> int:
    """Hold the lecture, then train what is not trained yet and add it. A demo that was stopped goes on.

    minutes: for training all families; 0: only the page of the weights that come along.
    """
    began = time.monotonic()
    if kept := [LABELS[e.name] for e in ENTRIES if (out / "runs" / e.name / "checkpoint.npz").exists()]:
        print(f"{out} holds {', '.join(kept)} from before, with the minutes and the seed of that time: --minutes and "
              "--seed are for what is not there yet. To begin anew, choose another --out.")  # fmt: skip
    training = f", then {minutes:g} minutes of training" if minutes else ""
    print(f"The lecture{training}. The page grows; Ctrl-C at any moment leaves a whole one.", flush=True)
    lecture = begin(out, seed, threads)
    lecture.hold()
    print(f"Whole after {_time_since(began)}: open {(out / 'index.html').resolve()} in a browser.", flush=True)
    if not minutes:
        return 0
    trained: dict[str, Trained] = {}
    end = time.monotonic() + 60 * minutes
    for number, entry in enumerate(ENTRIES, 1):
        print(f"[{number}/{len(ENTRIES)}] training: {LABELS[entry.name]}", flush=True)
        share = entry.share / sum(e.share for e in ENTRIES[number - 1 :])  # of the time that is left
        left = max(0.1, (end - time.monotonic()) / 60)
        done = _train(entry, out / "runs" / entry.name, lecture.experiments.train_set, share * left, seed, threads)
        if done is None:
            print("Stopped, saved. The same command goes on from here.")
            return 130
        trained[entry.name] = done
        page = lecture.page()
        add_training(page, out, trained, seed, threads)
        page.write(out / "index.html")
    print(f"Done after {_time_since(began)}: see the last section of {out / 'index.html'}.", flush=True)
    return 0


def _time_since(began: float) -> str:
    seconds = time.monotonic() - began
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def _train(entry: Entry, folder: Path, dataset, minutes: float, seed: int, threads: Threads) -> Trained | None:
    """One model, in about so many minutes with all that is measured for it; None if it was stopped."""
    began = time.monotonic()
    default = plans.default_config(entry.family, dataset)
    compared = pretrained.find(entry.name) is not None
    default_seconds = plans.seconds_per_step(entry.family, dataset, planned(default), threads) if compared else 0.0
    with checkpoint.lock(folder):
        if (folder / "checkpoint.npz").exists():
            run = runs.Run.resume(folder, threads, dataset)
        else:
            config = with_text(default, entry.settings)
            minutes = max(minutes / 2, minutes - (time.monotonic() - began) / 60)
            plan = plans.plan_run(entry.family, "digits", dataset, config, seed, threads, None, minutes, len(dataset))
            run = runs.start(folder, plan, dataset, threads)
        if run.trainer.step_number < run.plan.steps and not run.finish():
            return None
        run.model.load_state(run.trainer.averaged_state())
        return Trained(run, default_seconds)


def add_training(page: Page, out: Path, trained: dict[str, Trained], seed: int, threads: Threads) -> None:
    """The last section: what was trained on this machine, beside what the weights that come along have had."""
    pictured = {
        f"{LABELS[name]}, {t.run.plan.steps:,} steps":
        t.run.model.sample(CAPTIONS, derive_rng(seed, "demo samples"), threads, **OPTIONS.get(name, {}))
        for name, t in trained.items()
    }  # fmt: skip
    files.write(out / "trained-here.png", pictures.png_bytes(pictures.rows(pictured, columns=CAPTIONS)))
    for name, t in trained.items():
        files.write(out / f"loss-{name}.svg", line_chart(log.losses(t.run.folder), x_label="step").encode())
    if short := _too_short(trained, seed, threads):
        short = f"Too few steps for these, so expect smudges: {', '.join(short)}. More minutes mend it: " \
                "`inkling demo --minutes 30` in a folder of its own (`--out`)."  # fmt: skip
    text = Path(__file__).with_suffix(".md").read_text(encoding="utf-8").format(
        short=short or "",
        rows="\n".join(f"| {' | '.join(_row(name, t))} |" for name, t in trained.items()),
        losses="\n\n".join(f"![The loss of {LABELS[name]}.](loss-{name}.svg)" for name in trained),
    )  # fmt: skip
    page.markdown(text, out)


def _row(name: str, t: Trained) -> tuple[str, ...]:
    plan, seconds = t.run.plan, t.run.seconds
    theirs = registry.open_run(path)[1]["step"] if (path := pretrained.find(name)) else 0
    here = (f"{theirs:,}", f"{theirs * t.default_seconds / 60:.0f} min") if theirs else ("–", "–")
    speed = f"{seconds / 60:.1f}", f"{1000 * seconds / plan.steps:.0f}"
    return (LABELS[name], f"{plan.steps:,}", f"{plan.config.batch_size}", *speed, *here)


def _too_short(trained: dict[str, Trained], seed: int, threads: Threads) -> list[str]:
    """Of the models that draw, those of whose digits the judge reads too few as asked, each with the share."""
    if not (path := pretrained.find("classifier")):
        return []
    judge, captions, short = registry.load(path), CAPTIONS * 4, []
    asked = judge.asked(captions)["digit"]
    for name, t in trained.items():
        if registry.FAMILIES[t.run.plan.family].role == "baseline":  # a blur is what it is there for
            continue
        images = t.run.model.sample(captions, derive_rng(seed, "demo judged"), threads, **OPTIONS.get(name, {}))
        share = float(np.mean(judge.judge(images, threads).values["digit"] == asked))
        if share < READABLE:
            short.append(f"{LABELS[name]} ({share:.0%} of its digits are read as asked)")
    return short
