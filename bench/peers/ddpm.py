"""Twins of `unet.py` and `ddpm.py` in `generators/families/diffusion/`, and of the sampler in its `process.py`."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from bench import models
from bench.peers.blocks import drop_captions, squeeze, unsqueeze
from bench.peers.layers import Twin
from bench.peers.training import Batch, FamilyTwin, TwinPhase
from generators.families.diffusion import process
from generators.families.diffusion.ddpm import MAX_GUESS


class TimeEncoder(Twin):
    def forward(self, t: torch.Tensor) -> torch.Tensor:
        half = self.hidden.weight.shape[1] // 2
        # in float64: the fastest wave of a late time is the sine of 1000, of which float32 keeps too little
        exponents = torch.arange(half, dtype=torch.float64) / max(half - 1, 1)
        angles = t[:, None].double() * torch.exp(-math.log(10_000) * exponents)
        waves = torch.cat([angles.sin(), angles.cos()], dim=1).float()
        return self.output(F.silu(self.hidden(waves)))


class AttentionBlock(Twin):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (N, HW, C)
        return x + self.attention(pixels).transpose(1, 2).view(n, c, h, w)


class Bottom(Twin):
    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        layout = self.layout_(condition).view(len(x), self.size, self.size, -1).permute(0, 3, 1, 2)
        x = x + self.spread(layout)
        return self.second(self.attention(self.first(x, condition)), condition)


class Level(Twin):
    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        x = self.before(x, condition)
        x = x + unsqueeze(self.enlarge(self.below(self.shrink(squeeze(x)), condition)))
        for block in self.after:
            x = block(x, condition)
        return x


class UNet(Twin):
    def forward(self, x: torch.Tensor, t: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        condition = F.silu(self.time(t) + caption)
        h = self.output(self.norm(self.levels(self.input(squeeze(x) if self.squeezed else x), condition)))
        return unsqueeze(h) if self.squeezed else h


class DDPM(FamilyTwin):
    STEPS = models.SAMPLING["ddpm"]["steps"]

    def __init__(self, ours):
        super().__init__(ours)
        if ours.config.prediction == "velocity":
            raise ValueError("the PyTorch twin does not predict the velocity; compare one that predicts another thing")
        self.register_buffer("alpha_bar", torch.tensor(ours.alpha_bar))  # float64 (T + 1,)
        if ours.training_share is not None:
            self.register_buffer("training_share", torch.tensor(ours.training_share))  # float64 (T,)

    def phases(self) -> list[TwinPhase]:
        return [TwinPhase("ddpm", list(self.parameters()), self.draw, self.loss)]

    def draw(self, batch: Batch, rng) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        offset = rng.uniform(dtype=torch.float64)
        eps = rng.normal(*batch.images.shape)
        return offset, eps, rng.uniform(len(eps), dtype=torch.float64)

    def loss(self, batch: Batch, offset: torch.Tensor, eps: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        config, n = self.config, len(eps)
        x0 = batch.images * 2 - 1
        t = self.times(offset, n)
        alpha_bar = self.alpha_bar[t]
        signal = alpha_bar.sqrt().float()[:, None, None, None]
        noise = (1 - alpha_bar).sqrt().float()[:, None, None, None]
        target = {"noise": eps, "image": x0}.get(config.prediction, signal * eps - noise * x0)
        caption = self.text(drop_captions(batch.tokens, config.caption_dropout, uniform))
        output = self.network(signal * x0 + noise * eps, t, caption)
        errors = F.mse_loss(output, target, reduction="none").mean(dim=(1, 2, 3))
        return errors.mean()

    def times(self, offset: torch.Tensor, count: int) -> torch.Tensor:
        fractions = (offset + torch.arange(count, dtype=torch.float64) / count) % 1.0
        if self.config.training_times == "middle":
            return torch.searchsorted(self.training_share, fractions, right=True) + 1
        last = self.config.time_steps - 1
        return torch.clamp((fractions * self.config.time_steps).long(), max=last) + 1

    def noise(self, count: int, rng) -> torch.Tensor:
        size = self.config.image_size
        return rng.normal(count, self.config.channels, size, size)

    def predict(self, x: torch.Tensor, t: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        return self.network(x, t, caption)

    def compile_sampling(self) -> None:
        """The network alone: the loop around it would be one graph of ten networks, which takes ten times as long."""
        self.predict = torch.compile(self.predict, dynamic=False)

    def sample(self, noise: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Second-order steps, each taken again, with guidance 1 (see `process.reverse_process`)."""
        caption, x, last = self.text(tokens), noise, None
        times = process.time_steps(self.config.time_steps, self.STEPS)
        levels = [float(level) for level in self.alpha_bar[times]]

        def step(x: torch.Tensor, x0: torch.Tensor, ab_t: float, ab_s: float) -> torch.Tensor:
            return math.sqrt(ab_s) * x0 + math.sqrt((1 - ab_s) / (1 - ab_t)) * (x - math.sqrt(ab_t) * x0)

        for t, s, ab_t, ab_s in zip(times, times[1:], levels, levels[1:], strict=False):
            output = self.predict(x, torch.full((len(x),), t), caption)
            signal, deviation = math.sqrt(ab_t), math.sqrt(1 - ab_t)
            if self.config.prediction == "image":
                x0 = output
            elif self.config.prediction == "noise":
                x0 = (x - deviation * output) / signal
            else:
                x0 = signal * x - deviation * output
            aim = x0 = x0.clamp(-MAX_GUESS, MAX_GUESS)
            if last is not None:
                x_r, x0_r, ab_r = last
                x = step(x_r, process.average_guess(x0_r, ab_r, x0, ab_t, ab_r, ab_t), ab_r, ab_t)
                if s > 0:
                    aim = process.average_guess(x0_r, ab_r, x0, ab_t, ab_t, ab_s)
            last = x, x0, ab_t
            x = step(x, aim, ab_t, ab_s)
        return self.finished(x)

    def finished(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 0.5 + 0.5).clamp(0, 1)
