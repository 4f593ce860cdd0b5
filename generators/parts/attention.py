"""Blocks of attention: every place of an image looks at every other (`nn.modules.MultiHeadAttention`).

`AttentionBlock` stands between convolutions, which see only neighbours; of `TransformerBlock`s alone a whole network is
made, for images, films, or whatever can be cut into patches.
"""

import numpy as np

from nn import functional as F
from nn import init
from nn.modules import GroupNorm, Linear, Module, MultiHeadAttention
from nn.tensor import Tensor


class AttentionBlock(Module):
    """x + attention(norm(x)) over all pixels of x (N, H, W, C): the identity at first, as the output layer is zero."""

    def __init__(self, channels: int, heads: int, rng: np.random.Generator):
        self.norm = GroupNorm(8, channels)
        self.attention = MultiHeadAttention(channels, heads, rng)
        self.attention.output.weight.data = init.zeros((channels, channels))

    def __call__(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        pixels = self.norm(x).reshape(n, h * w, c)  # (N, HW, C)
        return x + self.attention(pixels).reshape(n, h, w, c)


class TransformerBlock(Module):
    """Attention, then two layers for each vector by itself; a condition scales, shifts and gates both:

        x <- x + gate * attention( (1 + scale) norm(x) + shift )
        x <- x + gate * mlp      ( (1 + scale) norm(x) + shift )

    x (N, T, width), condition (N, features) -> (N, T, width).  Where parts of x have conditions of their own, equal
    runs of its T vectors, there are several for each: (N * runs, features).  Scale, shift and gate are zero at first,
    so the block starts as the identity (adaLN-Zero; Peebles and Xie 2023, section 3.2).
    """

    def __init__(self, width: int, heads: int, features: int, rng: np.random.Generator):
        self.condition = Linear(features, 6 * width, rng)
        self.condition.weight.data = init.zeros((features, 6 * width))
        self.attention = MultiHeadAttention(width, heads, rng)
        self.hidden, self.output = Linear(width, 4 * width, rng), Linear(4 * width, width, rng)

    def __call__(self, x: Tensor, condition: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = F.split(self.condition(condition), 6, axis=-1)  # (N, width) each
        whole, runs = x.shape, (len(condition), -1, x.shape[-1])
        x = x.reshape(*runs)
        mixed = self.attention(F.layer_norm(x, 1 + scale1, shift1).reshape(*whole))
        x = x + each(gate1) * mixed.reshape(*runs)
        x = x + each(gate2) * self.output(F.silu(self.hidden(F.layer_norm(x, 1 + scale2, shift2))))
        return x.reshape(*whole)


def each(of_image: Tensor) -> Tensor:
    """(N, width) -> (N, 1, width): the same for each of an image's vectors."""
    return of_image.reshape(len(of_image), 1, -1)
