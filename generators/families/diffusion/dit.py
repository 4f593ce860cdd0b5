"""The diffusion transformer: the same denoising, by patches that look at one another.

`ddpm.py` says how noise becomes an image, a little at a time, and none of it asks how the denoiser is built.  The U-Net
(`unet.py`) is built for images: near pixels belong together, and what is far apart meets where the picture is coarse.
A transformer knows nothing of the kind.  It cuts the image into patches, makes a vector of each, and lets every patch
look at every other, again and again; what is near, and what that means, it has to learn (Peebles and Xie 2023):

    patches   x (H, W, C)  ->  T vectors, one for each patch of p x p pixels, plus a learned vector for its place
    a block   x <- x + gate * attention( scale * norm(x) + shift )      each patch gathers from all patches
              x <- x + gate * mlp      ( scale * norm(x) + shift )      each patch thinks by itself
    and back  T vectors  ->  T patches of p x p pixels

Time and caption are the one vector that says scale, shift and gate to each half of each block.  They begin at zero, so
at first a block does nothing, and what it does is learned from there.

Made so, a model has hardly any notion of images in it, which is why the same network paints pictures, films and sound:
whatever can be cut into patches.  For the same reason it has more to learn; how it compares to the U-Net after equal
minutes stands in docs/notebook.md.

Read on: `Transformer`, and `ddpm.py` for all the rest.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from datasets.dataset import Dataset
from generators.families.diffusion.ddpm import DDPM, OF_INK, DiffusionConfig
from generators.families.diffusion.unet import TimeEncoder
from generators.parts.blocks import is_ink
from generators.training import OptimiserConfig
from nn import functional as F
from nn import init
from nn.modules import Linear, Module, MultiHeadAttention
from nn.tensor import Parameter, Tensor


@dataclass(frozen=True)
class DiTConfig(DiffusionConfig):
    patch: int = 4  # pixels along each side of a patch
    width: int = 192  # numbers in a patch's vector
    depth: int = 4  # blocks
    heads: int = 4
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(rate=1e-2))


def to_patches(x: Tensor, patch: int) -> Tensor:
    """(N, H, W, C) -> (N, T, patch * patch * C): the T = H/patch * W/patch patches, row by row."""
    n, h, w, c = x.shape
    cut = x.reshape(n, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(n, (h // patch) * (w // patch), patch * patch * c)


def from_patches(patches: Tensor, patch: int, shape: tuple[int, int, int]) -> Tensor:
    """The inverse of `to_patches`, for images of this shape (H, W, C)."""
    h, w, c = shape
    cut = patches.reshape(len(patches), h // patch, w // patch, patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(len(patches), h, w, c)


class Block(Module):
    """Attention, then two layers for each patch by itself; x (N, T, width), condition (N, features) -> (N, T, width).

    What the condition says is zero at first: the block begins as the identity (adaLN-Zero; Peebles and Xie 2023,
    section 3.2).
    """

    def __init__(self, width: int, heads: int, features: int, rng: np.random.Generator):
        self.condition = Linear(features, 6 * width, rng)
        self.condition.weight.data = init.zeros((features, 6 * width))
        self.attention = MultiHeadAttention(width, heads, rng)
        self.hidden, self.output = Linear(width, 4 * width, rng), Linear(4 * width, width, rng)

    def __call__(self, x: Tensor, condition: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = F.split(self.condition(condition), 6, axis=-1)  # (N, width) each
        x = x + each(gate1) * self.attention(F.layer_norm(x, 1 + scale1, shift1))
        return x + each(gate2) * self.output(F.silu(self.hidden(F.layer_norm(x, 1 + scale2, shift2))))


def each(of_image: Tensor) -> Tensor:
    """(N, width) -> (N, 1, width): the same for each patch of an image."""
    return of_image.reshape(len(of_image), 1, -1)


class Transformer(Module):
    """x (N, H, W, C), t (N,), caption (N, features) -> (N, H, W, C)."""

    def __init__(self, config: DiTConfig, shape: tuple[int, int, int], rng: np.random.Generator):
        self.shape, self.patch = shape, config.patch
        pixels, width = config.patch**2 * shape[2], config.width
        self.time = TimeEncoder(config.features, rng)
        self.input = Linear(pixels, width, rng)
        self.place = Parameter(init.normal((shape[0] * shape[1] // config.patch**2, width), rng))
        self.blocks = [Block(width, config.heads, config.features, rng) for _ in range(config.depth)]
        self.condition = Linear(config.features, 2 * width, rng)
        self.output = Linear(width, pixels, rng)
        for last in (self.condition, self.output):
            last.weight.data = init.zeros(last.weight.shape)

    def __call__(self, x: Tensor, t: np.ndarray, caption: Tensor) -> Tensor:
        condition = F.silu(self.time(t) + caption)
        h = self.input(to_patches(x, self.patch)) + self.place
        for block in self.blocks:
            h = block(h, condition)
        scale, shift = F.split(self.condition(condition), 2, axis=-1)
        return from_patches(self.output(F.layer_norm(h, 1 + scale, shift)), self.patch, self.shape)


class DiT(DDPM):
    """Diffusion with a transformer for its denoiser; all else is as in `DDPM`."""

    name = "dit"
    Config = DiTConfig

    def build_network(self, config: DiTConfig, rng: np.random.Generator) -> Transformer:
        if config.patch < 1 or config.image_size % config.patch:
            raise ValueError(
                f"dit: the image size, {config.image_size}, must be a multiple of the patch; given {config.patch}"
            )
        return Transformer(config, self.image_shape, rng)

    @classmethod
    def suited(cls, config: DiTConfig, dataset: Dataset) -> DiTConfig:
        """As for `DDPM`, but for the network."""
        return replace(config, **OF_INK) if is_ink(dataset.images) else config
