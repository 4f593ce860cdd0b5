"""That a family and its twin compute the same: loss, every gradient, and samples, from the same random numbers."""
from __future__ import annotations

import importlib
from dataclasses import dataclass

import numpy as np
import torch

from bench import models
from bench.peers.blocks import Recorder, Replayed
from bench.peers.layers import twin
from bench.peers.training import to_torch
from generators.family import Family, Shard
from nn.parallel import Threads
from nn.tensor import gradients_into

for name in models.WITH_TWIN:
    importlib.import_module(f"bench.peers.{name}")  # makes the twin known

TOLERANCE = 1e-4  # of the largest entry
FLOOR = 1e-3  # of the phase's largest entry: what a gradient is measured against where its own largest is smaller, for
# some are sums that cancel to zero exactly, and to rounding errors in float32 (the bias of attention's keys: added to
# all keys alike, it changes no softmax)


@dataclass(frozen=True)
class Agreement:
    """The largest differences between ours and the twin's, each over the largest entry of what is compared."""

    loss: float
    gradient: float
    where: str  # the parameter whose gradient differs most
    gradients: int  # how many were compared
    samples: float  # mean absolute difference of pixels in [0, 1]

    @property
    def holds(self) -> bool:
        return max(self.loss, self.gradient, self.samples) <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"loss within {self.loss:.0e}, {self.gradients} gradients within {self.gradient:.0e} of their largest "
            f"entry (worst: {self.where}), samples within {self.samples:.0e}"
        )


def shake(family: Family, rng: np.random.Generator) -> None:
    """Move every weight a little, so that no layer is left at the zeros at which some begin."""
    for parameter in family.parameters():
        scale = 0.05 if parameter.ndim == 1 else 0.3 / np.sqrt(parameter.size / parameter.shape[-1])
        parameter.data += (scale * rng.standard_normal(parameter.shape)).astype(parameter.dtype)


def compare(family: Family, shard: Shard, captions: list[str], seed: int = 0) -> Agreement:
    """Compare a family with its twin on one shard, which is a whole batch, and on samples of these captions."""
    other = twin(family)
    pairs = other.pairs()
    names = {id(parameter): name for name, parameter in family.named_parameters()}
    loss_error, errors = 0.0, {}
    batch = to_torch(shard.images, shard.tokens, shard.false_tokens)
    for mine, theirs in zip(family.phases(0), other.phases(), strict=True):
        recorder = Recorder(np.random.default_rng(seed))
        sink = {id(parameter): np.zeros_like(parameter.data) for parameter in mine.parameters}
        with gradients_into(sink):
            loss, _ = mine.loss(shard, recorder)
            loss.backward()
        other.zero_grad(set_to_none=True)
        their_loss = theirs.loss(batch, *theirs.draw(batch, Replayed(recorder.drawn)))
        their_loss.backward()
        loss_error = max(loss_error, abs(loss.item() - their_loss.item()) / abs(their_loss.item()))
        if {names[key] for key in sink} != {name for name, (p, _) in pairs.items() if _one_of(p, theirs.parameters)}:
            raise AssertionError(f"the {mine.name} phase trains other parameters than its twin")
        largest = max(float(parameter.grad.abs().max()) for parameter in theirs.parameters)
        for key, gradient in sink.items():
            parameter, layout = pairs[names[key]]
            truth = layout.to_ours(parameter.grad, gradient.shape)
            scale = max(np.abs(truth).max(), FLOOR * largest)
            errors[f"{mine.name}: {names[key]}"] = float(np.abs(gradient - truth).max() / scale)
    worst = max(errors, key=lambda name: np.inf if np.isnan(errors[name]) else errors[name])
    return Agreement(loss_error, errors[worst], worst, len(errors), _compare_samples(family, other, captions, seed))


def _one_of(parameter: torch.Tensor, parameters: list[torch.Tensor]) -> bool:
    return any(parameter is p for p in parameters)


def _compare_samples(family: Family, other, captions: list[str], seed: int) -> float:
    recorder = Recorder(np.random.default_rng(seed))
    threads = Threads(1)
    images = family.sample(captions, recorder, threads=threads, **models.SAMPLING.get(family.name, {}))
    tokens = torch.from_numpy(family.vocabulary.encode(captions))
    with torch.inference_mode():
        theirs = other.sample(other.noise_from_ours(recorder.drawn[0]), tokens)
    return float(np.abs(images - theirs.movedim(1, -1).numpy()).mean())
