"""Twin of `generators/families/diffusion/video.py`; films are (N, C, T, H, W)."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from bench.peers import dit  # noqa: F401  its blocks
from bench.peers.blocks import drop_captions
from bench.peers.ddpm import DDPM
from bench.peers.layers import Twin
from bench.peers.training import Batch
from generators.families.diffusion.video import APART, GIVEN, TO_THE_END


class Meeting(Twin):
    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        x = self.first(self.around(x), condition)
        tokens = x.permute(0, 2, 3, 1).reshape(-1, *self.place.shape) + self.place
        tokens = tokens if self.across else tokens.reshape(len(x), -1, x.shape[1])
        for block in self.blocks:
            tokens = block(tokens, condition)
        return self.second(self.around(tokens.reshape(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)), condition)

    def around(self, x: torch.Tensor) -> torch.Tensor:
        if not self.across:
            return x
        film = F.pad(x.reshape(-1, self.shape[0], *x.shape[1:]), (0, 0, 0, 0, 0, 0, 1, 1))
        return torch.cat([film[:, :-2], film[:, 1:-1], film[:, 2:]], dim=2).flatten(0, 1)


class FilmNetwork(Twin):
    def forward(self, x: torch.Tensor, t: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        (n, c, frames, h, w), count = x.shape, len(self.order)
        times = t.reshape(n, -1)[:, :: self.span].expand(n, count).reshape(-1)
        captions = (caption[:, None] + self.order).reshape(n * count, -1)
        slices = x.transpose(1, 2).reshape(n * count, self.span * c, h, w)
        painted = self.slices(slices, times, captions)
        return painted.reshape(n, frames, c, h, w).transpose(1, 2)


class Video(DDPM):
    def draw(self, batch: Batch, rng) -> tuple[torch.Tensor, ...]:
        n, slices, double = len(batch.images), self.config.frames // self.config.span, {"dtype": torch.float64}
        offsets = rng.uniform(**double), rng.uniform(**double)
        order, kinds = rng.uniform(n * slices, **double), rng.uniform(4, n, 1, **double)
        return *offsets, order, kinds, rng.normal(*batch.images.shape), rng.uniform(n, **double)

    def drawn_times(self, offset: torch.Tensor, count: int) -> torch.Tensor:
        t, level = self.times(offset, count), (1 / self.alpha_bar - 1).sqrt()
        return torch.searchsorted(level, self.config.noise_factor * level[t]).clamp(max=self.config.time_steps)

    def levels(self, first, second, order, kinds) -> torch.Tensor:
        n, slices = kinds.shape[1], self.config.frames // self.config.span
        together = self.drawn_times(first, n)[:, None]
        apart = self.drawn_times(second, n * slices)[order.argsort()].reshape(n, slices)
        kind, onward, begin, end = kinds
        begin = (begin * slices).floor()
        end = torch.where(onward < TO_THE_END, slices, begin + 1 + (end * (slices - begin)).floor())
        number = torch.arange(slices)
        given = (kind > 1 - GIVEN) & ((number < begin) | (number >= end))
        t = torch.where(given, 0, torch.where(kind < APART, apart, together))
        return t.repeat_interleave(self.config.span, dim=1)

    def loss(self, batch: Batch, first, second, order, kinds, eps, uniform) -> torch.Tensor:
        config, x0 = self.config, batch.images * 2 - 1
        t = self.levels(first, second, order, kinds)
        alpha_bar = self.alpha_bar[t]
        signal = alpha_bar.sqrt().float()[:, None, :, None, None]
        noise = (1 - alpha_bar).sqrt().float()[:, None, :, None, None]
        target = eps if config.prediction == "noise" else signal * eps - noise * x0
        caption = self.text(drop_captions(batch.tokens, config.caption_dropout, uniform))
        output = self.network(signal * x0 + noise * eps, t, caption)
        noisy = (t > 0).float()
        errors = F.mse_loss(output, target, reduction="none").mean(dim=(1, 3, 4)) * noisy  # (n, T)
        return (errors.sum(dim=1) / noisy.sum(dim=1)).mean()

    def noise(self, count: int, rng) -> torch.Tensor:
        config = self.config
        return rng.normal(count, config.channels, config.frames, config.image_size, config.image_size)
