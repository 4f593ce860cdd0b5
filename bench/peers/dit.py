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
        (n, c, *sizes), edges, k = x.shape, self.patch, len(self.patch)
        levels = t.reshape(n, -1)[:, :: edges[0]]
        levels = levels if self.across else levels.expand(n, self.slices)
        condition = F.silu(self.time(levels.reshape(-1)).reshape(n, -1, caption.shape[1]) + caption[:, None])
        condition = condition.reshape(-1, caption.shape[1])
        counts = [size // edge for size, edge in zip(sizes, edges, strict=True)]
        outer, inner = [2 * i + 2 for i in range(k)], [2 * i + 3 for i in range(k)]
        pairs = [length for pair in zip(counts, edges, strict=True) for length in pair]
        patches = x.reshape(n, c, *pairs).permute(0, *outer, *inner, 1)  # (N, rows, columns, p, p, C)
        tokens = self.input(patches.reshape(n, -1, math.prod(edges) * c)) + self.place
        tokens = tokens if self.across else tokens.reshape(n * self.slices, -1, tokens.shape[-1])
        for block in self.blocks:
            tokens = block(tokens, condition)
        scale, shift = self.condition(condition)[:, None].chunk(2, dim=-1)
        tokens = tokens.reshape(len(condition), -1, tokens.shape[-1])
        out = self.output(modulated_norm(tokens, scale, shift)).reshape(n, *counts, *edges, c)
        back = [axis for i in range(k) for axis in (1 + i, 1 + k + i)]
        return out.permute(0, 2 * k + 1, *back).reshape(n, c, *sizes)


class DiT(DDPM):
    pass
