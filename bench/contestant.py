"""One contestant of the speed benchmark, in a process of its own: `python -m bench.contestant ours 2`.

Reads requests from standard input, one JSON object a line, and answers each with one.  What it may be asked stands in
the methods of `Contestant`.  Between requests it waits and uses no processor.
"""
from __future__ import annotations

import json
import os
import sys
import time

from bench.memory import peak_megabytes, reset_peak

GEMM_SIZE = 1024  # of square matrices, whose product stands for the most that the processor can do


class Contestant:
    """What both sides do; `player` is Ours or bench.peers.player.Theirs."""

    def __init__(self, side: str, way: str):
        from bench import models

        self.models, self.prepared = models, None
        if side == "ours":
            self.player = Ours(int(way))
        elif way == "pair":
            from bench.peers.pair import Pair

            self.player = Pair()
        else:
            from bench.peers.player import Theirs

            self.player = Theirs(way)

    def build(self, family: str, size: int = 28, settings: dict | None = None) -> dict:
        """Make a model; peak memory is counted from here on."""
        self.dataset = self.models.data_for(family, size)
        self.baseline = reset_peak()
        self.player.build(family, self.dataset, settings or {})
        return {"parameters": self.player.parameters}

    def check(self, family: str) -> dict:
        """Whether the twin of a family of default size computes what ours does: {"agrees": .., "how": ..}."""
        return self.player.check(family)

    def train(self, steps: int) -> dict:
        """{"seconds": [one for each training step]}"""
        return {"seconds": [_timed(self.player.step) for _ in range(steps)]}

    def sample(self, count: int, times: int) -> dict:
        """{"seconds": [one for each time that `count` pictures were painted]}"""
        return {"seconds": [_timed(self.player.sample, count) for _ in range(times)]}

    def memory(self) -> dict:
        """{"megabytes": the peak since `build`, above what was there before}"""
        return {"megabytes": peak_megabytes() - self.baseline}

    def op(self, op: str, shapes: list, budget: float = 0.15) -> dict:
        """{"forward": seconds, "both": seconds}: the shortest of the runs that fit into about `budget` seconds."""
        import numpy as np

        if (op, shapes) != self.prepared:
            rng = np.random.default_rng(0)
            arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
            self.prepared, self.runs = (op, shapes), self.player.prepare_op(op, arrays)
        times = {}
        for part, run in zip(("forward", "both"), self.runs, strict=True):
            first = _timed(run)
            times[part] = min(_timed(run) for _ in range(max(3, min(100, int(budget / first)))))
        return times

    def flops(self, family: str, settings: dict | None = None) -> dict:
        """{"gflop": of the multiplications of matrices and convolutions in one training step, by the direct method}"""
        from bench.flops import count_step

        return {"gflop": count_step(self.models.make_trainer(family, self.models.data_for(family), 1, settings)) / 1e9}

    def vectors(self) -> dict:
        """{library: the instruction set or processor that it works for}"""
        return self.player.vectors()

    def gemm(self) -> dict:
        """{"gflops": what np.matmul reaches now, on all threads of this contestant at once} (ours only)"""
        return {"gflops": self.player.gemm()}


class Ours:
    """Inkling on so many threads."""

    def __init__(self, threads: int):
        from nn.parallel import Threads

        self.count, self.threads, self.matrices = threads, Threads(threads), None

    def build(self, family: str, dataset, settings: dict) -> None:
        from bench import models

        self.trainer = models.make_trainer(family, dataset, self.count, settings)
        self.parameters = self.trainer.family.parameter_count()
        self.options = models.SAMPLING.get(family, {})

    def step(self) -> None:
        self.trainer.step()

    def sample(self, count: int) -> None:
        import numpy as np

        captions = self.trainer.dataset.captions(np.arange(count))
        self.trainer.family.sample(captions, np.random.default_rng(0), threads=self.threads, **self.options)

    @staticmethod
    def function(op: str):
        """The op as a function of the arrays of a case in `bench/ops.py`."""
        from nn import functional as F

        return {
            "conv2d": lambda x, w, b: F.conv2d(x, w, b, padding=len(w) // 2),
            "group_norm_silu": lambda x, gamma, beta, m=None: F.group_norm_silu(x, gamma, beta, 8, modulation=m),
        }.get(op) or getattr(F, op)

    def prepare_op(self, op: str, arrays: list) -> tuple:
        """(run forwards, run forwards and backwards), each on shards as in training, in all processes."""
        import numpy as np

        from bench.ops import WEIGHTS
        from nn import processes
        from nn.parallel import SHARD, even_shards
        from nn.tensor import Parameter

        function, count = self.function(op), len(arrays[0])
        size = even_shards(count, SHARD, self.count)
        weights = WEIGHTS.get(op, ())  # the others are cut with the images
        shards = [
            [Parameter(a if position in weights else a[i : i + size]) for position, a in enumerate(arrays)]
            for i in range(0, count, size)
        ]

        def both(shard: list) -> None:
            for tensor in shard:
                tensor.grad = None
            y = function(*shard)
            y.backward(np.ones(y.shape, np.float32))

        def work(index: int, backwards: bool) -> None:
            for shard in shards[index :: self.count]:
                both(shard) if backwards else function(*shard)

        both(shards[0])  # compiles, once and not in every process
        pool = processes.start_pool(work, self.count)
        if pool is None:
            return tuple(lambda b=b: self.threads.map(lambda i: work(i, b), range(self.count)) for b in (False, True))
        return lambda: pool.run(False), lambda: pool.run(True)

    @staticmethod
    def vectors() -> dict[str, str]:
        import numba
        import threadpoolctl

        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        compiled = numba.config.CPU_NAME or numba.core.codegen.ll.get_host_cpu_name()
        return {"Numba": compiled, **{pool["internal_api"]: str(pool.get("architecture")) for pool in pools}}

    def gemm(self) -> float:
        import numpy as np

        if self.matrices is None:  # kept: asked for before `build`, they count as little as the imports
            self.matrices = np.random.default_rng(0).random((self.count, 3, GEMM_SIZE, GEMM_SIZE), np.float32)

        def multiply(i: int) -> None:
            a, b, product = self.matrices[i]
            for _ in range(10):
                np.matmul(a, b, out=product)

        seconds = [_timed(self.threads.map, multiply, range(self.count)) for _ in range(7)]
        return 10 * self.count * 2 * GEMM_SIZE**3 / float(np.median(seconds)) / 1e9


def _timed(function, *arguments) -> float:
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def serve(side: str, way: str, requests, answers) -> None:
    contestant = Contestant(side, way)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in requests:
        request = json.loads(line)
        method = getattr(contestant, request.pop("do"))
        print(json.dumps(method(**request)), file=answers, flush=True)


def main() -> None:
    side, way = sys.argv[1:3]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is not an answer
    import nn  # noqa: F401  (before NumPy; PyTorch gets the allocator's settings, too, which make it faster)

    serve(side, way, sys.stdin, answers)


if __name__ == "__main__":
    main()
