"""Patches: neighbouring pixels become one pixel with more channels.  Nothing is lost, and there is a way back.

    (N, H, W, C)     <->  (N, H/p, W/p, p * p * C)
    (N, T, H, W, C)  <->  (N, T/q, H/p, W/p, q * p * p * C)         tubelets of q frames

Convolutions on half the resolution cost a quarter, and each sees twice as far: so the flow, the U-Net and the painters
work on patches of 2x2 pixels (Dinh et al. 2017, section 3.6).  For a transformer a patch is what a word is in a
sentence (Dosovitskiy et al. 2021).
"""

import math
from collections.abc import Sequence

from nn import functional as F
from nn.tensor import Tensor


def squeeze(x: Tensor, patch: int | Sequence[int] = 2) -> Tensor:
    """Space to channels: every patch of p x p pixels becomes one pixel of p * p times the channels.

    (N, H, W, C) -> (N, H/p, W/p, p * p * C); the order of the new channels is row of the patch, column of the patch,
    channel.  Likewise with more axes in the place of H and W; patch: its edge along each of them, or along all.
    """
    (n, *sizes, c), k = x.shape, len(x.shape) - 2
    edges = _edges(patch, k)
    counts = [size // edge for size, edge in zip(sizes, edges, strict=True)]
    pairs = [length for pair in zip(counts, edges, strict=True) for length in pair]
    cut = F.reshape(x, (n, *pairs, c))  # (n, row, i, column, j, c)
    order = (0, *range(1, 2 * k, 2), *range(2, 2 * k + 1, 2), 2 * k + 1)  # (n, row, column, i, j, c)
    return F.reshape(F.transpose(cut, order), (n, *counts, math.prod(edges) * c))


def unsqueeze(x: Tensor, patch: int | Sequence[int] = 2) -> Tensor:
    """The inverse of `squeeze`: (N, H, W, p * p * C) -> (N, H * p, W * p, C)."""
    (n, *counts, c), k = x.shape, len(x.shape) - 2
    edges = _edges(patch, k)
    cut = F.reshape(x, (n, *counts, *edges, c // math.prod(edges)))  # (n, row, column, i, j, c)
    order = (0, *[axis for i in range(1, k + 1) for axis in (i, k + i)], 2 * k + 1)  # (n, row, i, column, j, c)
    sizes = [count * edge for count, edge in zip(counts, edges, strict=True)]
    return F.reshape(F.transpose(cut, order), (n, *sizes, c // math.prod(edges)))


def _edges(patch, axes):
    return (patch,) * axes if isinstance(patch, int) else tuple(patch)


def check_size(family: str, size: int, multiple: int, why: str = "this network") -> None:
    """Raises ValueError, in a sentence that begins with the family's name, unless images of this size can be cut."""
    if size % multiple:
        raise ValueError(f"{family}: with {why} the image size must be a multiple of {multiple}; given {size}")
