"""One training loop for every family.

A family says what a step is made of; the loop does it, and knows no family by name:

    for phase in family.phases(step):            # a VAE has one phase, a GAN two
        gradient = sum over shards of d phase.loss(shard) / d phase.parameters
        clip it, a step of Muon or AdamW, update the moving average of the weights

Everything random in a step comes from generators derived from (seed, purpose, step, ...), so a step depends on the
weights and the step's number alone: stop anywhere, go on, and the bits are the same as if nothing had happened.
"""
from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from datasets.batches import Batches
from generators.config import Config, from_data, number
from generators.parts.text import Vocabulary
from nn import crew
from nn.modules import Module
from nn.muon import Muon
from nn.optim import EMA, AdamW, clip_scale, cosine_decay, gradient_norm, warmup
from nn.parallel import LANES, FlatParameters, Threads, derive_rng, total
from nn.tensor import NonFiniteError, Parameter, Tensor, finite_checks


@dataclass(frozen=True)
class OptimiserConfig(Config):
    """How the parameters of a phase are updated: a warm-up, then a cosine from `rate` to `final` * `rate`.

    muon: matrices (all with two axes or more) by Muon with `momentum`, and only the rest by AdamW with `betas`; rates
        of 1e-2 and more suit it.
    """

    muon: bool = True
    rate: float = number(1e-2)
    momentum: float = number(0.95, most=0.999999)
    betas: tuple[float, float] = number((0.9, 0.999), most=0.999999, length=(2, 2))
    weight_decay: float = number(0.0)
    clip_norm: float = number(1.0, least=1e-9)
    warmup_steps: int = number(100)
    final: float = number(0.0, most=1)


@dataclass(frozen=True)
class FamilyConfig(Config):
    """What every family's config has; a family's own config adds its sizes and weights."""

    vocabulary: tuple[str, ...] = from_data(())  # the words that captions are made of
    language: str = from_data("")  # the name of what they mean together; "" in older checkpoints: the words tell
    image_size: int = from_data(28, most=1024)
    channels: int = from_data(1)
    batch_size: int = number(128, least=1)
    shard_size: int = number(32, least=1)  # images a worker takes at a time: few for the cache, many for Python
    ema_decay: float = number(0.999, most=0.999999)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)



@dataclass(frozen=True)
class Shard:
    """A part of a batch.  Losses are sums over its examples divided by `batch_size`, the size of the whole batch."""

    images: np.ndarray  # (n, H, W, C) float32 in [0, 1]
    tokens: np.ndarray  # (n, L) int64, the captions
    false_tokens: np.ndarray | None  # (n, L), captions false of the images, where the family asks
    labels: np.ndarray  # (n,) int64
    indices: np.ndarray  # (n,) int64, positions in the data set
    batch_size: int


@dataclass(frozen=True)
class Phase:
    """One update within a step: whose parameters, by which loss, and how.

    loss(shard, rng) -> (the sum of per-example losses / shard.batch_size, metrics normalised in the same way)
    """

    name: str
    parameters: list[Parameter]
    loss: Callable[[Shard, np.random.Generator], tuple[Tensor, dict[str, float]]]
    optimiser: OptimiserConfig


class Family(Module):
    """What the loop and the command line need to know of a way to make images.

    Besides what stands here a family has `sample(captions, rng, threads=None, ...)`, which returns images (N, H, W, C)
    float32 in [0, 1], and as many of `reconstruct`, `interpolate`, `edit` and `denoise` as its idea allows.
    """

    name: ClassVar[str]
    Config: ClassVar[type[FamilyConfig]]
    wants_false_captions: ClassVar[bool] = False
    # How `editing.Directions` goes about it: how far, images for each mean, guidance of painting where there is any.
    direction_amount: ClassVar[float] = 1.0
    direction_examples: ClassVar[int] = 100
    direction_guidance: ClassVar[float | None] = None

    @classmethod
    def suited(cls, config, dataset):
        """`config`, changed where the images of `dataset` ask for it."""
        return config

    def __init__(self, config: FamilyConfig):
        self.config = config
        self.vocabulary = Vocabulary(config.vocabulary, config.language)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.config.image_size, self.config.image_size, self.config.channels)

    def phases(self, step: int) -> list[Phase]:
        raise NotImplementedError

    def attend(self, dataset):
        """The part of a data set that this family learns from; called once, before training."""
        return dataset

    def prepare(self, images: np.ndarray, tokens: np.ndarray, rng: np.random.Generator) -> None:
        """Called once, before the first step, with the whole first batch: for what is initialised from data."""


class Diverged(RuntimeError):
    """Training met a NaN or an infinity; the message says at which step and where it began."""


class _PhaseState:
    """The flat parameters of one phase, with their optimiser and average."""

    def __init__(self, phase: Phase, ema_decay: float):
        config = phase.optimiser
        self.flat = FlatParameters(phase.parameters)
        self.ema = EMA(self.flat.values, ema_decay)
        values, decay = self.flat.values, config.weight_decay
        self.optimiser: AdamW | Muon
        if config.muon:
            self.optimiser = Muon(values, self.flat.matrices, self.ema, config.momentum, config.betas, decay)
        else:
            self.optimiser = AdamW(values, config.betas, weight_decay=decay, ema=self.ema)


class Trainer:
    """A family in training: `step()` makes one step; `state()` is all that a checkpoint must hold.

    total_steps: the length of the whole run, which the learning rate's schedule needs to know.
    """

    def __init__(self, family: Family, dataset, seed: int, total_steps: int, threads: Threads):
        dataset = family.attend(dataset)
        self.family, self.dataset, self.seed = family, dataset, seed
        self.total_steps, self.threads = total_steps, threads
        self.step_number = 0
        self.batches = Batches(dataset, family.config.batch_size, seed)
        self.phase_states = {p.name: _PhaseState(p, family.config.ema_decay) for p in family.phases(0)}
        self._cut: tuple[int, list[Shard]] = (-1, [])
        self._crew: crew.Crew | None = None
        self._compiled = False  # the first step compiles kernels, once and not in every process
        # What training changes besides parameters (running statistics) would not reach a crew: then threads do it.
        self._alone = len(family.state()) > len(family.parameters())
        self._workers = min(threads.count, LANES, self.shard_count)

    def step(self) -> dict[str, float]:
        """One step: every phase of the family on one batch.  Returns the metrics; raises Diverged at a NaN."""
        step = self.step_number
        if step == 0:
            batch = self.batches.at(step)
            tokens = self.family.vocabulary.encode(batch.captions)
            self.family.prepare(batch.images, tokens, derive_rng(self.seed, "prepare"))
        if self._crew is None and self._compiled and not self._alone:
            me = weakref.proxy(self)  # else the crew would keep its trainer alive, and the trainer its crew
            self._crew = crew.hire(lambda index, request: me._work(index, request), self._workers)
        metrics: dict[str, float] = {}
        for phase in self.family.phases(step):
            metrics |= self._update(phase)
        self.step_number += 1
        self._compiled = True
        return metrics

    def close(self) -> None:
        """End the worker processes; the next step hires new ones."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def _update(self, phase: Phase) -> dict[str, float]:
        step, config, state = self.step_number, phase.optimiser, self.phase_states[phase.name]
        lanes = crew.interleave(self._together(phase.name, "work", step))
        self._together(phase.name, "add up", len(lanes))
        value, metrics = total(lanes)
        norm = gradient_norm(state.flat.gradient)
        if not (np.isfinite(value) and np.isfinite(norm)):
            raise Diverged(self._explain(self._loss(phase, step)))
        rate = config.rate * warmup(step, config.warmup_steps) * cosine_decay(step, self.total_steps, config.final)
        update = (state.flat.gradient, rate, clip_scale(norm, config.clip_norm))
        if isinstance(state.optimiser, Muon):
            state.optimiser.step(*update, share=lambda numbers: self._together(phase.name, "move", numbers))
        else:
            state.optimiser.step(*update)
        prefix = "" if len(self.phase_states) == 1 else f"{phase.name}_"
        return {f"{prefix}loss": value, **metrics, f"{prefix}gradient_norm": norm, f"{prefix}rate": rate}

    def _together(self, *request) -> list:
        """What `_work` returns in each worker: the processes of the crew, or threads."""
        if self._crew is None:
            return self.threads.map(lambda index: self._work(index, request), range(self._workers))
        try:
            return self._crew.run(request)
        except BaseException:
            self.close()  # who catches this and goes on needs a new crew, and, if matrices have moved, a checkpoint
            raise

    def _work(self, index: int, request: tuple) -> list | None:
        """A worker's share of one of the three tasks of which an update is made, each of which needs the one before.

        ("work", step): the gradients of every so many lanes; ("add up", lanes): of their sum; ("move", numbers): of
        the matrices' update.
        """
        name, task, argument = request
        state, workers = self.phase_states[name], self._workers
        if task == "add up":
            return state.flat.add_up(argument, index, workers)
        if task == "move":
            return state.optimiser.move(state.flat.gradient, argument, index, workers)
        assert task == "work"
        phase = next(phase for phase in self.family.phases(argument) if phase.name == name)
        loss, count = self._loss(phase, argument), self.shard_count
        return [state.flat.work_lane(lane, loss, count) for lane in range(index, min(LANES, count), workers)]

    def _loss(self, phase: Phase, step: int) -> Callable[[int], tuple[Tensor, dict[str, float]]]:
        shards = self._shards(step)
        return lambda index: phase.loss(shards[index], derive_rng(self.seed, phase.name, step, index))

    @property
    def _shard_size(self) -> int:
        """As the config says, but no more than half of the batch, so that two workers have work."""
        return min(self.family.config.shard_size, -(-self.family.config.batch_size // 2))

    @property
    def shard_count(self) -> int:
        """How many shards a batch is cut into."""
        return -(-self.family.config.batch_size // self._shard_size)

    def _shards(self, step: int) -> list[Shard]:
        """The batch of a step, cut up; the phases of a step share it."""
        if self._cut[0] != step:
            self._cut = (step, self._cut_batch(step))
        return self._cut[1]

    def _cut_batch(self, step: int) -> list[Shard]:
        batch = self.batches.at(step)
        tokens = self.family.vocabulary.encode(batch.captions)
        false_tokens = None
        if self.family.wants_false_captions and len(self.dataset.classes) > 1:
            rng = derive_rng(self.seed, "false captions", step)
            false_tokens = self.family.vocabulary.encode(
                self.dataset.contradicting(batch.indices, batch.captions, rng)
            )
        size, count = self._shard_size, len(tokens)
        shards = []
        for start in range(0, count, size):
            part = slice(start, start + size)
            false = None if false_tokens is None else false_tokens[part]
            shards.append(
                Shard(batch.images[part], tokens[part], false, batch.labels[part], batch.indices[part], count)
            )
        return shards

    def _explain(self, loss: Callable) -> str:
        """Where the first NaN of this step began, found by computing its shards again with every op checked."""
        where = "the sum of the gradients, which grew beyond what float32 can hold"
        for name, parameter in self.family.named_parameters():
            if not np.isfinite(parameter.data).all():
                where = f"the parameter {name!r}, which the last update made non-finite"
                return self._sentence(where)
        try:
            with finite_checks():
                for shard in range(self.shard_count):
                    loss(shard)[0].backward()
        except NonFiniteError as error:
            where = str(error)
        finally:
            for parameter in self.family.parameters():
                parameter.grad = None
        return self._sentence(where)

    def check_finite(self) -> None:
        """Raises Diverged if the last update left a weight, an average or the optimiser's state non-finite."""
        for name, array in self.state().items():
            if not np.isfinite(array).all():
                raise Diverged(self._sentence(f"{name!r}, which the last update made non-finite"))

    def _sentence(self, where: str) -> str:
        return (
            f"training diverged at step {self.step_number}: {where}. "
            "A lower learning rate usually helps (--set optimiser.rate=...)"
        )

    def state(self) -> dict[str, np.ndarray]:
        """Every array that the next step depends on, and the averaged weights, by name."""
        arrays = {f"weights/{name}": array for name, array in self.family.state().items()}
        for name, state in self.phase_states.items():
            arrays |= {f"optimiser/{name}/{key}": array for key, array in state.optimiser.state().items()}
            arrays[f"ema_count/{name}"] = state.ema.count
        return arrays | {f"ema/{name}": array for name, array in self.averaged_state().items()}

    def load_state(self, arrays: dict[str, np.ndarray], step: int) -> None:
        """Continue from what `state()` gave after `step` steps."""
        self.family.load_state(part_of(arrays, "weights/"))
        average = part_of(arrays, "ema/")
        names = {id(parameter): name for name, parameter in self.family.named_parameters()}
        for phase, state in self.phase_states.items():
            for view, parameter in zip(state.flat.views(state.ema.average), state.flat.parameters, strict=True):
                view[...] = average[names[id(parameter)]]
            for key, array in state.optimiser.state().items():
                array[...] = arrays[f"optimiser/{phase}/{key}"]
            state.ema.count[...] = arrays[f"ema_count/{phase}"]
        self.step_number = step

    def averaged_state(self) -> dict[str, np.ndarray]:
        """The family's state with the moving average in the place of every trained weight: what sampling uses."""
        state = dict(self.family.state())
        names = {id(parameter): name for name, parameter in self.family.named_parameters()}
        for phase in self.phase_states.values():
            for view, parameter in zip(phase.flat.views(phase.ema.average), phase.flat.parameters, strict=True):
                state[names[id(parameter)]] = view
        return state

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside this block the family has the averaged weights."""
        kept = [state.flat.values.copy() for state in self.phase_states.values()]
        for state in self.phase_states.values():
            state.flat.values[...] = state.ema.average
        try:
            yield
        finally:
            for state, values in zip(self.phase_states.values(), kept, strict=True):
                state.flat.values[...] = values


def part_of(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The entries whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def train(trainer: Trainer) -> Iterator[dict[str, float]]:
    """Step until the run's end, yielding the metrics of each step with its number."""
    try:
        while trainer.step_number < trainer.total_steps:
            step = trainer.step_number
            yield {"step": step, **trainer.step()}
    finally:
        trainer.close()
