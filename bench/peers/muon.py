"""The twin of `nn/muon.py`: Muon for matrices, PyTorch's own fused AdamW for the rest.

torch.optim.Muon takes no kernels of convolutions; so this is written anew, with the foreach forms where there are any
and the same short cut over the Gram matrix, so that PyTorch pays for the same arithmetic.
"""
from __future__ import annotations

import math

import torch

from nn.muon import MATCHES_ADAMW, POLYNOMIALS


def polar(matrix: torch.Tensor) -> torch.Tensor:
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / x.norm().clamp(min=torch.finfo(x.dtype).tiny)
    gram, product = x @ x.T, None
    square = gram.norm().clamp(min=torch.finfo(x.dtype).tiny)
    gram /= square
    for round_, (a, b, c) in enumerate(POLYNOMIALS, 1):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        if round_ < len(POLYNOMIALS):
            gram = factor @ gram @ factor
    x = (product / square.sqrt()) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class Muon:
    """Where the settings say no to Muon, everything is a vector."""

    def __init__(self, parameters: list[torch.nn.Parameter], settings):
        self.matrices = [p for p in parameters if p.ndim >= 2 and settings.muon]
        vectors = [p for p in parameters if p.ndim < 2 or not settings.muon]
        self.momentum, self.weight_decay = settings.momentum, settings.weight_decay
        self.velocities = [torch.zeros_like(p) for p in self.matrices]
        self.vectors = torch.optim.AdamW(
            vectors, lr=settings.rate, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )

    @torch.no_grad()
    def step(self, rate: float) -> None:
        self.vectors.param_groups[0]["lr"] = rate
        self.vectors.step()
        if not self.matrices:
            return
        gradients = [p.grad for p in self.matrices]
        torch._foreach_lerp_(self.velocities, gradients, 1 - self.momentum)
        torch._foreach_lerp_(gradients, self.velocities, self.momentum)  # the look ahead
        torch._foreach_mul_(self.matrices, 1 - rate * self.weight_decay)
        for p, ahead in zip(self.matrices, gradients, strict=True):
            flat = ahead.flatten(1)  # (out, in k k): ours on its side, which polar does not mind
            p.sub_(polar(flat).reshape(p.shape), alpha=rate * MATCHES_ADAMW * math.sqrt(max(flat.shape)))
