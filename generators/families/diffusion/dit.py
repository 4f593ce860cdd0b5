"""The diffusion transformer: the same denoising, by patches that look at one another.

Nothing in `ddpm.py` depends on how the denoiser is built.  The U-Net (`unet.py`) is built for images: near pixels
belong together, and what is far apart meets where the picture is coarse.  A transformer assumes nothing of the kind.
It cuts the image into patches, makes a vector of each, and lets every patch look at every other, again and again; what
is near, and what that means, it has to learn (Peebles and Xie 2023):

    patches   x (H, W, C)  ->  T vectors, one for each patch of p x p pixels, plus a learned vector for its place
    blocks    attention among the patches, then two layers for each; time and caption scale, shift and gate both
    and back  T vectors  ->  T patches of p x p pixels

It also has more to learn (docs/notebook.md compares both after equal minutes).  `video.py` paints films by both.

Read on: `Transformer`, `TransformerBlock` in `parts/attention.py`, and `ddpm.py` for all the rest.
"""

import math
from dataclasses import dataclass

import numpy as np

from generators.config import number
from generators.families.diffusion.ddpm import DDPM, OF_INK, DiffusionConfig
from generators.families.diffusion.unet import TimeEncoder
from generators.family import OptimiserConfig
from generators.parts.attention import TransformerBlock, each
from generators.parts.patches import check_size, squeeze, unsqueeze
from nn import functional as F
from nn import init
from nn.modules import Linear, Module
from nn.tensor import Parameter, Tensor


@dataclass(frozen=True)
class DiTConfig(DiffusionConfig):
    patch: int = number(4, least=1)  # pixels along each side of a patch
    width: int = number(192, least=1)  # numbers in a patch's vector
    depth: int = number(4, most=100)  # blocks
    heads: int = number(4, least=1)
    optimiser: OptimiserConfig = OptimiserConfig(rate=1e-2)


class Transformer(Module):
    """x (N, *shape), t (N,), caption (N, features) -> (N, *shape): a patch is a vector of `width` numbers.

    shape: of one x, channels last; patch: a patch's edges along all axes but that one
    t: (N, runs), where so many equal runs of an image's patches have noise of their own
    """

    def __init__(
        self, shape: tuple[int, ...], patch: tuple[int, ...], width: int, depth: int, heads: int, features: int,
        rng: np.random.Generator,
    ):  # fmt: skip
        self.patch, numbers = patch, math.prod(patch) * shape[-1]
        if width % heads:
            raise ValueError(f"a transformer's width must be a multiple of its heads, {heads}; given {width}")
        self.time = TimeEncoder(features, rng)
        self.input = Linear(numbers, width, rng)
        self.place = Parameter(init.normal((math.prod(shape) // numbers, width), rng))
        self.blocks = [TransformerBlock(width, heads, features, rng) for _ in range(depth)]
        self.condition = Linear(features, 2 * width, rng)
        self.output = Linear(width, numbers, rng)
        for last in (self.condition, self.output):
            last.weight.data = init.zeros(last.weight.shape)

    def __call__(self, x: Tensor, t: np.ndarray, caption: Tensor) -> Tensor:
        features = caption.shape[-1]
        condition = F.silu(self.time(t.reshape(-1)).reshape(len(x), -1, features) + each(caption)).reshape(-1, features)
        patches = squeeze(x, self.patch)  # (N, H/p, W/p, p * p * C) of an image
        h = self.input(patches.reshape(len(x), -1, patches.shape[-1])) + self.place  # (N, T, width)
        for block in self.blocks:
            h = block(h, condition)
        scale, shift = F.split(self.condition(condition), 2, axis=-1)
        h = F.layer_norm(h.reshape(len(condition), -1, h.shape[-1]), 1 + scale, shift)
        return unsqueeze(self.output(h).reshape(*patches.shape), self.patch)


class DiT(DDPM):
    """Diffusion with a transformer for its denoiser; all else is as in `DDPM`."""

    name = "dit"
    Config = DiTConfig
    of_ink = OF_INK

    def build_network(self, config: DiTConfig, rng: np.random.Generator) -> Transformer:
        check_size(self.name, config.image_size, config.patch, "patches of that size")
        patch = (config.patch, config.patch)
        return Transformer(self.image_shape, patch, config.width, config.depth, config.heads, config.features, rng)
