"""Twins of `generators/training.py`: a batch, a phase, a family, and a training step written for speed.

The step uses what PyTorch offers for it: gradients set to None, the fused AdamW, the foreach forms of clipping, of the
optimiser's momentum and of the moving average.  A phase draws its random numbers apart from its loss, so that the loss
is a function of tensors that torch.compile can take whole, and so that a check can put our random numbers in the place
of PyTorch's.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from bench.peers.blocks import Fresh
from bench.peers.layers import Twin
from bench.peers.muon import Muon
from datasets.batches import Batches
from datasets.dataset import Dataset
from generators.family import Family
from nn.optim import cosine_decay, warmup
from nn.parallel import derive_rng


class Batch(NamedTuple):
    images: torch.Tensor  # (N, C, H, W) in [0, 1]
    tokens: torch.Tensor  # (N, L)
    false_tokens: torch.Tensor | None


class TwinPhase(NamedTuple):
    name: str
    parameters: list[torch.nn.Parameter]
    draw: Callable[..., tuple[torch.Tensor, ...]]  # (batch, rng) -> random numbers
    loss: Callable[..., torch.Tensor]  # (batch, *random numbers) -> the loss


class FamilyTwin(Twin):
    """Base of the families' twins: what is trained, and how they sample."""

    def phases(self) -> list[TwinPhase]:
        raise NotImplementedError

    def noise(self, count: int, rng) -> torch.Tensor:
        """The random numbers that `count` images are made from."""
        raise NotImplementedError

    def noise_from_ours(self, drawn: np.ndarray) -> torch.Tensor:
        """The same, from what our `sample` has drawn."""
        noise = torch.from_numpy(drawn)
        return noise.movedim(-1, 1) if noise.ndim >= 4 else noise

    def sample(self, noise: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Images (N, C, H, W) in [0, 1]."""
        raise NotImplementedError

    def compile_sampling(self) -> None:
        """Let torch.compile have what `sample` spends its time on."""
        self.sample = torch.compile(self.sample, dynamic=False)


class TwinTrainer:
    """Trains the twin of a family of ours on the batches that our Trainer would take.

    way: "eager", "channels_last" or "compile"
    """

    def __init__(self, ours: Family, dataset: Dataset, seed: int, total_steps: int, way: str):
        twin = Twin.kinds[type(ours).__name__](ours)
        self.family, self.way, self.dataset, self.seed, self.total_steps = twin, way, dataset, seed, total_steps
        if way == "channels_last":
            twin.to(memory_format=torch.channels_last)
        self.phases = twin.phases()
        self.losses = [torch.compile(p.loss, dynamic=False) if way == "compile" else p.loss for p in self.phases]
        settings = [phase.optimiser for phase in ours.phases(0)]
        self.optimisers = [Muon(p.parameters, s) for p, s in zip(self.phases, settings, strict=True)]
        self.settings = settings
        self.averages = [[w.detach().clone() for w in phase.parameters] for phase in self.phases]
        self.batches = Batches(dataset, ours.config.batch_size, seed)
        self.wants_false_captions = ours.wants_false_captions
        self.length = self.encode(dataset.captions(np.arange(len(dataset)))).shape[1]
        self.step_number, self.rng = 0, Fresh()

    def encode(self, captions: list[str]) -> np.ndarray:
        return self.family.vocabulary.encode(captions)

    def batch(self) -> Batch:
        """The next batch, made as ours are; captions padded to one length, or torch.compile would start anew."""
        given = self.batches.at(self.step_number)
        false_tokens = None
        if self.wants_false_captions:
            rng = derive_rng(self.seed, "false captions", self.step_number)
            false_tokens = self.encode(self.dataset.contradicting(given.indices, given.captions, rng))
        batch = to_torch(given.images, self.encode(given.captions), false_tokens, self.length)
        return batch._replace(images=self.arranged(batch.images))

    def arranged(self, images: torch.Tensor) -> torch.Tensor:
        """Images in the memory format of this way; anything else as it is."""
        if self.way != "channels_last" or images.ndim != 4:
            return images
        return images.contiguous(memory_format=torch.channels_last)

    def step(self) -> float:
        """One training step; returns the loss of its last phase."""
        batch = self.batch()
        for number in range(len(self.phases)):
            value = self._update(number, batch)
        self.step_number += 1
        return value

    def gathered(self, parameters: list[torch.nn.Parameter]) -> None:
        """What happens to gradients before they are used: nothing, where one process has the whole batch."""

    def _update(self, number: int, batch: Batch) -> float:
        phase, settings, optimiser = self.phases[number], self.settings[number], self.optimisers[number]
        if len(self.phases) > 1:  # the other phases' weights are constants now, so that nothing is computed for them
            for other in self.phases:
                for weight in other.parameters:
                    weight.requires_grad_(other is phase)
        for weight in phase.parameters:
            weight.grad = None
        loss = self.losses[number](batch, *phase.draw(batch, self.rng))
        loss.backward()
        self.gathered(phase.parameters)
        torch.nn.utils.clip_grad_norm_(phase.parameters, settings.clip_norm, foreach=True)
        rate = warmup(self.step_number, settings.warmup_steps)
        rate *= cosine_decay(self.step_number, self.total_steps, settings.final)
        optimiser.step(settings.rate * rate)
        decay = min(self.family.config.ema_decay, (1 + self.step_number) / (10 + self.step_number))
        with torch.no_grad():
            torch._foreach_lerp_(self.averages[number], phase.parameters, 1 - decay)
        return loss.item()


def to_torch(images: np.ndarray, tokens: np.ndarray, false_tokens: np.ndarray | None, length: int = 0) -> Batch:
    """Arrays of ours as a batch; captions padded to `length` words where they are shorter."""

    def padded(tokens: np.ndarray | None) -> torch.Tensor | None:
        if tokens is None:
            return None
        return torch.from_numpy(np.pad(tokens, [(0, 0), (0, max(0, length - tokens.shape[1]))]))

    return Batch(torch.from_numpy(images).movedim(-1, 1).contiguous(), padded(tokens), padded(false_tokens))
