"""Twins of `generators/families/vae.py` and `generators/parts/painter.py`."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from bench.peers.blocks import squeeze, unsqueeze
from bench.peers.layers import Linear, Twin
from bench.peers.training import Batch, FamilyTwin, TwinPhase


class CaptionPrior(Linear):
    def shift_and_log_scale(self, caption: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shift, log_scale = self(caption).chunk(2, dim=1)
        return shift, 5 * torch.tanh(log_scale / 5)


class Encoder(Twin):
    def __init__(self, ours):
        super().__init__(ours)
        channels = len(ours.norm.gamma.data)
        small = round((len(ours.output.weight) / channels) ** 0.5)
        self.output = Linear(ours.output, reads=(channels, small, small))

    def forward(self, images: torch.Tensor, caption: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.half_(self.stem(squeeze(images * 2 - 1)), caption)
        h = self.quarter(squeeze(h))
        for block in self.blocks:
            h = block(h, caption)
        mean, log_var = self.output(self.norm(h).flatten(1)).chunk(2, dim=1)
        shift, log_scale = self.prior.shift_and_log_scale(caption)
        return (mean - shift) * torch.exp(-log_scale), 10 * torch.tanh((log_var - 2 * log_scale) / 10)


class Painter(Twin):
    def __init__(self, ours):
        super().__init__(ours)
        channels = ours.grow.weight.shape[2]
        self.input = Linear(ours.input, writes=(channels, ours.small, ours.small))

    def forward(self, x: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        h = self.input(x).view(len(x), -1, self.small, self.small)
        for block in self.quarter:
            h = block(h, caption)
        h = unsqueeze(self.grow(h))
        for block in self.half_:
            h = block(h, caption)
        return self.output(F.silu(unsqueeze(self.fine(self.norm(h)))))


class Decoder(Painter):
    def forward(self, z: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        shift, log_scale = self.prior.shift_and_log_scale(caption)
        return super().forward(torch.cat([shift + torch.exp(log_scale) * z, caption], dim=1), caption)


class VAE(FamilyTwin):
    def __init__(self, ours):
        if ours.config.likelihood != "bernoulli":
            raise ValueError("the VAE's twin has the Bernoulli likelihood alone, as for handwriting")
        super().__init__(ours)
        self.encoder.prior = self.decoder.prior  # one, as in ours

    def phases(self) -> list[TwinPhase]:
        return [TwinPhase("vae", list(self.parameters()), self.draw, self.loss)]

    def draw(self, batch: Batch, rng) -> tuple[torch.Tensor, torch.Tensor]:
        return rng.uniform(*batch.images.shape), rng.normal(len(batch.images), self.config.latent)

    def loss(self, batch: Batch, threshold: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        images = (threshold < batch.images).float()
        caption = self.text(batch.tokens)
        mean, log_var = self.encoder(images, caption)
        outputs = self.decoder(mean + torch.exp(log_var * 0.5) * noise, caption)
        error = F.binary_cross_entropy_with_logits(outputs, images, reduction="sum")
        kl = 0.5 * torch.sum(mean * mean + log_var.exp() - 1 - log_var)
        return (error + self.config.beta * kl) / len(images)

    def noise(self, count: int, rng) -> torch.Tensor:
        return rng.normal(count, self.config.latent)

    def sample(self, z: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.decoder(z, self.text(tokens)))
