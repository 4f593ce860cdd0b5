"""A run and its folder: what training leaves on disk, so that it can be killed at any moment and lose nothing.

    checkpoint.npz    weights, averaged weights, optimiser, step, config: one file, always whole
    metrics.jsonl     one line a step, now and then with the loss of test images
    samples/          what the model painted on the way, under the same captions and noise each time

A step depends on what the checkpoint holds and on its own number alone (see `training.py`), so a resumed run
repeats the steps that were lost, bit for bit; the metrics of those steps are cut off first.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import signal
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

import datasets
from datasets.batches import Batches
from datasets.dataset import Dataset
from datasets.folder import Options
from disk import files
from generators import renamed
from generators.config import from_json, to_json
from generators.errors import RunError, UsageError
from generators.family import Family, FamilyConfig, Shard
from generators.registry import build, can, family
from generators.showing import films, log, pictures
from generators.showing.charts import line_chart
from generators.training import Diverged, Trainer, cut, part_of, planned, train
from nn import checkpoint, init, runtime
from nn.checkpoint import CheckpointError
from nn.optim import cosine_decay
from nn.parallel import Threads, derive_rng
from nn.tensor import no_grad

SAMPLES = 16  # pictures in a sample grid
FILMS = 6  # likewise, where each of them takes as long as a dozen pictures
SAMPLE_GRIDS = 8  # grids painted over a run
HELD_OUT = 50  # times over a run that the loss of test images is computed
CAPTIONS = 500  # of test images, kept in the checkpoint for sampling where the data are not
LOG_SECONDS = 30  # between lines where there is no terminal for a bar


@dataclass(frozen=True)
class Plan:
    """What a run is: everything that its bits depend on, but for the code."""

    family: str
    data: str
    seed: int
    steps: int
    config: FamilyConfig
    fingerprint: int  # of the images and labels: training goes on only with the same ones
    limit: int | None = None  # use only the first so many training pictures; mirrored, each is two images
    pictures: dict = field(default_factory=dict)  # how those of a folder are read: what folder.Options takes
    origin: str = ""  # the run whose weights it began with

    def to_json(self) -> dict:
        return {**dataclasses.asdict(self), "config": to_json(self.config)}

    @classmethod
    def from_json(cls, values: dict) -> Plan:
        try:
            values = {"pictures": {}, "origin": "", **values}  # older checkpoints have none
            plan = {field.name: values[field.name] for field in dataclasses.fields(cls)}
            Options(**plan["pictures"])  # raises what follows if they are none
            for name in ("data", "origin"):
                if type(plan[name]) is not str:
                    raise TypeError(f"{name} is {plan[name]!r:.40}, not a name")
            for name, least, most in (("seed", 0, 2**63 - 1), ("steps", 1, 10**9), ("limit", 1, 10**9),
                                      ("fingerprint", 0, 2**32 - 1)):  # fmt: skip
                value = plan[name]
                if (type(value) is not int or not least <= value <= most) and (name, value) != ("limit", None):
                    raise TypeError(f"{name} is {value!r:.40}, not a whole number from {least:,} to {most:,}")
            return cls(**{**plan, "config": from_json(family(values["family"]).Config, values["config"])})
        except (KeyError, TypeError, datasets.DataError) as error:
            raise CheckpointError(
                f"the checkpoint does not describe a run of this version of Inkling ({error})"
            ) from error


@contextmanager
def _of_this_version(folder: Path) -> Iterator[None]:
    """What a checkpoint says is wrong or missing: a CheckpointError that tells what to do."""
    try:
        yield
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{folder / 'checkpoint.npz'} was written by another version of Inkling, or is damaged ({error}); go on "
            f"with that version, or remove {folder}, or choose another folder, and train again"
        ) from error


def _test_images(plan: Plan, dataset) -> Dataset | None:
    """The first test images of a run's data; None where there are none that are like those it learns from."""
    try:
        test = datasets.load(plan.data, split="test", limit=CAPTIONS, **plan.pictures)
    except datasets.DataError as error:  # a folder of few pictures, or data that are no data set by themselves
        tqdm.write(f"There will be no held-out loss: {error}.")
        return None
    alike = test.images.shape[1:] == dataset.images.shape[1:] and test.vocabulary == dataset.vocabulary
    return test if alike and len(test) else None


def fingerprint(dataset) -> int:
    """A checksum of a data set's images and labels; of images that are drawn when indexed, of the first."""
    images = dataset.images if isinstance(dataset.images, np.ndarray) else dataset.images[:100]
    return zlib.crc32(dataset.labels.tobytes(), zlib.crc32(np.ascontiguousarray(images).tobytes()))


def default_config(name: str, dataset) -> FamilyConfig:
    """A family's default config for a data set: its own sizes and words, and what suits such images and so many."""
    config = family(name).suited(plain_config(name, dataset), dataset)
    few = len(dataset) < config.batch_size
    return dataclasses.replace(config, batch_size=max(1, len(dataset) // 2)) if few else config


def plain_config(name: str, dataset) -> FamilyConfig:
    """The same without what suits the images: their sizes and words alone.

    Raises UsageError for films where the family learns from images, and the other way round.
    """
    *frames, size, _, channels = dataset.images.shape[1:]
    kind = family(name).Config
    of_films = any(one.name == "frames" for one in dataclasses.fields(kind))
    if of_films != bool(frames):
        wants, given = ("films", "images") if of_films else ("images", "films")
        raise UsageError(f"{name} learns from {wants}, and {dataset.name} has {given}; choose other --data or family")
    sizes = {"image_size": size, "channels": channels} | ({"frames": frames[0]} if frames else {})
    return kind(vocabulary=dataset.vocabulary, language=dataset.language.name, **sizes)


def plan_run(
    name: str, data: str, dataset, config: FamilyConfig, seed: int, threads: Threads, steps: int | None,
    minutes: float | None, limit: int | None = None, pictures: dict | None = None, origin: str = "",
) -> Plan:  # fmt: skip
    """Fix the number of steps: `steps`, or as many as fit into `minutes` by the speed measured now, on a copy.

    Raises ConfigError if the config describes no model, RunError if training diverges while its speed is measured.
    """
    config = planned(config)
    if steps is not None:
        build(name, config, derive_rng(0, "weights"))
    else:
        try:
            steps = max(1, round(60 * minutes / seconds_per_step(name, dataset, config, threads)))
        except Diverged as error:
            raise RunError(f"while the speed was measured, {error}") from error
    return Plan(name, data, seed, steps, config, fingerprint(dataset), limit, pictures or {}, origin)


def seconds_per_step(name: str, dataset, config: FamilyConfig, threads: Threads) -> float:
    """The median time of a training step, on a model that is thrown away; the first two, which compile, left out.

    Where a phase begins in the course of the run, that of the steps before and after, each by its share.
    """
    trainer = Trainer(build(name, config, derive_rng(0, "weights")), dataset, 0, 1000, threads)
    counts, seconds = [len(trainer.family.phases(step)) for step in range(0, 1000, 20)], 0.0
    with closing(trainer):
        for phases in sorted(set(counts)):
            trainer.step_number, times = 20 * counts.index(phases), []
            for _ in range(2):
                trainer.step()
            begin = time.perf_counter()
            while len(times) < 5 or (len(times) < 60 and time.perf_counter() - begin < 4):
                start = time.perf_counter()
                trainer.step()
                times.append(time.perf_counter() - start)
            seconds += float(np.median(times)) * counts.count(phases) / len(counts)
    return seconds


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
        """The run as its checkpoint left it, on the data set that it names unless one is given.

        Raises CheckpointError, DataError or RunError in one sentence.
        """
        arrays, meta = renamed.load(folder / "checkpoint.npz")
        with _of_this_version(folder):
            plan = Plan.from_json(meta.get("plan", {}))
        dataset = dataset or datasets.load(plan.data, split="train", limit=plan.limit, **plan.pictures)
        if fingerprint(dataset) != plan.fingerprint:
            raise RunError(
                f"the data set {plan.data!r} is not the one that {folder} was trained on; "
                "restore those images, or start a new run with another --out"
            )
        if meta.get("machine") != runtime.describe():
            tqdm.write("This machine, BLAS or library version differs from the one that wrote the checkpoint: going on "
                       "is fine, but the bits will not equal those of a run that never moved.")  # fmt: skip
        with _of_this_version(folder):
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
                   f"be those of a run that was to make {steps:,} steps from the beginning.")  # fmt: skip

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
        losses, phases = {}, self.model.phases(self.trainer.step_number)
        with no_grad():
            for phase in phases:
                prefix = "" if len(self.trainer.phase_states) == 1 else f"{phase.name}_"
                losses[f"held_out_{prefix}loss"] = sum(
                    phase.loss(shard, derive_rng(self.plan.seed, f"held out {phase.name}", index))[0].item()
                    for index, shard in enumerate(self._held_out)
                )
        if not all(abs(loss) < log.LARGEST for loss in losses.values()):  # so no NaN either
            step = self.trainer.step_number
            raise Diverged(f"training diverged at step {step}: the loss of test images is beyond all bounds")
        return losses

    def save(self) -> None:
        """Write the checkpoint: atomically, so that a kill leaves the old one or the new one, whole.

        Raises Diverged, and keeps the old one, if the last step has left a NaN or an infinity.
        """
        self.trainer.check_finite()
        meta = {
            "family": self.plan.family,
            "config": to_json(self.plan.config),
            "plan": self.plan.to_json(),
            "step": self.trainer.step_number,
            "seconds": self.seconds,
            "machine": runtime.describe(),
            **self._captions(),
        }
        checkpoint.save(self.folder / "checkpoint.npz", self.trainer.state(), meta)

    def _captions(self) -> dict[str, list]:
        """Captions and labels of the first test images: what is painted where nothing else is asked for."""
        described = self.dataset if self.test is None else self.test
        first = np.arange(min(CAPTIONS, len(described)))
        return {"captions": described.captions(first), "labels": described.labels[first].tolist()}

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
            step = self.trainer.step_number
            raise Diverged(f"training diverged at step {step}: the samples that it paints are not finite")
        path = self.folder / "samples" / f"step-{self.trainer.step_number:06d}"
        path.parent.mkdir(exist_ok=True)
        title = f"{self.plan.family}, step {self.trainer.step_number}"
        if images.ndim == 5:
            files.write(path.with_suffix(".gif"), films.gif(images, captions, title=title))
        else:
            grid = pictures.grid(images, captions=captions, title=title)
            files.write(path.with_suffix(".png"), pictures.png_bytes(grid))

    def go(self, save_every: float = 60.0, quiet: bool = False) -> Iterator[dict[str, float]]:
        """Train to the end, yielding the metrics of each step; saves on the way, at the end and on Ctrl-C."""
        every = max(1, self.plan.steps // SAMPLE_GRIDS)
        saved_at = told_at = began = time.monotonic()
        before, shown = self.seconds, {}
        with _Stop() as stop, self._bar(quiet) as bar:
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
                if not quiet and bar.disable and now - told_at > LOG_SECONDS:
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

    def _draw_losses(self) -> None:
        """`loss.svg`: the losses of all steps so far, if their file is still there."""
        if found := log.losses(self.folder):
            files.write(self.folder / "loss.svg", line_chart(found, x_label="step").encode())

    def _bar(self, quiet: bool) -> tqdm:
        done, total = self.trainer.step_number, self.plan.steps
        hidden = True if quiet else None  # None: where standard error is no terminal
        return tqdm(desc=self.plan.family, initial=done, total=total, unit="step", disable=hidden, dynamic_ncols=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Hold the folder, made for a run; if no checkpoint has come into it, what was made here is gone again.

    Of two starts at once one makes the folder and one gets its lock; who does not get it leaves the folder alone.
    """
    made = []
    for path in (folder, *folder.parents):
        if path.exists():
            break
        made.append(path)
    for path in reversed(made.copy()):
        try:
            path.mkdir()
        except FileExistsError:  # by now somebody else has made it
            made.remove(path)
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
    shown = [name for name in metrics if name.endswith("loss")]
    return ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.4g}" for name in shown)


class _Stop:
    """Ctrl-C, SIGTERM and SIGHUP ask the loop to stop after the current step; a second Ctrl-C stops at once.

    A terminal that is closed may send SIGHUP twice.  What is ignored (`nohup`) stays ignored.
    """

    def __enter__(self) -> _Stop:
        self.asked = False
        self.previous = {}
        names = ("SIGINT", "SIGTERM", "SIGHUP")  # of which Windows has two
        try:
            for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self.previous[number] = signal.signal(number, self._ask)
        except ValueError:  # not in the main thread: whoever runs us there handles signals
            pass
        return self

    def _ask(self, number, frame) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *exception) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


@contextmanager
def diverged_as_run_error(folder: Path) -> Iterator[None]:
    """Tell where the last good checkpoint is when training meets a NaN or loses a worker process."""
    try:
        yield
    except Diverged as error:
        raise RunError(f"{error}. The last good checkpoint is {folder / 'checkpoint.npz'}") from error
    except ChildProcessError as error:
        again = f"inkling train --resume --out {shlex.quote(str(folder))} --threads 1"
        raise RunError(f"{error}. Go on from the last checkpoint with: {again}") from error
