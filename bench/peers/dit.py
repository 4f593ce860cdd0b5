"""Twins of `generators/families/diffusion/dit.py`."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from bench.peers.ddpm import DDPM
from bench.peers.layers import Twin


def modulated_norm(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """x (N, T, C), normalised over its last axis; scale - 1 and shift (N, 1, C)."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class TransformerBlock(Twin):
    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.condition(condition)[:, None].chunk(6, dim=-1)
        whole, runs = x.shape, (len(condition), -1, x.shape[-1])
        x = x.reshape(runs)
        x = x + gate1 * self.attention(modulated_norm(x, scale1, shift1).reshape(whole)).reshape(runs)
        return (x + gate2 * self.output(F.silu(self.hidden(modulated_norm(x, scale2, shift2))))).reshape(whole)


class Transformer(Twin):
    def forward(self, x: torch.Tensor, t: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        n, c, *sizes = x.shape
        counts, axes = [size // edge for size, edge in zip(sizes, self.patch, strict=True)], range(len(sizes))
        condition = F.silu(self.time(t.reshape(-1)).view(n, -1, caption.shape[-1]) + caption[:, None]).flatten(0, 1)
        cut = x.reshape(n, c, *(length for pair in zip(counts, self.patch, strict=True) for length in pair))
        rows, within = [2 + 2 * axis for axis in axes], [3 + 2 * axis for axis in axes]
        order = (0, *rows, *within, 1)  # (N, rows, columns, p, p, C)
        patches = cut.permute(order)
        tokens = self.input(patches.reshape(n, math.prod(counts), -1)) + self.place
        for block in self.blocks:
            tokens = block(tokens, condition)
        scale, shift = self.condition(condition)[:, None].chunk(2, dim=-1)
        out = self.output(modulated_norm(tokens.reshape(len(condition), -1, tokens.shape[-1]), scale, shift))
        return out.reshape(patches.shape).permute([order.index(axis) for axis in range(len(order))]).reshape(x.shape)


class DiT(DDPM):
    pass
