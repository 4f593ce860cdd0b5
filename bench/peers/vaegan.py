"""The twin of `generators/families/vaegan.py`."""
from __future__ import annotations

import torch

from bench.peers.gan import GAN
from bench.peers.training import Batch, TwinPhase


class VAEGAN(GAN):
    def __init__(self, ours):
        super().__init__(ours)
        self.encoder.prior = self.decoder.prior  # one, as in ours

    def phases(self) -> list[TwinPhase]:
        critic = list(self.discriminator.parameters())
        painters = [p for module in (self.text, self.encoder, self.decoder) for p in module.parameters()]
        return [
            TwinPhase("discriminator", critic, self.draw_for_discriminator, self.discriminator_loss),
            TwinPhase("painters", list(dict.fromkeys(painters)), self.draw_for_painters, self.loss),
        ]

    def paint(self, z: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.decoder(z, caption))

    def draw_for_discriminator(self, batch: Batch, rng) -> tuple[torch.Tensor, ...]:
        n, *image = batch.images.shape
        return self.noise(n - n // 2, rng), self.noise(n // 2, rng), rng.normal(2 * n, *image)

    def painted(self, batch: Batch, noise: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        caption, back = self.text(batch.tokens), len(noise)
        mean, log_var = self.encoder(batch.images[:back], caption[:back])
        return self.paint(torch.cat([mean + torch.exp(log_var * 0.5) * noise, z]), caption)

    def draw_for_painters(self, batch: Batch, rng) -> tuple[torch.Tensor, torch.Tensor]:
        n = len(batch.images)
        return self.noise(n, rng), self.noise(n // 2, rng)

    def loss(self, batch: Batch, noise: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        caption, n = self.text(batch.tokens), len(batch.images)
        mean, log_var = self.encoder(batch.images, caption)
        back = self.paint(mean + torch.exp(log_var * 0.5) * noise, caption)
        distance = 0.5 * torch.sum((back - (batch.images * 2 - 1)) ** 2)
        kl = 0.5 * torch.sum(mean * mean + log_var.exp() - 1 - log_var)
        half = n - n // 2
        shown = torch.cat([back[:half], self.paint(z, caption[half:])])
        return self.config.closeness * (distance + kl) / n + self.unconvinced(shown, batch)

    def noise(self, count: int, rng) -> torch.Tensor:
        return rng.normal(count, self.config.latent)

    def sample(self, z: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.paint(z, self.text(tokens)) * 0.5 + 0.5
