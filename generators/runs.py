"""A run and its folder: what training leaves on disk, so that it can be killed at any moment and lose nothing.

    checkpoint.npz    weights, averaged weights, optimiser, step, config: one file, always whole
    metrics.jsonl     one line a step, now and then with the loss of test images
    samples/          what the model painted on the way, under the same captions and noise each time

A resumed run repeats the steps that were lost, bit for bit (see `training.py`); their metrics are cut off first.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

import datasets
from datasets.batches import Batches
from datasets.dataset import Dataset
from disk import files
from generators.apps.program import signals
from generators.errors import RunError
from generators.family import Family, Shard
from generators.plans import Plan, fingerprint, seconds_per_step
from generators.registry import build, can, of_this_version, read
from generators.showing import films, log, pictures
from generators.showing.charts import line_chart
from generators.training import Diverged, Trainer, cut, part_of, train
from nn import checkpoint, init, runtime
from nn.optim import cosine_decay
from nn.parallel import Threads, derive_rng
from nn.tensor import no_grad

SAMPLES = 16  # pictures in a sample grid
FILMS = 6  # likewise, where each of them takes as long as a dozen pictures
SAMPLE_GRIDS = 8  # grids painted over a run
HELD_OUT = 50  # times over a run that the loss of test images is computed
CAPTIONS = 500  # of test images, kept in the checkpoint for sampling where the data are not
LOG_SECONDS = 30  # between lines where there is no terminal for a bar


def _test_images(plan: Plan, dataset) -> Dataset | None:
    """The first test images of a run's data; None where there are none that are like those it learns from."""
    try:
        test = datasets.load(plan.data, split="test", limit=CAPTIONS, **plan.pictures)
    except datasets.DataError as error:  # a folder of few pictures, or data that are no data set by themselves
        tqdm.write(f"There will be no held-out loss: {error}.")
        return None
    alike = test.images.shape[1:] == dataset.images.shape[1:] and test.vocabulary == dataset.vocabulary
    return test if alike and len(test) else None


class Run:
    """A run in its folder, new or resumed, whose lock the caller holds."""

    def __init__(self, folder: Path, plan: Plan, dataset, threads: Threads, weights: dict | None = None):
        """weights: by name, those that it begins with instead of random ones."""
        self.folder, self.plan, self.dataset, self.threads = folder, plan, dataset, threads
        model = build(plan.family, plan.config, derive_rng(plan.seed, "weights"))
        if weights:
            try:
                model.load_state(model.state() | weights)
            except ValueError as error:
                raise RunError(f"{plan.origin} has other sizes than the settings say: {error}") from error
        if plan.origin:
            model.prepare = lambda *batch: None  # what depends on data has been initialised
        self.trainer = Trainer(model, dataset, plan.seed, plan.steps, threads)
        self.seconds = 0.0  # of training so far, over all resumptions
        self.test = _test_images(plan, dataset)
        self._held_out: list[Shard] = []

    @property
    def model(self) -> Family:
        return self.trainer.family

    @classmethod
    def resume(cls, folder: Path, threads: Threads, dataset=None) -> Run:
        """The run as its checkpoint left it, on `dataset`, or the data that it names.

        Raises CheckpointError, DataError or RunError in one sentence.
        """
        path = folder / "checkpoint.npz"
        arrays, meta = read(path)
        with of_this_version(path):
            plan = Plan.from_json(meta["plan"])
        dataset = dataset or datasets.load(plan.data, split="train", limit=plan.limit, **plan.pictures)
        if fingerprint(dataset) != plan.fingerprint:
            raise RunError(
                f"the data set {plan.data!r} is not the one that {folder} was trained on; "
                "restore those images, or start a new run with another --out"
            )
        if meta.get("machine") != runtime.describe():
            tqdm.write("This machine, BLAS or library version differs from the one that wrote the checkpoint: going on "
                       "is fine, but the bits will not equal those of a run that never moved.")  # fmt: skip
        with of_this_version(path):
            with init.at_most(2 * sum(array.size for array in part_of(arrays, "weights/").values())):
                run = cls(folder, plan, dataset, threads)
            if type(meta["step"]) is not int or not 0 <= meta["step"] <= plan.steps:
                raise ValueError(f"step {meta['step']!r:.40} of {plan.steps}")
            run.trainer.load_state(arrays, meta["step"])
            run.seconds = float(meta["seconds"])
            if not 0 <= run.seconds < 1e10:
                raise ValueError(f"{run.seconds} seconds of training")
        log.cut(folder, run.trainer.step_number)
        return run

    def lengthen(self, steps: int | None = None, minutes: float | None = None) -> None:
        """Plan for `steps` in all, or for `minutes` more, and save that plan; says what it means for the learning rate.

        Raises RunError if as many steps are planned already: a shorter run would jump to a smaller learning rate.
        """
        done, before, config = self.trainer.step_number, self.plan.steps, self.plan.config
        if steps is None:
            pace = self.seconds / done if done and self.seconds else None
            pace = pace or seconds_per_step(self.plan.family, self.dataset, config, self.threads)
            steps = before + max(1, round(60 * minutes / pace))
        if steps <= before:
            raise RunError(
                f"{self.folder} is planned for {before:,} steps already, of which it has made {done:,}; --steps is the "
                "length of the whole run, so give more, or leave it out to go on as planned"
            )
        self.plan = dataclasses.replace(self.plan, steps=steps)
        self.trainer.total_steps = steps
        self.save()  # a kill before the next save would else leave the old length
        then, now = (cosine_decay(done, total, config.optimiser.final) for total in (before, steps))
        tqdm.write(f"The run is {steps:,} steps long now, not {before:,}. The learning rate falls along a cosine over "
                   f"the whole length, so it goes on at {now:.0%} of its highest, not at {then:.0%}. The bits will not "
                   f"be those of a run that was to make {steps:,} steps from the beginning, and what else changes over "
                   "a run, such as when a critic comes in, goes by the new length, too.")  # fmt: skip

    def held_out(self) -> dict[str, float]:
        """The losses of the weights of now on a batch of test images, each time the same with the same noise.

        Empty where there are no test images, or none that the loss could be asked about (a classifier's).
        """
        if self.test is None or not (can(self.model, "sample") or can(self.model, "play")):
            return {}
        if not self._held_out:
            size = min(self.plan.config.batch_size, len(self.test))
            batch = Batches(self.test, size, self.plan.seed).at(0)
            self._held_out = cut(batch, self.model, self.test, self.plan.seed, 0)
        losses = {}
        with no_grad():
            for phase in self.model.phases(self.trainer.step_number):
                prefix = "" if len(self.trainer.phase_states) == 1 else f"{phase.name}_"
                losses[f"held_out_{prefix}loss"] = sum(
                    phase.loss(shard, derive_rng(self.plan.seed, f"held out {phase.name}", index))[0].item()
                    for index, shard in enumerate(self._held_out)
                )
        if not all(abs(loss) < log.LARGEST_METRIC for loss in losses.values()):  # so no NaN either
            raise self.trainer.diverged("the loss of test images is beyond all bounds")
        return losses

    def save(self) -> None:
        """Write the checkpoint: atomically, so that a kill leaves the old one or the new one, whole.

        Raises Diverged, and keeps the old one, if the last step has left a NaN or an infinity.
        """
        self.trainer.check_finite()
        described = self.dataset if self.test is None else self.test
        first = np.arange(min(CAPTIONS, len(described)))
        meta = {
            "family": self.plan.family,
            "config": dataclasses.asdict(self.plan.config),
            "plan": dataclasses.asdict(self.plan),
            "step": self.trainer.step_number,
            "seconds": self.seconds,
            "machine": runtime.describe(),
            "captions": described.captions(first),  # what is painted where nothing else is asked for
            "labels": described.labels[first].tolist(),
        }
        checkpoint.save(self.folder / "checkpoint.npz", self.trainer.state(), meta)

    def paint_samples(self) -> None:
        """A grid under the same captions and noise as every other time, with the averaged weights."""
        if not can(self.model, "sample"):
            return
        rng = derive_rng(self.plan.seed, "sample grid")
        count = SAMPLES if len(self.model.image_shape) == 3 else FILMS
        captions = self.dataset.captions(rng.integers(0, len(self.dataset), count))
        with self.trainer.averaged_weights():
            images = self.model.sample(captions, rng, threads=self.threads)
        if not np.isfinite(images).all():
            raise self.trainer.diverged("the samples that it paints are not finite")
        path = self.folder / "samples" / f"step-{self.trainer.step_number:06d}"
        title = f"{self.plan.family}, step {self.trainer.step_number}"
        if images.ndim == 5:
            files.write(path.with_suffix(".gif"), films.gif(images, captions, title=title))
        else:
            grid = pictures.grid(images, captions=captions, title=title)
            files.write(path.with_suffix(".png"), pictures.png_bytes(grid))

    def go(self, save_every: float = 60.0) -> Iterator[dict[str, float]]:
        """Train to the end, yielding the metrics of each step; saves on the way, at the end and on Ctrl-C."""
        every = max(1, self.plan.steps // SAMPLE_GRIDS)
        saved_at = told_at = began = time.monotonic()
        before, shown, stop = self.seconds, {}, _Stop()
        bar = tqdm(desc=self.plan.family, initial=self.trainer.step_number, total=self.plan.steps, unit="step",
                   disable=None, dynamic_ncols=True)  # fmt: skip  # None: where standard error is no terminal
        with signals(("SIGINT", "SIGTERM", "SIGHUP"), stop), bar:
            for metrics in train(self.trainer):
                if metrics["step"] % max(1, self.plan.steps // HELD_OUT) == 0:
                    metrics |= self.held_out()
                shown |= metrics
                files.append(self.folder / log.NAME, json.dumps(metrics).encode() + b"\n")
                bar.update()
                bar.set_postfix_str(_summary(shown), refresh=False)
                yield metrics
                if self.trainer.step_number % every == 0 and self.trainer.step_number < self.plan.steps:
                    self.paint_samples()
                now = time.monotonic()
                self.seconds = before + now - began
                if bar.disable and now - told_at > LOG_SECONDS:
                    left = (self.plan.steps - self.trainer.step_number) * self.seconds / self.trainer.step_number / 60
                    print(f"{self.plan.family}: step {self.trainer.step_number:,} of {self.plan.steps:,}, "
                          f"{_summary(shown)}, about {left:.1f} minutes left", file=sys.stderr, flush=True)  # fmt: skip
                    told_at = now
                if stop.asked or now - saved_at > save_every:
                    self.save()
                    saved_at = now
                if stop.asked:
                    self._draw_losses()
                    return
        self.save()
        self.paint_samples()
        self._draw_losses()

    def finish(self, save_every: float = 60.0) -> bool:
        """Train to the end; returns whether it was reached, for Ctrl-C stops a run after a step.

        Raises RunError, which says where to go on, when training meets a NaN or loses a worker process.
        """
        try:
            for _ in self.go(save_every):
                pass
        except Diverged as error:
            raise RunError(f"{error}. The last good checkpoint is {self.folder / 'checkpoint.npz'}") from error
        except ChildProcessError as error:
            again = f"inkling train --resume --out {shlex.quote(str(self.folder))} --threads 1"
            raise RunError(f"{error}. Go on from the last checkpoint with: {again}") from error
        return self.trainer.step_number == self.plan.steps

    def _draw_losses(self) -> None:
        """`loss.svg`: the losses of all steps so far, if their file is still there."""
        if found := log.losses(self.folder):
            files.write(self.folder / "loss.svg", line_chart(found, x_label="step").encode())


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Hold the folder, made for a run; if no checkpoint has come into it, what was made here is gone again.

    Of two starts at once one makes the folder and one gets its lock; who does not get it leaves the folder alone.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)  # by now somebody else may have made it
    with checkpoint.lock(folder):
        try:
            yield
        finally:
            if folder in made and not (folder / "checkpoint.npz").exists():
                shutil.rmtree(folder, ignore_errors=True)  # before another start can get the lock
                with suppress(OSError):  # one that is not empty, nor are those above it
                    for path in made[1:]:
                        path.rmdir()


def start(folder: Path, plan: Plan, dataset, threads: Threads, weights: dict | None = None) -> Run:
    """A new run in `folder`, with a checkpoint at step 0.  Raises RunError if the folder holds a run already."""
    refuse_to_overwrite(folder)
    run = Run(folder, plan, dataset, threads, weights)
    files.write(folder / log.NAME, b"")
    run.save()
    return run


def refuse_to_overwrite(folder: Path) -> None:
    """Raise RunError if there is a run in the folder."""
    if (folder / "checkpoint.npz").exists():
        raise RunError(f"{folder} holds a run already; go on with it with --resume, or choose another --out")


def _summary(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {loss:.4g}" for name, loss in metrics.items() if name.endswith("loss"))


class _Stop:
    """Asks the loop to stop after this step; a second Ctrl-C stops at once (not SIGHUP, of which there may be two)."""

    asked = False

    def __call__(self, number: int, frame) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
