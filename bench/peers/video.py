"""Twin of `generators/families/diffusion/video.py`; films are (N, C, T, H, W)."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from bench.peers import dit  # noqa: F401  its transformer
from bench.peers.blocks import drop_captions
from bench.peers.ddpm import DDPM
from bench.peers.layers import Twin
from bench.peers.training import Batch
from generators.families.diffusion.video import APART, GIVEN, TO_THE_END, join, parted


class FilmNetwork(Twin):
    def forward(self, x: torch.Tensor, t: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        film, ways = x[..., :-2, :], x[..., -2:, :]
        return torch.cat([self.paint(film, t, caption), self.move(ways, film, t, caption)], dim=3)

    def paint(self, x: torch.Tensor, t: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        film, t, caption = self.films(x, t, caption)  # (n, C, frames, H, W)
        n, channels, frames, *size = film.shape
        levels = (t / self.steps).float()[..., None, None].expand(n, frames, *size)
        seen = torch.cat([film.transpose(1, 2).flatten(1, 2), levels], dim=1)
        painted = self.what(seen, t.amax(dim=1), caption).view(n, frames, channels, *size)
        return self.together(painted.transpose(1, 2), len(x))

    def move(self, ways: torch.Tensor, film: torch.Tensor, t: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        ink = torch.stack([film.mean(dim=4), film.mean(dim=3)], dim=3)
        seen = torch.cat([ways, ink], dim=1)
        return self.together(self.how(*self.films(seen, t, caption)), len(seen))[:, : ways.shape[1]]

    def films(self, x: torch.Tensor, t: torch.Tensor, caption: torch.Tensor) -> tuple[torch.Tensor, ...]:
        n, c, frames, *size = x.shape
        t = t.view(n, -1).expand(n, frames).reshape(-1, self.frames)
        cut = x.view(n, c, -1, self.frames, *size).transpose(1, 2).flatten(0, 1)
        return cut, t, caption.repeat_interleave(len(cut) // n, dim=0)

    def together(self, films: torch.Tensor, n: int) -> torch.Tensor:
        return films.reshape(n, -1, *films.shape[1:]).transpose(1, 2).flatten(2, 3)


class Video(DDPM):
    def draw(self, batch: Batch, rng) -> tuple[torch.Tensor, ...]:
        n, c, frames, height, width = batch.images.shape
        some = -(-n * self.network.frames // frames)
        many = some * frames
        uniform = rng.uniform(n, dtype=torch.float64)
        shapes = (), (some,), (), (many,), (many,), (4, some, 1)
        levels = [rng.uniform(*shape, dtype=torch.float64) for shape in shapes]
        return uniform, *levels, rng.normal(some, c, frames, height + 2, width)

    def drawn_times(self, offset: torch.Tensor, powers: torch.Tensor) -> torch.Tensor:
        t, level = self.times(offset, len(powers)), (1 / self.alpha_bar - 1).sqrt()
        return torch.searchsorted(level, self.config.noise_factor**powers * level[t]).clamp(max=self.config.time_steps)

    def levels(self, first, power, second, powers, order, kinds) -> torch.Tensor:
        n, frames = len(power), self.config.frames
        together = self.drawn_times(first, power)[:, None]
        apart = self.drawn_times(second, powers)[order.argsort()].reshape(n, frames)
        kind, onward, begin, end = kinds
        begin = (begin * frames).floor()
        end = torch.where(onward < TO_THE_END, frames, begin + 1 + (end * (frames - begin)).floor())
        number = torch.arange(frames)
        given = (kind > 1 - GIVEN) & ((number < begin) | (number >= end))
        return torch.where(given, 0, torch.where(kind < APART, apart, together))

    def loss(self, batch: Batch, uniform, *drawn) -> torch.Tensor:
        *levels, eps = drawn
        films = batch.images[: len(eps)].permute(0, 2, 3, 4, 1).numpy() * 2 - 1
        t = self.levels(*levels)
        x0 = torch.from_numpy(parted(films, t.numpy() == 0)).permute(0, 4, 1, 2, 3)  # data, not network: ours
        alpha_bar = self.alpha_bar[t]
        signal = alpha_bar.sqrt().float()[:, None, :, None, None]
        noise = (1 - alpha_bar).sqrt().float()[:, None, :, None, None]
        target = {"noise": eps, "image": x0}.get(self.config.prediction, signal * eps - noise * x0)
        caption = self.text(drop_captions(batch.tokens, self.config.caption_dropout, uniform)[: len(eps)])
        errors = F.mse_loss(self.network(signal * x0 + noise * eps, t, caption), target, reduction="none")
        errors = errors[..., :-2, :].mean(dim=(1, 3, 4)) + errors[..., -2:, :].mean(dim=(1, 3, 4))  # (n, T)
        noisy = (t > 0).float()
        return ((errors * noisy).sum(dim=1) / noisy.sum(dim=1)).mean()

    def noise(self, count: int, rng) -> torch.Tensor:
        config, size = self.config, self.config.image_size
        return rng.normal(count, config.channels, config.frames, size + 2, size)

    def finished(self, x: torch.Tensor) -> torch.Tensor:
        films = torch.from_numpy(join(x.permute(0, 2, 3, 4, 1).numpy()))
        return super().finished(films.permute(0, 4, 1, 2, 3))
