"""Twins of `parts/blocks.py` and `parts/text.py` in `generators/`, and where the families get their random numbers."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from bench.peers.layers import Twin


def squeeze(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (N, 4C, H/2, W/2), in our order of channels: row of the patch, column of the patch, channel."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


def unsqueeze(x: torch.Tensor) -> torch.Tensor:
    """The inverse of `squeeze`."""
    n, c, h, w = x.shape
    return x.reshape(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // 4, 2 * h, 2 * w)


class ResidualBlock(Twin):
    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        h = self.conv1(self.norm1(x))
        h = self.conv2(self.norm2(h, self.condition(condition)))
        return h + (x if self.skip is None else self.skip(x))


class WordSum(Twin):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.embedding_bag(tokens, self.table, mode="sum", padding_idx=0)


class TextEncoder(WordSum):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.output(F.silu(self.hidden(self.norm(super().forward(tokens)))))


def drop_captions(tokens: torch.Tensor, probability: float, uniform: torch.Tensor) -> torch.Tensor:
    return torch.where((uniform < probability)[:, None], 0, tokens)


class Fresh:
    """Random numbers as PyTorch draws them."""

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.rand(shape, dtype=dtype)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape)


class Recorder(np.random.Generator):
    """A generator for one of our losses or samplers that keeps the real numbers that it draws, in order."""

    def __init__(self, rng: np.random.Generator):
        super().__init__(rng.bit_generator)
        self.drawn = []

    def random(self, *arguments, **options):
        return self._keep(super().random(*arguments, **options))

    def standard_normal(self, *arguments, **options):
        return self._keep(super().standard_normal(*arguments, **options))

    def spawn(self, n_children):
        """Plain generators: what they draw is each picture's own fresh noise, and the twins paint without any."""
        return [np.random.Generator(bits) for bits in self.bit_generator.spawn(n_children)]

    def _keep(self, value):
        self.drawn.append(value)
        return value


class Replayed:
    """The random numbers that a Recorder has kept, in the same order, with channels behind N, as PyTorch has them."""

    def __init__(self, drawn: list):
        self.drawn = list(drawn)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        value = torch.as_tensor(self.drawn.pop(0))
        value = value.movedim(-1, 1) if value.ndim >= 4 else value
        if value.shape != shape:
            raise ValueError(f"the twin asks for random numbers of shape {shape} where ours drew {tuple(value.shape)}")
        return value

    normal = uniform
