"""PyTorch's side of the speed benchmark, as one of its contestants (see `bench/contestant.py`)."""
from __future__ import annotations

import numpy as np
import torch

from bench import models
from bench.peers import check, ops
from bench.peers.blocks import Fresh
from bench.peers.training import TwinTrainer
from generators.family import Shard
from nn.parallel import derive_rng

THREADS = 2
CHECKED = 8  # images in the batch on which loss and gradients are compared


class Theirs:
    """PyTorch in one process: "eager", "channels_last" or "compile"; see `bench/peers/pair.py` for two processes."""

    trainer_kind = TwinTrainer

    def __init__(self, way: str):
        torch.set_num_threads(THREADS)
        self.way, self.rng = way, Fresh()

    def build(self, family: str, dataset, settings: dict) -> None:
        ours = models.make_model(family, dataset, settings)
        self.trainer = self.trainer_kind(ours, dataset, 0, models.TOTAL_STEPS, self.way)
        self.parameters = ours.parameter_count()
        if self.way == "compile":
            self.trainer.family.compile_sampling()

    def step(self) -> None:
        self.trainer.step()

    def sample(self, count: int) -> np.ndarray:
        trainer = self.trainer
        tokens = trainer.encode(trainer.dataset.captions(np.arange(count)))
        with torch.inference_mode():
            noise = trainer.family.noise(count, self.rng)
            noise = tuple(map(trainer.arranged, noise)) if isinstance(noise, tuple) else trainer.arranged(noise)
            return trainer.family.sample(noise, torch.from_numpy(tokens)).movedim(1, -1).numpy()

    def prepare_op(self, op: str, arrays: list[np.ndarray]) -> tuple:
        """(run forwards, run forwards and backwards)"""
        return ops.prepare(op, arrays, self.way == "channels_last")

    @staticmethod
    def vectors() -> dict[str, str]:
        return {"PyTorch": torch.backends.cpu.get_cpu_capability()}

    def check(self, family: str) -> dict:
        dataset = models.data_for(family)
        ours = models.make_model(family, dataset, {})
        indices, rng = np.arange(CHECKED), derive_rng(0, "check")
        captions = dataset.captions(indices, rng)
        encode = ours.vocabulary.encode
        images, tokens = dataset.images[indices] * np.float32(1 / 255), encode(captions)
        false = encode(dataset.contradicting(indices, captions, rng))
        ours.prepare(images, tokens, rng)
        check.shake(ours, rng)
        shard = Shard(images, tokens, false, dataset.labels[indices], indices, CHECKED)
        agreement = check.compare(ours, shard, captions)
        return {"agrees": agreement.holds, "how": str(agreement)}
