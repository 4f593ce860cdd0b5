"""The painter: a few numbers and a caption become an image.  The VAE's decoder, the GAN's generator, the regression.

    vector --linear--> (H/4, W/4) --blocks, 2x--> (H/2, W/2) --blocks, 2x--> (H, W)

Blocks at a quarter and at half of the resolution see the whole picture cheaply, and the caption modulates each of them;
at full resolution there is one convolution of few channels.  `unsqueeze` doubles a resolution.
"""

import numpy as np

from generators.parts.blocks import ResidualBlock
from generators.parts.patches import unsqueeze
from nn import functional as F
from nn.modules import Conv2d, GroupNormSiLU, Linear, Module
from nn.tensor import Tensor


class Painter(Module):
    """x (N, inputs), caption (N, features) -> (N, size, size, outputs), without bounds: the caller says what they mean.

    The caption modulates the blocks; whoever wants it among the inputs as well puts it there.
    width: channels at half size, twice as many at a quarter.
    """

    FINE = 8  # channels at full size

    def __init__(self, inputs: int, features: int, width: int, size: int, outputs: int, rng: np.random.Generator):
        self.small = size // 4
        self.input = Linear(inputs, self.small * self.small * 2 * width, rng)
        self.quarter = [ResidualBlock(2 * width, 2 * width, features, rng) for _ in range(2)]
        self.grow = Conv2d(2 * width, 4 * width, 1, rng)
        self.half = [ResidualBlock(width, width, features, rng) for _ in range(2)]
        self.norm = GroupNormSiLU(8, width)
        self.fine = Conv2d(width, 4 * self.FINE, 3, rng)
        self.output = Conv2d(self.FINE, outputs, 3, rng)

    def __call__(self, x: Tensor, caption: Tensor) -> Tensor:
        h = self.input(x).reshape(len(x), self.small, self.small, -1)  # (N, H/4, W/4, 2 width)
        for block in self.quarter:
            h = block(h, caption)
        h = unsqueeze(self.grow(h))  # (N, H/2, W/2, width)
        for block in self.half:
            h = block(h, caption)
        h = F.silu(unsqueeze(self.fine(self.norm(h))))  # (N, H, W, FINE)
        return self.output(h)
