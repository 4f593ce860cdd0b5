"""The denoiser's network: a noisy image, the time and the caption in; an image of the same size out.

To tell noise from image the network must see both the large (is this a shoe?) and the small (where exactly does its
edge run?).  A U-Net (Ronneberger et al. 2015) works on the image at several sizes: down to a few pixels with many
channels, where a single convolution sees half the picture, and up again, each time adding what the way down had:

    level(x)  =  blocks( block(x) + enlarge( level below( shrink( block(x) ) ) ) )

Time and caption are one vector by which every block scales and shifts its channels, so the same weights denoise at
every noise level and for every caption.
"""

import math

import numpy as np

from generators.parts.attention import AttentionBlock
from generators.parts.blocks import ResidualBlock
from generators.parts.patches import squeeze, unsqueeze
from nn import functional as F
from nn import init
from nn.modules import Conv2d, GroupNormSiLU, Linear, Module
from nn.tensor import Tensor


def time_embedding(t: np.ndarray, features: int) -> np.ndarray:
    """The times as waves (Vaswani et al. 2017, section 3.5): t (N,) -> float64 (N, features), features even.

    First the sines of t w_i, then the cosines, with w_i falling geometrically from 1 to 1/10,000: the fast waves tell
    neighbouring times apart, the slow ones early from late.
    """
    half = features // 2
    frequencies = np.exp(-math.log(10_000) * np.arange(half) / max(half - 1, 1))
    angles = np.asarray(t, np.float64)[:, None] * frequencies  # (N, features / 2)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


class TimeEncoder(Module):
    """Times (N,) -> (N, features): the waves, then two layers."""

    def __init__(self, features: int, rng: np.random.Generator):
        self.hidden = Linear(features, features, rng)
        self.output = Linear(features, features, rng)

    def __call__(self, t: np.ndarray) -> Tensor:
        features = len(self.hidden.weight)
        waves = time_embedding(t, features).astype(self.hidden.weight.dtype)
        return self.output(F.silu(self.hidden(Tensor(waves))))


class Bottom(Module):
    """The coarsest level, size x size pixels: a layout, block, attention, block.

    A convolution does the same everywhere, so a caption that only turns channels up and down cannot say what goes
    where, and the network would have to find its place by counting from the border.  The layout says it: an image of a
    few channels that the caption paints in one linear layer, and that the blocks start from.
    """

    LAYOUT = 8  # its channels

    def __init__(self, width: int, size: int, features: int, heads: int, rng: np.random.Generator):
        self.size = size
        self.layout = Linear(features, size * size * self.LAYOUT, rng)
        self.spread = Conv2d(self.LAYOUT, width, 1, rng)
        self.first = ResidualBlock(width, width, features, rng)
        self.attention = AttentionBlock(width, heads, rng)
        self.second = ResidualBlock(width, width, features, rng)

    def __call__(self, x: Tensor, condition: Tensor) -> Tensor:
        layout = self.layout(condition).reshape(len(x), self.size, self.size, self.LAYOUT)
        x = x + self.spread(layout)
        return self.second(self.attention(self.first(x, condition)), condition)


class Level(Module):
    """One size of the image, (N, H, W, width), and inside it the next, (N, H/2, W/2, width of `below`)."""

    def __init__(
        self, width: int, below: Module, width_below: int, features: int, blocks: int, rng: np.random.Generator
    ):
        self.before = ResidualBlock(width, width, features, rng)
        self.shrink = Conv2d(4 * width, width_below, 1, rng)
        self.below = below
        self.enlarge = Conv2d(width_below, 4 * width, 1, rng)
        self.after = [ResidualBlock(width, width, features, rng) for _ in range(blocks)]

    def __call__(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.before(x, condition)
        h = self.below(self.shrink(squeeze(x)), condition)  # (N, H/2, W/2, width below)
        x = x + unsqueeze(self.enlarge(h))
        for block in self.after:
            x = block(x, condition)
        return x


class UNet(Module):
    """x (N, size, size, channels or `seen`), t (N,), caption (N, features) -> (N, size, size, channels).

    widths: channels at full size, half, a quarter, ...; `blocks`: how many on the way up at each size.
    squeezed: begin and end at half the size, four pixels to one of four times the channels: coarser, and much faster.
    seen: channels of x, if it has more than what comes out
    """

    def __init__(
        self, size: int, channels: int, widths: tuple[int, ...], features: int, rng: np.random.Generator,
        blocks: int = 2, heads: int = 4, squeezed: bool = False, seen: int | None = None,
    ):  # fmt: skip
        self.squeezed = squeezed
        seen, channels = (4 * n if squeezed else n for n in (seen or channels, channels))
        self.time = TimeEncoder(features, rng)
        self.input = Conv2d(seen, widths[0], 3, rng)
        smallest = size // 2 ** (len(widths) - (0 if squeezed else 1))
        level: Module = Bottom(widths[-1], smallest, features, heads, rng)
        for width, width_below in zip(widths[-2::-1], widths[:0:-1], strict=True):
            level = Level(width, level, width_below, features, blocks, rng)
        self.levels = level
        self.norm = GroupNormSiLU(8, widths[0])
        self.output = Conv2d(widths[0], channels, 3, rng)
        self.output.weight.data = init.zeros(self.output.weight.shape)

    def __call__(self, x: Tensor, t: np.ndarray, caption: Tensor) -> Tensor:
        condition = F.silu(self.time(t) + caption)
        h = self.levels(self.input(squeeze(x) if self.squeezed else x), condition)
        h = self.output(self.norm(h))
        return unsqueeze(h) if self.squeezed else h
