"""One training loop for every family.

`plain_steps` is the loop, to be read first: draw a batch, add up the gradients of its parts, clip, step, average.
`Trainer` does the same for long runs: on several threads or processes, with equal bits for any number of them; it stops
at a NaN and says where that began; its state can be saved after any step.  A test holds the two equal.

Everything random in a step comes from generators derived from (seed, purpose, step, ...), so a step depends on the
weights and the step's number alone: stop anywhere, go on, and the bits are the same as if nothing had happened.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from datasets.batches import Batch, Batches
from generators.family import Family, FamilyConfig, OptimiserConfig, Phase, Shard
from nn import processes
from nn.muon import Muon
from nn.optim import EMA, AdamW, clip_scale, cosine_decay, gradient_norm, warmup
from nn.parallel import LANES, FlatParameters, Threads, derive_rng, even_shards, total
from nn.tensor import NonFiniteError, Tensor, finite_checks

LEAST_SHARD = 4  # images: of fewer, what each shard costs once is more than a third of all
LARGEST_WEIGHT = 1e10  # of a run that can be saved


def plain_steps(family: Family, dataset, seed: int, total_steps: int) -> Iterator[dict[str, float]]:
    """Train a family, one step after another; yields the loss of each phase, by its name."""
    dataset, family.total_steps = family.attend(dataset), total_steps
    batches = Batches(dataset, family.config.batch_size, seed)
    states = {phase.name: _PhaseState(phase, family.config.ema_decay) for phase in family.phases(total_steps)}
    for step in range(total_steps):
        shards = cut(batches.at(step), family, dataset, seed, step)
        if step == 0:
            tokens = family.vocabulary.encode(batches.at(0).captions)
            family.prepare(batches.at(0).images, tokens, derive_rng(seed, "prepare"))
        losses = {}
        for phase in family.phases(step):  # a VAE has one, a GAN two
            flat, losses[phase.name] = states[phase.name].flat, 0.0
            flat.gradient[...] = 0
            for index, shard in enumerate(shards):
                for parameter in family.parameters():
                    parameter.grad = None
                loss, _ = phase.loss(shard, derive_rng(seed, phase.name, step, index))
                loss.backward()
                for total_gradient, parameter in zip(flat.views(flat.gradient), flat.parameters, strict=True):
                    if parameter.grad is not None:
                        total_gradient += parameter.grad
                losses[phase.name] += loss.item()
            scale = clip_scale(gradient_norm(flat.gradient), phase.optimiser.clip_norm)
            rate = learning_rate(phase.optimiser, step, total_steps)
            states[phase.name].optimiser.step(flat.gradient, rate, scale)  # and the moving average of the weights
        yield losses


def learning_rate(config: OptimiserConfig, step: int, total_steps: int) -> float:
    """It rises in the warm-up, then falls along half a cosine."""
    return config.rate * warmup(step, config.warmup_steps) * cosine_decay(step, total_steps, config.final)


def cut(batch: Batch, family: Family, dataset, seed: int, step: int) -> list[Shard]:
    """The batch of a step in shards, with false captions where the family asks for them."""
    tokens, false_tokens = family.vocabulary.encode(batch.captions), None
    if family.wants_false_captions and len(dataset.classes) > 1:
        rng = derive_rng(seed, "false captions", step)
        false_tokens = family.vocabulary.encode(dataset.contradicting(batch.indices, batch.captions, rng))
    size, shards = shard_size(family.config), []
    for start in range(0, len(tokens), size):
        part = slice(start, start + size)
        false, labels = None if false_tokens is None else false_tokens[part], batch.labels[part]
        shards.append(Shard(batch.images[part], tokens[part], false, labels, batch.indices[part], len(tokens)))
    return shards


def planned(config: FamilyConfig, cores: int | None = None) -> FamilyConfig:
    """The config of a run that begins here: with shards small enough that all cores have work, but not tiny.

    It is written down with the run, so that a resumed one cuts its batches alike on any machine.
    """
    size = max(LEAST_SHARD, even_shards(config.batch_size, config.shard_size, cores))
    return replace(config, shard_size=min(config.shard_size, size))


def shard_size(config) -> int:
    """As the config says, but no more than half of the batch, so that two workers have work."""
    return min(config.shard_size, -(-config.batch_size // 2))


class Diverged(RuntimeError):
    """Training met a NaN, an infinity or a weight beyond use; the message says at which step and where it began."""


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
        self.total_steps = family.total_steps = total_steps
        self.threads = threads
        self.step_number = 0
        self.batches = Batches(dataset, family.config.batch_size, seed)
        # At the end, wherever that may come to be, every phase has begun.
        self.phase_states = {p.name: _PhaseState(p, family.config.ema_decay) for p in family.phases(total_steps)}
        self._cut: tuple[int, list[Shard]] = (-1, [])
        self._pool: processes.ProcessPool | None = None
        self._compiled = False  # the first step compiles kernels, once and not in every process
        # What training changes besides parameters (running statistics) would not reach a pool: then threads do it.
        self._alone = len(family.state()) > len(family.parameters())
        self._workers = min(threads.count, LANES, self.shard_count)

    def step(self) -> dict[str, float]:
        """One step: every phase of the family on one batch.  Returns the metrics; raises Diverged at a NaN."""
        step, self.family.total_steps = self.step_number, self.total_steps
        if step == 0:
            batch = self.batches.at(step)
            tokens = self.family.vocabulary.encode(batch.captions)
            self.family.prepare(batch.images, tokens, derive_rng(self.seed, "prepare"))
        if self._pool is None and self._compiled and not self._alone:
            me = weakref.proxy(self)  # else the pool would keep its trainer alive, and the trainer its pool
            self._pool = processes.start_pool(lambda index, request: me._work(index, request), self._workers)
        metrics: dict[str, float] = {}
        for phase in self.family.phases(step):
            metrics |= self._update(phase)
        self.step_number += 1
        self._compiled = True
        return metrics

    def close(self) -> None:
        """End the worker processes; the next step starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _update(self, phase: Phase) -> dict[str, float]:
        step, config, state = self.step_number, phase.optimiser, self.phase_states[phase.name]
        lanes = processes.interleave(self._together(phase.name, "work", step))
        self._together(phase.name, "add up", len(lanes))
        value, metrics = total(lanes)
        norm = gradient_norm(state.flat.gradient)
        if not (np.isfinite(value) and np.isfinite(norm)):
            raise self.diverged(self._explain(self._loss(phase, step)))
        rate = learning_rate(config, step, self.total_steps)
        update = (state.flat.gradient, rate, clip_scale(norm, config.clip_norm))
        if isinstance(state.optimiser, Muon):
            state.optimiser.step(*update, share=lambda numbers: self._together(phase.name, "move", numbers))
        else:
            state.optimiser.step(*update)
        prefix = "" if len(self.phase_states) == 1 else f"{phase.name}_"
        return {f"{prefix}loss": value, **metrics, f"{prefix}gradient_norm": norm, f"{prefix}rate": rate}

    def _together(self, *request) -> list:
        """What `_work` returns in each worker: the processes of the pool, or threads."""
        if self._pool is None:
            return self.threads.map(lambda index: self._work(index, request), range(self._workers))
        try:
            return self._pool.run(request)
        except BaseException:
            self.close()  # who catches this and goes on needs a new pool, and, if matrices have moved, a checkpoint
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
        phase = next(phase for phase in self.family.phases(argument) if phase.name == name)
        loss, count = self._loss(phase, argument), self.shard_count
        return [state.flat.work_lane(lane, loss, count) for lane in range(index, min(LANES, count), workers)]

    def _loss(self, phase: Phase, step: int) -> Callable[[int], tuple[Tensor, dict[str, float]]]:
        shards = self._shards(step)
        return lambda index: phase.loss(shards[index], derive_rng(self.seed, phase.name, step, index))

    @property
    def shard_count(self) -> int:
        """How many shards a batch is cut into."""
        return -(-self.family.config.batch_size // shard_size(self.family.config))

    def _shards(self, step: int) -> list[Shard]:
        """The batch of a step, cut up; the phases of a step share it."""
        if self._cut[0] != step:
            self._cut = (step, cut(self.batches.at(step), self.family, self.dataset, self.seed, step))
        return self._cut[1]

    def _explain(self, loss: Callable) -> str:
        """Where the first NaN of this step began, found by computing its shards again with every op checked."""
        for name, parameter in self.family.named_parameters():
            if not np.isfinite(parameter.data).all():
                return f"the parameter {name!r}, which the last update made non-finite"
        try:
            with finite_checks():
                for shard in range(self.shard_count):
                    loss(shard)[0].backward()
        except NonFiniteError as error:
            return str(error)
        finally:
            for parameter in self.family.parameters():
                parameter.grad = None
        return "the sum of the gradients, which grew beyond what float32 can hold"

    def check_finite(self) -> None:
        """Raises Diverged if the last update left a weight, an average or the optimiser's state non-finite, or a weight
        so large that it is of no use, as where a loss is bounded and has no gradient out there."""
        for name, array in self.state().items():
            if not np.isfinite(array).all():
                raise self.diverged(f"{name!r}, which the last update made non-finite")
            if name.startswith("weights/") and np.abs(array).max(initial=0) > LARGEST_WEIGHT:
                raise self.diverged(f"{name!r}, which the last update took beyond {LARGEST_WEIGHT:g}")

    def diverged(self, where: str) -> Diverged:
        """What to raise where numbers are no longer finite."""
        return Diverged(f"training diverged at step {self.step_number}: {where}. "
                        "A lower learning rate usually helps (--set optimiser.rate=...)")  # fmt: skip

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
        for name, view in self._averages().items():
            view[...] = arrays[f"ema/{name}"]
        for phase, state in self.phase_states.items():
            for key, array in state.optimiser.state().items():
                array[...] = arrays[f"optimiser/{phase}/{key}"]
            state.ema.count[...] = arrays[f"ema_count/{phase}"]
        self.step_number = step

    def averaged_state(self) -> dict[str, np.ndarray]:
        """The family's state with the moving average in the place of every trained weight: what sampling uses."""
        return {**self.family.state(), **self._averages()}

    def _averages(self) -> dict[str, np.ndarray]:
        """The moving average of every trained weight, by name: views, to be read and to be filled."""
        averages = {}
        for phase in self.phase_states.values():
            views = phase.flat.views(phase.ema.average)
            averages |= {id(parameter): view for parameter, view in zip(phase.flat.parameters, views, strict=True)}
        return {name: averages[id(one)] for name, one in self.family.named_parameters() if id(one) in averages}

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside this block the family has the averaged weights."""
        kept = {name: array.copy() for name, array in self.family.state().items()}
        self.family.load_state(self.averaged_state())
        try:
            yield
        finally:
            self.family.load_state(kept)


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
