"""PyTorch as two processes of one thread each, which is how Inkling uses two cores: data parallelism.

Each has the whole model and half of every batch; between backward and the optimiser their gradients are averaged by
`torch.distributed` (gloo, over memory of this machine).  Painting is shared out in halves, too.
"""
from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from bench import models
from bench.peers.player import Theirs
from bench.peers.training import Batch, TwinTrainer

PROCESSES = 2


class Half(TwinTrainer):
    """A trainer that sees its share of each batch, and averages gradients with the others."""

    def batch(self) -> Batch:
        whole = super().batch()
        return Batch(*(None if part is None else part.chunk(PROCESSES)[distributed.get_rank()] for part in whole))

    def gathered(self, parameters: list[torch.nn.Parameter]) -> None:
        flat = torch.cat([weight.grad.reshape(-1) for weight in parameters])
        distributed.all_reduce(flat)
        for weight, part in zip(parameters, flat.split([weight.numel() for weight in parameters]), strict=True):
            weight.grad.copy_(part.view_as(weight) * (1 / PROCESSES))


class Member(Theirs):
    """One of the processes; `rank` 0 is the contestant's own."""

    trainer_kind = Half

    def __init__(self, rank: int, meeting: Path):
        super().__init__("channels_last")
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=PROCESSES)


class Pair(Member):
    """The contestant: it does its half, and asks the other process for the other."""

    def __init__(self):
        folder = tempfile.TemporaryDirectory(prefix="inkling-pair-")
        context = torch.multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        other = context.Process(target=serve, args=(theirs, Path(folder.name) / "meeting"), daemon=True)
        other.start()
        self.close = weakref.finalize(self, other.kill)
        super().__init__(0, Path(folder.name) / "meeting")
        folder.cleanup()  # they have met

    def build(self, family: str, dataset, settings: dict) -> None:
        self.line.send(("build", family, dataset.images.shape[-2], settings))
        super().build(family, dataset, settings)

    def step(self) -> None:
        self.line.send(("step",))
        super().step()

    def sample(self, count: int) -> np.ndarray:
        self.line.send(("sample", count // PROCESSES))
        mine = super().sample(count - count // PROCESSES)
        return np.concatenate([mine, self.line.recv()])


def serve(line, meeting: Path) -> None:
    """What the other process does: what it is told, and its pictures back."""
    member, parent = Member(1, meeting), os.getppid()
    while os.getppid() == parent:
        do, *arguments = line.recv()
        if do == "build":
            arguments[1] = models.data_for(*arguments[:2])
        answer = getattr(member, do)(*arguments)
        if do == "sample":
            line.send(answer)
