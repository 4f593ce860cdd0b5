"""Twin of `generators/families/diffusion/video.py`; films are (N, C, T, H, W)."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from bench.peers import dit  # noqa: F401  its blocks
from bench.peers.blocks import drop_captions
from bench.peers.ddpm import DDPM
from bench.peers.layers import Twin
from bench.peers.training import Batch
from generators.families.diffusion.video import APART, GIVEN, TO_THE_END, toward_middle


class Meeting(Twin):
    def forward(self, x: torch.Tensor, condition: torch.Tensor, shown: slice) -> torch.Tensor:
        place = self.place.reshape(self.shape[0], -1, x.shape[1])[shown]
        layout = self.layout_(condition).view(len(x), *self.shape[1:], -1).permute(0, 3, 1, 2)
        x = self.first((around(x, len(place)) if self.across else x) + self.spread(layout), condition)
        tokens = x.permute(0, 2, 3, 1).reshape(-1, *place.shape) + place
        tokens = tokens.reshape(len(tokens) if self.across else len(x), -1, x.shape[1])
        for block in self.blocks:
            tokens = block(tokens, condition)
        tokens = tokens.reshape(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
        return self.second(around(tokens, len(place)) if self.across else tokens, condition)


def around(x: torch.Tensor, slices: int) -> torch.Tensor:
    film = F.pad(x.reshape(-1, slices, *x.shape[1:]), (0, 0, 0, 0, 0, 0, 1, 1))
    return torch.cat([film[:, :-2], film[:, 1:-1], film[:, 2:]], dim=2).flatten(0, 1)


class FilmNetwork(Twin):
    def forward(self, x: torch.Tensor, t: torch.Tensor, caption: torch.Tensor, first: int = 0) -> torch.Tensor:
        n, c, frames, h, w = x.shape
        count = frames // self.span
        shown = slice(first, first + count)
        times = t.reshape(n, -1)[:, :: self.span].expand(n, count).reshape(-1)
        captions = (caption[:, None] + self.order[shown]).reshape(n * count, -1)
        slices = x.transpose(1, 2).reshape(n * count, self.span * c, h, w)
        slices = around(slices, count) if self.across else slices
        painted = self.slices(slices, times, captions, shown)
        return painted.reshape(n, frames, c, h, w).transpose(1, 2)


class Video(DDPM):
    """As at the beginning of a run, where it shows clips, if the config has any."""

    @property
    def shown(self) -> int:
        return 1 if self.config.clips else self.config.frames // self.config.span

    def draw(self, batch: Batch, rng) -> tuple[torch.Tensor, ...]:
        slices, double = self.shown, {"dtype": torch.float64}
        n, c, _, *size = -(-len(batch.images) // slices), *batch.images.shape[1:]
        first, *offsets = (rng.uniform(**double) for _ in range(3))
        order, kinds = rng.uniform(n * slices, **double), rng.uniform(4, n, 1, **double)
        eps = rng.normal(n, c, slices * self.config.span, *size)
        return first, *offsets, order, kinds, eps, rng.uniform(n, **double)

    def drawn_times(self, offset: torch.Tensor, count: int) -> torch.Tensor:
        t, level = self.times(offset, count), (1 / self.alpha_bar - 1).sqrt()
        return torch.searchsorted(level, self.config.noise_factor * level[t]).clamp(max=self.config.time_steps)

    def levels(self, first, second, order, kinds) -> torch.Tensor:
        n, slices = kinds.shape[1], self.shown
        together = self.drawn_times(first, n)[:, None]
        apart = self.drawn_times(second, n * slices)[order.argsort()].reshape(n, slices)
        kind, onward, begin, end = kinds
        begin = (begin * slices).floor()
        end = torch.where(onward < TO_THE_END, slices, begin + 1 + (end * (slices - begin)).floor())
        number = torch.arange(slices)
        given = (kind > 1 - GIVEN) & ((number < begin) | (number >= end))
        t = torch.where(given, 0, torch.where(kind < APART, apart, together))
        return t.repeat_interleave(self.config.span, dim=1)

    def loss(self, batch: Batch, begin, first, second, order, kinds, eps, uniform) -> torch.Tensor:
        config, n = self.config, len(eps)
        begin = int(begin * (config.frames // config.span - self.shown + 1))
        x0 = batch.images[:n, :, begin * config.span : (begin + self.shown) * config.span] * 2 - 1
        if self.shown < config.frames // config.span:  # clips are shifted; data, not network: ours
            films = toward_middle(x0.permute(0, 2, 3, 4, 1).numpy(), 1)
            x0 = torch.from_numpy(films).permute(0, 4, 1, 2, 3)
        t = self.levels(first, second, order, kinds)
        alpha_bar = self.alpha_bar[t]
        signal = alpha_bar.sqrt().float()[:, None, :, None, None]
        noise = (1 - alpha_bar).sqrt().float()[:, None, :, None, None]
        target = eps if config.prediction == "noise" else signal * eps - noise * x0
        caption = self.text(drop_captions(batch.tokens[:n], config.caption_dropout, uniform))
        output = self.network(signal * x0 + noise * eps, t, caption, begin)
        noisy = (t > 0).float()
        errors = F.mse_loss(output, target, reduction="none").mean(dim=(1, 3, 4)) * noisy  # (n, T)
        return (errors.sum(dim=1) / noisy.sum(dim=1)).mean()

    def noise(self, count: int, rng) -> torch.Tensor:
        config = self.config
        return rng.normal(count, config.channels, config.frames, config.image_size, config.image_size)
