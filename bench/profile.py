"""Where the time of one of our training steps goes, by op, and how much of it is Python's own.

The forward and backward of every op are timed where the engine calls them, on one thread, in whole training steps.
What is left of the step is the engine's and the modules' Python.  Python also runs inside the ops, around NumPy and
the kernels; so its whole share is measured in another way: the same graph with hardly any arithmetic in it, one image
of the smallest size and width, whose steps cost next to nothing but Python.

Seconds on one thread are the processor's own (`time.thread_time`), so that other programs hardly disturb them; those on
two threads are the clock's.  Timing an op costs about a microsecond; the table says what that adds up to.
"""
from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from bench.models import data_for, digits, make_trainer, width_settings
from generators import training
from nn import tensor
from nn.kernels import convolution
from nn.tensor import Function


@dataclass
class Row:
    """One op in one direction at one shape."""

    seconds: float = 0.0
    calls: int = 0

    def add(self, seconds: float, calls: int = 1) -> None:
        self.seconds += seconds
        self.calls += calls


@dataclass
class Profile:
    """Per step: seconds of each (op, direction, shape), of each part outside the ops, and of the whole."""

    family: str
    shards: int  # forward and backward passes in a step, over all phases
    step: float = 0.0  # seconds, with the timers
    untimed: float = 0.0  # seconds, without
    two_threads: float = 0.0  # seconds by the clock, without timers, on two threads
    python: float = 0.0  # seconds: the same number of shards of the smallest size
    ops: dict[tuple[str, str, str], Row] = field(default_factory=lambda: defaultdict(Row))
    inside: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))  # parts of the backward of convolutions
    parts: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))  # data, engine, optimiser

    @property
    def between(self) -> float:
        """Seconds outside of all that is timed: the graph, the modules, the losses' own code."""
        return self.step - sum(row.seconds for rows in (self.ops, self.parts) for row in rows.values())

    def by_op(self) -> list[tuple[str, Row]]:
        """Every op and direction over all shapes, the longest first."""
        total: dict[str, Row] = defaultdict(Row)
        for (op, direction, _), row in self.ops.items():
            total[f"{op} {direction}"].add(row.seconds, row.calls)
        return sorted(total.items(), key=lambda item: -item[1].seconds)


def profile(family: str, steps: int = 10) -> Profile:
    """Time `steps` training steps of a family, op by op, on one thread; then untimed, on one and on two."""
    dataset = data_for(family)
    trainer = make_trainer(family, dataset, 1)
    phases = len(trainer.family.phases(0))
    result = Profile(family, phases * trainer.shard_count)
    result.untimed = _median_seconds(trainer, steps)
    with timed_ops(result), timed_parts(trainer, result):
        begin = time.thread_time()
        for _ in range(steps):
            trainer.step()
        result.step = (time.thread_time() - begin) / steps
    for rows in (result.ops, result.inside, result.parts):
        for row in rows.values():
            row.seconds, row.calls = row.seconds / steps, row.calls // steps
    result.two_threads = _median_seconds(make_trainer(family, dataset, 2), steps, time.perf_counter)
    result.python = _python_seconds(family, result.shards // phases, steps)
    return result


def _median_seconds(trainer: training.Trainer, steps: int, clock=time.thread_time) -> float:
    times = []
    for _ in range(steps + 2):
        begin = clock()
        trainer.step()
        times.append(clock() - begin)
    return float(np.median(times[2:]))


def _python_seconds(family: str, shards: int, steps: int) -> float:
    """A step with the same graph and number of shards, but of one small image each."""
    settings = {**width_settings(family, 16), "batch_size": shards, "shard_size": 1}
    trainer = make_trainer(family, digits(8), 1, settings)
    return _median_seconds(trainer, steps)


@contextmanager
def timed_ops(result: Profile) -> Iterator[None]:
    """Inside this block, forward and backward of every op add their time to `result`."""

    def timed(name: str, direction: str, function):
        def call(ctx, *arrays, **options):
            begin = time.thread_time()
            try:
                return function(ctx, *arrays, **options)
            finally:
                seconds = time.thread_time() - begin
                if direction == "forward":
                    ctx.label = _shapes(arrays)
                result.ops[name, direction, ctx.label].add(seconds)

        return staticmethod(call)

    def timed_part(name: str, function):
        def call(*arguments, **options):
            begin = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                result.inside[name].add(time.thread_time() - begin)

        return call

    kinds = [k for k in every_op(Function) if k is not Function]
    bound = [(kind, direction, getattr(kind, direction)) for kind in kinds for direction in ("forward", "backward")]
    kept = [(kind, direction, vars(kind).get(direction)) for kind, direction, _ in bound]
    inner = {name: getattr(convolution, name) for name in ("input_gradient", "weight_gradient")}
    try:
        for kind, direction, function in bound:
            setattr(kind, direction, timed(kind.__name__, direction, function))
        for name, function in inner.items():
            setattr(convolution, name, timed_part(name, function))
        yield
    finally:
        for kind, direction, own in kept:
            if own is None:
                delattr(kind, direction)
            else:
                setattr(kind, direction, own)
        for name, function in inner.items():
            setattr(convolution, name, function)


@contextmanager
def timed_parts(trainer: training.Trainer, result: Profile) -> Iterator[None]:
    """Inside this block, what a step does around the ops adds its time to `result.parts`."""

    def timed(name: str, function):
        def call(*arguments, **options):
            begin = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                result.parts[name].add(time.thread_time() - begin)

        return call

    places = [(trainer, "_shards", "data: images, captions, shards")]
    places += [(state.optimiser, "step", "optimiser and average") for state in trainer.phase_states.values()]
    places += [
        (training, "gradient_norm", "norm of the gradient"),
        (tensor, "unbroadcast", "engine: sums over broadcast axes"),
        (tensor, "_add_to_leaf", "engine: gradients of weights added up"),
        (tensor.Function, "receive", "engine: gradients of branches added up"),
    ]
    kept = [(place, attribute, getattr(place, attribute)) for place, attribute, _ in places]
    try:
        for place, attribute, name in places:
            setattr(place, attribute, timed(name, getattr(place, attribute)))
        yield
    finally:
        for place, attribute, function in kept:
            setattr(place, attribute, function)


def every_op(kind: type) -> list[type]:
    return [kind, *(found for child in kind.__subclasses__() for found in every_op(child))]


def _shapes(arrays) -> str:
    """The shapes of an op's inputs, as 32x14x14x32 3x3x32x32."""
    return " ".join("x".join(map(str, a.shape)) or "()" for a in arrays if isinstance(a, np.ndarray))


def table(result: Profile, shapes: int = 15) -> str:
    """The profile as text: by op, then the `shapes` most expensive ops with their shapes."""
    calls = sum(row.calls for row in result.ops.values())

    def line(name: str, row: Row) -> str:
        return f"{name:<58}{row.calls:>7}{row.seconds * 1e3:>10.2f}{row.seconds / result.step:>8.1%}"

    lines = [
        f"{result.family}: {result.untimed * 1e3:.1f} ms a step on one thread ({result.step * 1e3:.1f} with timers on "
        f"{calls} calls of ops), {result.two_threads * 1e3:.1f} on two: {result.untimed / result.two_threads:.2f}x",
        f"Python's own share: {result.python * 1e3:.1f} ms, {result.python / result.untimed:.0%} of the step on one "
        f"thread ({result.shards} shards of the same graph, of one 8x8 image and width 16)",
        "",
        f"{'':<58}{'calls':>7}{'ms':>10}{'share':>8}",
        *(line(name, row) for name, row in result.by_op()),
        line("between the ops: graph, modules, losses", Row(result.between, 0)),
        *(line(name, row) for name, row in result.parts.items()),
        "",
        "of which, inside the backward of convolutions:",
        *(line(f"  {name}", row) for name, row in result.inside.items()),
        "",
        "by shape of the inputs:",
    ]
    longest = sorted(result.ops.items(), key=lambda item: -item[1].seconds)[:shapes]
    lines += [line(f"  {op} {direction} {where}", row) for (op, direction, where), row in longest]
    return "\n".join(lines)
