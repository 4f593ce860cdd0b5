"""The twin of `generators/vaegan.py`."""
from __future__ import annotations

import torch

from bench.peers.gan import GAN
from bench.peers.training import Batch, TwinPhase


class VAEGAN(GAN):
    def __init__(self, ours):
        super().__init__(ours)
        self.encoder.place = self.decoder.place  # one, as in ours

    def phases(self) -> list[TwinPhase]:
        critic = list(self.discriminator.parameters())
        painters = [p for module in (self.text, self.encoder, self.decoder) for p in module.parameters()]
        return [
            TwinPhase("discriminator", critic, self.draw_for_discriminator, self.discriminator_loss),
            TwinPhase("painters", list(dict.fromkeys(painters)), self.draw_for_painters, self.loss),
        ]

    def generator(self, caption: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.decoder(z, caption))

    def draw_for_discriminator(self, batch: Batch, rng) -> tuple[torch.Tensor, torch.Tensor]:
        n, *image = batch.images.shape
        return self.noise(n, rng), rng.normal(2 * n, *image)

    def draw_for_painters(self, batch: Batch, rng) -> tuple[torch.Tensor, torch.Tensor]:
        n = len(batch.images)
        return self.noise(n, rng), self.noise(n, rng)

    def loss(self, batch: Batch, noise: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        caption = self.text(batch.tokens)
        mean, log_var = self.encoder(batch.images, caption)
        painted = self.generator(caption, mean + torch.exp(log_var * 0.5) * noise)
        distance = 0.5 * torch.sum((painted - (batch.images * 2 - 1)) ** 2)
        kl = 0.5 * torch.sum(mean * mean + log_var.exp() - 1 - log_var)
        return self.config.weight * (distance + kl) / len(batch.images) + self.generator_loss(batch, z)

    def noise(self, count: int, rng) -> torch.Tensor:
        return rng.normal(count, self.config.latent)
