"""Data parallelism, with bits that do not depend on how many threads there are.

The batch is cut into shards, whose activations fit into the cache of the core that works on them.  Shard i goes to lane
i mod LANES.  A lane owns a gradient buffer and works through its shards in order, each forward and backward; a worker
takes one whole lane at a time.  At the end the lanes' buffers are added in lane order, each worker a part of every
buffer.  So every sum is taken in the same order whatever the workers do, and no kernel needs to know that they exist.

A worker is a thread, or, where it pays and the system allows it, a process (`nn/processes.py`).
"""

import os
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np

from nn import runtime
from nn.kernels.flat import add_lanes
from nn.processes import interleave, shared_zeros, start_pool
from nn.tensor import Parameter, gradients_into, no_grad

LANES = 32  # as many workers, at most, have work; a lane that no shard comes to takes no memory
SHARD = 32  # examples in a shard, at most: few for the cache, many for what Python and each shard cost once


def derive_rng(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """The generator for one purpose at one place, such as `derive_rng(seed, "noise", step, shard)`.

    A function of its arguments alone, so that no generator's state ever needs to be stored.
    """
    # Different arguments must stay different.  A SeedSequence cuts large numbers into words of 32 bits, so each gets
    # two; and it does not see zeros at the end, so how many numbers there are comes last.
    words = np.array([seed, zlib.crc32(purpose.encode()), *numbers, 1 + len(numbers)], np.uint64).view(np.uint32)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def default_threads() -> int:
    """The number of cores that this process may use, at most one per lane."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(LANES, cores or 1))


def even_shards(count: int, most: int = SHARD, workers: int | None = None) -> int:
    """How many of `count` examples a shard is to hold, so that all workers have the same work: at most `most`.

    workers: None: the cores that there are, so that results do not depend on how many of them are used.

    >>> even_shards(128, 32, workers=2), even_shards(64, 32, workers=8), even_shards(16, 32, workers=2)
    (32, 8, 8)
    """
    workers = workers or default_threads()
    rounds = -(-count // (most * workers))
    return -(-count // (rounds * workers))


class FlatParameters:
    """Parameters side by side in one flat array, so that an optimiser is a formula on vectors.

    Those with two axes or more come first: `matrices` lists them as (slice of the array, inputs, outputs), the kernel
    of a convolution (k, k, in, out) as a matrix of k k in inputs.  Every `parameter.data` becomes a view into `values`.
    `gradient` is what `add_up` last summed from `lanes` (LANES, size), the buffers that `work_lane` fills.
    """

    ALIGN = 16  # numbers, 64 bytes of float32: each parameter starts on a cache line of its own

    def __init__(self, parameters: list[Parameter]):
        parameters = sorted(parameters, key=lambda p: p.ndim < 2)  # stable: otherwise in the order given
        self.parameters = parameters
        starts, size = [], 0
        for parameter in parameters:
            starts.append(size)
            size += -(-parameter.size // self.ALIGN) * self.ALIGN
        dtype = parameters[0].dtype
        self.values = shared_zeros((size,), dtype)
        self.gradient = shared_zeros((size,), dtype)
        self.slices = [slice(start, start + p.size) for start, p in zip(starts, parameters, strict=True)]
        pairs = zip(self.slices, parameters, strict=True)
        self.matrices = [(part, p.size // p.shape[-1], p.shape[-1]) for part, p in pairs if p.ndim >= 2]
        for parameter, view in zip(parameters, self.views(self.values), strict=True):
            view[...] = parameter.data
            parameter.data = view
        self.lanes = shared_zeros((LANES, size), dtype)
        self._sinks = [dict(zip(map(id, parameters), self.views(lane), strict=True)) for lane in self.lanes]

    def views(self, flat: np.ndarray) -> list[np.ndarray]:
        """The part of an array laid out like `values` that belongs to each parameter, in its shape."""
        return [flat[part].reshape(p.shape) for part, p in zip(self.slices, self.parameters, strict=True)]

    def work_lane(self, lane: int, loss: Callable, shards: int) -> list[tuple[float, dict[str, float]]]:
        """The shards of one lane, its gradients into its buffer: [(loss, metrics) of each]."""
        self.lanes[lane].fill(0)
        results = []
        with gradients_into(self._sinks[lane]):
            for shard in range(lane, shards, LANES):
                value, metrics = loss(shard)
                value.backward()
                results.append((value.item(), {name: float(number) for name, number in metrics.items()}))
        return results

    def add_up(self, lanes: int, index: int = 0, workers: int = 1) -> None:
        """`gradient`, the sum of the first lanes in their order: the numbers that worker `index` has to do."""
        share = -(-len(self.gradient) // (workers * self.ALIGN)) * self.ALIGN
        stop = min((index + 1) * share, len(self.gradient))
        add_lanes(self.lanes[:lanes], self.gradient, index * share, stop)


def total(lanes: list) -> tuple[float, dict[str, float]]:
    """(loss, metrics) of the whole batch, from what `work_lane` returned for the lanes 0, 1, .."""
    results = interleave(lanes)  # in the order of the shards
    names = results[0][1].keys()
    return sum(value for value, _ in results), {name: sum(m[name] for _, m in results) for name in names}


class Threads:
    """Worker threads; the calling thread does the work where one is enough, or, with a warning, they are refused."""

    def __init__(self, count: int | None = None):
        self.count = default_threads() if count is None else count
        if self.count < 1:
            raise ValueError(f"the number of threads must be at least 1; given {count}")
        self._pool = ThreadPoolExecutor(self.count, "lane") if self.count > 1 else None
        begin = threading.Event()
        try:
            for _ in range(self.count if self._pool else 0):  # start them now, so that a refusal costs no work
                self._pool.submit(begin.wait)  # no thread is idle, so each takes a new one
        except RuntimeError as error:
            self._pool.shutdown(wait=False)
            refused = f"the system allows no {self.count} threads ({error}); one does it all"
            warnings.warn(refused, RuntimeWarning, stacklevel=3)
            self.count, self._pool = 1, None
        finally:
            begin.set()

    def map(self, work: Callable, items) -> list:
        """[work(item) for item in items] on all threads; the first exception, if any, is raised here."""
        with runtime.single_threaded_blas():
            if self._pool is None:
                return [work(item) for item in items]
            return list(self._pool.map(work, items))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def map_shards(
    function: Callable, count: int, threads: Threads | None = None, processes: bool = False, most: int | None = None
) -> np.ndarray:
    """The arrays `function(part)` for each slice of `count` examples, without gradients, joined along axis 0.

    The slices, of `most` examples or fewer (`even_shards`), depend on `count` and the cores that there are, not on how
    many are used.  most: None: SHARD, or for threads, which wait for Python's lock between two kernels, twice as many
    (a VAE and a flow painted 1.23 times as fast).  Without `threads`: as many as `default_threads()`.
    processes: instead, where the system has them (`nn/processes.py`); for work of seconds, since starting them takes
        some 50 ms, by a `function` that does nothing but return its result
    Raises ValueError if there are no examples, since the shape of the result is then unknown.
    """
    if count < 1:
        raise ValueError("there must be at least one example (one image, one caption); given none")
    size = even_shards(count, most or (SHARD if processes else 2 * SHARD))
    starts = range(0, count, size)

    def work(start: int) -> np.ndarray:
        with no_grad():
            return function(slice(start, min(start + size, count)))

    workers = min(threads.count if threads else default_threads(), len(starts))
    if processes and (pool := start_pool(lambda index, _: [work(start) for start in starts[index::workers]], workers)):
        with closing(pool):
            return np.concatenate(interleave(pool.run()))
    pool = threads or Threads()
    try:
        return np.concatenate(pool.map(work, starts))
    finally:
        if threads is None:
            pool.close()
