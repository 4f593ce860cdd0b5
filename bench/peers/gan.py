"""Twins of `generators/families/gan.py` and `generators/parts/critic.py`."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from bench.peers.blocks import squeeze
from bench.peers.layers import Linear, Twin
from bench.peers.training import Batch, FamilyTwin, TwinPhase
from bench.peers.vae import Painter


class Generator(Painter):
    def forward(self, caption: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(super().forward(torch.cat([caption, z], dim=1), caption))


class PlainBlock(Twin):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, 0.2)), 0.2))


class Discriminator(Twin):
    def __init__(self, ours):
        super().__init__(ours)
        channels = ours.shrink.weight.shape[3]
        small = round((len(ours.features.weight) / channels) ** 0.5)
        self.features = Linear(ours.features, reads=(channels, small, small))

    def look(self, images: torch.Tensor) -> torch.Tensor:
        h = self.stem(squeeze(images))
        for block in self.half_:
            h = block(h)
        h = self.shrink(squeeze(h))
        for block in self.quarter:
            h = block(h)
        return F.leaky_relu(self.features(F.leaky_relu(h, 0.2).flatten(1)), 0.2)

    def score(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        match = torch.sum(features * self.caption(self.text(tokens)), dim=1) * (1 / math.sqrt(features.shape[1]))
        return self.real(features).view(-1) + match


class GAN(FamilyTwin):
    def phases(self) -> list[TwinPhase]:
        discriminator = list(self.discriminator.parameters())
        painter = [*self.text.parameters(), *self.generator.parameters()]
        return [
            TwinPhase("discriminator", discriminator, self.draw_for_discriminator, self.discriminator_loss),
            TwinPhase("generator", painter, self.draw_for_generator, self.generator_loss),
        ]

    def draw_for_discriminator(self, batch: Batch, rng) -> tuple[torch.Tensor, torch.Tensor]:
        n, *image = batch.images.shape
        return rng.normal(n, self.config.noise), rng.normal(2 * n, *image)

    def painted(self, batch: Batch, z: torch.Tensor) -> torch.Tensor:
        return self.generator(self.text(batch.tokens), z)

    def discriminator_loss(self, batch: Batch, *drawn: torch.Tensor) -> torch.Tensor:
        *z, direction = drawn
        n, step = len(batch.images), self.config.penalty_step
        with torch.no_grad():
            both = torch.cat([batch.images * 2 - 1, self.painted(batch, *z)])
            inputs = torch.cat([both, both + step * direction])
        seen = self.discriminator.look(inputs)
        scores = self.discriminator.score(seen, batch.tokens.repeat(4, 1))
        on_real, on_fake = scores[:n], scores[n : 2 * n]
        on_lie = self.discriminator.score(seen[:n], batch.false_tokens)
        contest = F.softplus(on_fake - on_real).sum() + F.softplus(on_lie - on_real).sum()
        penalty = (((scores[2 * n :] - scores[: 2 * n]) / step) ** 2).sum()
        return (contest + penalty * (self.config.gamma / 2)) / n

    def draw_for_generator(self, batch: Batch, rng) -> tuple[torch.Tensor]:
        return (rng.normal(len(batch.images), self.config.noise),)

    def generator_loss(self, batch: Batch, z: torch.Tensor) -> torch.Tensor:
        return self.unconvinced(self.painted(batch, z), batch)

    def unconvinced(self, fake: torch.Tensor, batch: Batch) -> torch.Tensor:
        on_fake = self.discriminator.score(self.discriminator.look(fake), batch.tokens)
        with torch.no_grad():
            on_real = self.discriminator.score(self.discriminator.look(batch.images * 2 - 1), batch.tokens)
        return F.softplus(on_real - on_fake).mean()

    def noise(self, count: int, rng) -> torch.Tensor:
        return rng.normal(count, self.config.noise)

    def sample(self, z: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.generator(self.text(tokens), z) * 0.5 + 0.5
