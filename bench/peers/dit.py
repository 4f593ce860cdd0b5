"""Twins of `generators/families/diffusion/dit.py`."""
from __future__ import annotations

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
        (n, c, h, w), p = x.shape, self.patch
        condition = F.silu(self.time(t) + caption)
        patches = x.reshape(n, c, h // p, p, w // p, p).permute(0, 2, 4, 3, 5, 1)  # (N, rows, columns, p, p, C)
        tokens = self.input(patches.reshape(n, -1, p * p * c)) + self.place
        for block in self.blocks:
            tokens = block(tokens, condition)
        scale, shift = self.condition(condition)[:, None].chunk(2, dim=-1)
        out = self.output(modulated_norm(tokens, scale, shift)).reshape(n, h // p, w // p, p, p, c)
        return out.permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


class DiT(DDPM):
    pass
