"""The networks of a world: what comes next under each of a few codes, and which code a pair of frames has.

A deterministic world needs no noise: one pass is sharp, once a code has said what was open.

    context (the last frames)  --trunk-->  features h  --scaled by code k, one convolution-->  the last frame's change

A code turns channels up and down and does nothing else, so it says the same in every place.  Were it to say what goes
where (as the layout of a denoiser's captions does, `diffusion/unet.py`), it could mean left here and right there, and a
key that obeys in one corner only is no key.  A convolution does the same everywhere, so a code can only mean one
change, wherever the digit stands.

To scale a channel is to scale the filters that read it, W * (s_k h) = (W s_k) * h.  So the futures under all codes are
one convolution, with as many times the filters, and what they share is computed once.
"""

import numpy as np

from generators.parts.attention import AttentionBlock
from generators.parts.blocks import ResidualBlock
from generators.parts.patches import squeeze, unsqueeze
from nn import functional as F
from nn import init
from nn.modules import Conv2d, Linear, Module
from nn.tensor import Parameter, Tensor


class Predictor(Module):
    """Context (N, T, H, W, C), noise level (N,) -> the next frames under each code, (N, codes, H, W, C).

    A small U-Net at half and a quarter of the size; `scales` (codes, 2 width) turn its last channels up and down.
    """

    def __init__(self, context: int, channels: int, width: int, codes: int, heads: int, rng: np.random.Generator):
        self.level = Linear(1, width, rng)
        self.input = Conv2d(4 * context * channels, width, 3, rng)
        self.before = ResidualBlock(width, width, width, rng)
        self.shrink = Conv2d(4 * width, 2 * width, 1, rng)
        self.first = ResidualBlock(2 * width, 2 * width, width, rng)
        self.attention = AttentionBlock(2 * width, heads, rng)
        self.second = ResidualBlock(2 * width, 2 * width, width, rng)
        self.enlarge = Conv2d(2 * width, 4 * width, 1, rng)
        self.after = ResidualBlock(width, 2 * width, width, rng)
        self.scales = Parameter(1 + init.normal((codes, 2 * width), rng))
        self.filters = Parameter(init.he((3, 3, 2 * width, 4 * channels), rng) * np.float32(0.03))

    def __call__(self, context: np.ndarray, level: np.ndarray) -> Tensor:
        n, t, height, breadth, channels = context.shape
        stacked = np.ascontiguousarray(context.transpose(0, 2, 3, 1, 4)).reshape(n, height, breadth, t * channels)
        h = F.silu(self.trunk(Tensor(stacked), level))  # (N, H/2, W/2, 2 width)
        codes, width = self.scales.shape
        scaled = self.filters.reshape(3, 3, width, 1, -1) * F.transpose(self.scales).reshape(1, 1, width, codes, 1)
        change = F.conv2d(h, scaled.reshape(3, 3, width, -1), None, padding=1)  # (N, H/2, W/2, codes 4 C)
        change = change.reshape(n, height // 2, breadth // 2, codes, -1).transpose(0, 3, 1, 2, 4)
        change = unsqueeze(change.reshape(n * codes, height // 2, breadth // 2, -1))
        return change.reshape(n, codes, height, breadth, channels) + context[:, None, -1]

    def trunk(self, x: Tensor, level: np.ndarray) -> Tensor:
        """What all futures share: (N, H, W, T C) -> (N, H/2, W/2, 2 width)."""
        condition = F.silu(self.level(Tensor(level.astype(x.dtype)[:, None])))
        x = self.before(self.input(squeeze(x)), condition)
        h = self.first(self.shrink(squeeze(x)), condition)  # (N, H/4, W/4, 2 width)
        h = self.second(self.attention(h), condition)
        return self.after(x + unsqueeze(self.enlarge(h)), condition)


class Encoder(Module):
    """Two frames (N, H, W, C), before and after -> logits (N, codes) of what happened between them."""

    def __init__(self, size: int, channels: int, width: int, codes: int, rng: np.random.Generator):
        self.input = Conv2d(8 * channels, width, 3, rng)
        self.shrink = Conv2d(4 * width, width, 3, rng)
        self.output = Linear((size // 4) ** 2 * width, codes, rng)

    def __call__(self, before: np.ndarray, after: np.ndarray) -> Tensor:
        pair = Tensor(np.concatenate([before, after - before], axis=-1))
        h = F.silu(self.input(squeeze(pair)))
        h = F.silu(self.shrink(squeeze(h)))
        return self.output(h.reshape(len(h), -1))
