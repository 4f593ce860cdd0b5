"""Twins of `generators/families/flow/bijectors.py` and `generators/families/flow/realnvp.py`."""
from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from bench.peers.blocks import Fresh, drop_captions, squeeze, unsqueeze
from bench.peers.layers import Layout, Linear, Twin
from bench.peers.training import Batch, FamilyTwin, TwinPhase
from generators.families.flow.bijectors import MAX_LOG_SCALE
from generators.families.flow.conditioning import Conditioning

Flow = tuple[torch.Tensor, torch.Tensor | float]  # z and log |det dz/dx|, (N,) or the same number for all


def per_example(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).sum(dim=1)


def soft_clip(raw: torch.Tensor) -> torch.Tensor:
    return MAX_LOG_SCALE * torch.tanh(raw * (1 / MAX_LOG_SCALE))


class Composition(Twin):
    def forward(self, x: torch.Tensor, condition: Conditioning) -> Flow:
        total = 0.0
        for link in self.links:
            x, log_det = link(x, condition)
            total = total + log_det
        return x, total

    def inverse(self, z, condition: Conditioning) -> torch.Tensor:
        for link in reversed(self.links):
            z = link.inverse(z, condition)
        return z


class Logit(Twin):
    def forward(self, x: torch.Tensor, condition: Conditioning) -> Flow:
        log_p = torch.log(self.margin + (1 - 2 * self.margin) * x)
        log_q = torch.log((1 - self.margin) - (1 - 2 * self.margin) * x)
        return log_p - log_q, per_example(math.log(1 - 2 * self.margin) - log_p - log_q)

    def inverse(self, z: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        return (torch.sigmoid(z) - self.margin) * (1 / (1 - 2 * self.margin))


class Squeeze(Twin):
    def forward(self, x: torch.Tensor, condition: Conditioning) -> Flow:
        return squeeze(x), 0.0

    def inverse(self, z: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        return unsqueeze(z)


class Checkerboard(Twin):
    def forward(self, x: torch.Tensor, condition: Conditioning) -> Flow:
        a, b, c, d = x.chunk(4, dim=1)
        return torch.cat([a, d, b, c], dim=1), 0.0

    def inverse(self, z: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        a, d, b, c = z.chunk(4, dim=1)
        return torch.cat([a, b, c, d], dim=1)


class ActNorm(Twin):
    def forward(self, x: torch.Tensor, condition: Conditioning) -> Flow:
        z = torch.addcmul(self.shift[:, None, None], x, torch.exp(self.log_scale)[:, None, None])
        return z, self.log_scale.sum() * (x.shape[2] * x.shape[3])

    def inverse(self, z: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        return (z - self.shift[:, None, None]) * torch.exp(-self.log_scale)[:, None, None]


class ChannelMix(Twin):
    def layout(self, name: str, shape: tuple[int, ...]) -> Layout:
        return Layout(shape, (1, 0), shape)

    def forward(self, x: torch.Tensor, condition: Conditioning) -> Flow:
        log_det = torch.linalg.slogdet(self.weight).logabsdet
        return F.conv2d(x, self.weight[:, :, None, None]), log_det * (x.shape[2] * x.shape[3])

    def inverse(self, z: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        return F.conv2d(z, torch.linalg.inv(self.weight)[:, :, None, None])


class Coupling(Twin):
    def forward(self, x: torch.Tensor, condition: Conditioning) -> Flow:
        a, b = self.halves(x)
        raw, shift = self.network(a, condition).chunk(2, dim=1)
        log_scale = soft_clip(raw)
        return self.join(a, torch.addcmul(shift, b, torch.exp(log_scale))), per_example(log_scale)

    def inverse(self, z: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        a, b = self.halves(z)
        raw, shift = self.network(a, condition).chunk(2, dim=1)
        return self.join(a, (b - shift) * torch.exp(-soft_clip(raw)))

    def halves(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = x.chunk(2, dim=1)
        return (second, first) if self.swap else (first, second)

    def join(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.cat([b, a] if self.swap else [a, b], dim=1)


class FactorOut(Twin):
    """Here z is (rest's z, b), not one flat array: nothing has to be copied together."""

    def forward(self, x: torch.Tensor, condition: Conditioning) -> Flow:
        a, b = x.chunk(2, dim=1)
        z, log_det = self.rest(a, condition)
        return (z, b), log_det

    def inverse(self, z, condition: Conditioning) -> torch.Tensor:
        rest, b = z
        return torch.cat([self.rest.inverse(rest, condition), b], dim=1)


class Flatten(Twin):
    """Here nothing to do: z stays an image (N, C, H, W)."""

    def forward(self, x: torch.Tensor, condition: Conditioning) -> Flow:
        return x, 0.0

    def inverse(self, z: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        return z


class CaptionAffine(Twin):
    def write_image(self, ours, image: tuple[int, int, int]) -> None:
        """Scale and mean are images of this shape (C, H, W), since here nothing was flattened before."""
        self.network, self.image = NoisePrior(ours.network, writes=image), image

    def forward(self, x: torch.Tensor, condition: Conditioning) -> Flow:
        log_scale, mean = self.scale_and_mean(condition)
        return (x - mean) * torch.exp(-log_scale), -per_example(log_scale)

    def inverse(self, z: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        log_scale, mean = self.scale_and_mean(condition)
        return z * torch.exp(log_scale) + mean

    def scale_and_mean(self, condition: Conditioning) -> tuple[torch.Tensor, torch.Tensor]:
        raw, mean = self.network(condition).view(-1, 2, *self.image).unbind(1)
        return soft_clip(raw), mean


class NoisePrior(Linear):
    def forward(self, condition: Conditioning) -> torch.Tensor:
        return super().forward(condition.words)


class Sketches(Twin):
    def __init__(self, ours):
        super().__init__(ours)
        height, width, channels = ours.shape
        self.image, self.temperature, self.share = (channels, height, width), ours.TEMPERATURE, ours.SHARE
        self.output = Linear(ours.output, writes=self.image)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.output(F.silu(self.hidden(words))).view(-1, *self.image)

    def error(self, sketches: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        target = squeeze(images * 2 - 1)
        errors = torch.stack([(sketch - target).square().mean((1, 2, 3)) for sketch in sketches.chunk(self.count, 1)])
        mixture = (torch.logsumexp(errors / -self.temperature, 0) - math.log(self.count)) * -self.temperature
        return torch.lerp(mixture, errors.mean(0), self.share)


class CouplingNetwork(Twin):
    def layout(self, name: str, shape: tuple[int, ...]) -> Layout:
        height, width, channels = shape
        return Layout(shape, (2, 0, 1), (channels, height, width))  # `position`, the only parameter of its own

    def forward(self, x: torch.Tensor, condition: Conditioning) -> torch.Tensor:
        if (sketches := condition.sketches) is not None:
            x = torch.cat([x, sketches if sketches.shape[2] == self.size else squeeze(sketches)], dim=1)
        h = self.enter.on_pixels(x) + self.position
        *modulations, last_modulation = self.caption(condition.words).chunk(len(self.norms) + 1, dim=1)
        for norm, convolution, modulation in zip(self.norms, self.convolutions, modulations, strict=True):
            h = h + convolution(norm(h, modulation))
        return self.leave.on_pixels(self.norm(h, last_modulation))


class Dequantiser(Twin):
    def forward(self, images: torch.Tensor, noise: torch.Tensor, condition: Conditioning) -> Flow:
        raw, shift = self.network(squeeze(images * 2 - 1), condition).chunk(2, dim=1)
        start = squeeze(noise)
        log_p, log_q = torch.log(start), torch.log(1 - start)
        log_scale = soft_clip(raw)
        v = torch.addcmul(shift, log_p - log_q, torch.exp(log_scale))
        log_det = per_example(log_scale - log_p - log_q - F.softplus(v) - F.softplus(-v))
        return (unsqueeze(torch.sigmoid(v)) + torch.round(images * 255)) * (1 / 256), log_det


class RealNVP(FamilyTwin):
    def __init__(self, ours):
        super().__init__(ours)
        quarter, channels = ours.config.image_size // 4, 8 * ours.config.channels
        for inner, twin in _pairs(ours.flow, self.flow):
            if isinstance(twin, CaptionAffine):
                twin.write_image(inner, (channels, quarter, quarter))

    def phases(self) -> list[TwinPhase]:
        return [TwinPhase("flow", list(self.parameters()), self.draw, self.loss)]

    def draw(self, batch: Batch, rng) -> tuple[torch.Tensor, torch.Tensor]:
        return rng.uniform(len(batch.images), dtype=torch.float64), rng.uniform(*batch.images.shape)

    def loss(self, batch: Batch, uniform: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        condition = self.conditioning(drop_captions(batch.tokens, self.config.caption_dropout, uniform))
        noise = noise.clamp(2**-16, 1 - 2**-16)
        if self.dequantiser is None:
            x, log_slope = (torch.round(batch.images * 255) + noise) * (1 / 256), 0.0
        else:
            x, log_slope = self.dequantiser(batch.images, noise, condition)
        (rest, b), log_det = self.flow(x, condition)
        squares = per_example(rest * rest) + per_example(b * b)
        log_p = log_det + log_slope - 0.5 * squares - 0.5 * math.log(2 * math.pi) * self.dimensions
        bits = (8 - log_p * (1 / (self.dimensions * math.log(2)))).mean()
        if self.sketches is None:
            return bits
        return bits + self.sketches.error(condition.sketches, batch.images).mean()

    def conditioning(self, tokens: torch.Tensor) -> Conditioning:
        words = self.text(tokens)
        return Conditioning(words, None if self.sketches is None else self.sketches(words))

    def noise(self, count: int, rng) -> tuple[torch.Tensor, torch.Tensor]:
        half, quarter, channels = self.config.image_size // 2, self.config.image_size // 4, self.config.channels
        return rng.normal(count, 8 * channels, quarter, quarter), rng.normal(count, 2 * channels, half, half)

    def noise_from_ours(self, drawn: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        like = self.noise(len(drawn), Fresh())
        flat = np.split(drawn, [like[0][0].numel()], axis=1)
        nhwc = [part.reshape(n, h, w, c) for part, (n, c, h, w) in zip(flat, (x.shape for x in like), strict=True)]
        return tuple(torch.from_numpy(part).permute(0, 3, 1, 2) for part in nhwc)

    def sample(self, noise: tuple[torch.Tensor, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
        x = self.flow.inverse(noise, self.conditioning(tokens))
        return torch.floor(x * 256).clamp(0, 255) / 255


def _pairs(ours, twin) -> list[tuple]:
    """Each bijector of a composition and, inside it, of what is factored out, with its twin."""
    found = []
    for inner, other in zip(ours.links, twin.links, strict=True):
        found.append((inner, other))
        if isinstance(other, FactorOut):
            found += _pairs(inner.rest, other.rest)
    return found
