"""Patches: neighbouring pixels become one pixel with more channels.  Nothing is lost, and there is a way back.

    (N, H, W, C)  <->  (N, H/p, W/p, p * p * C)

Convolutions on half the resolution cost a quarter, and each sees twice as far: so the flow, the U-Net and the painters
work on patches of 2x2 pixels (Dinh et al. 2017, section 3.6).  For a transformer a patch is what a word is in a
sentence (Dosovitskiy et al. 2021).
"""
from __future__ import annotations

from nn import functional as F
from nn.tensor import Tensor


def squeeze(x: Tensor, patch: int = 2) -> Tensor:
    """Space to channels: every patch of p x p pixels becomes one pixel of p * p times the channels.

    (N, H, W, C) -> (N, H/p, W/p, p * p * C); the order of the new channels is row of the patch, column of the patch,
    channel.
    """
    n, h, w, c = x.shape
    cut = F.reshape(x, (n, h // patch, patch, w // patch, patch, c))  # (n, row, i, column, j, c)
    return F.reshape(F.transpose(cut, (0, 1, 3, 2, 4, 5)), (n, h // patch, w // patch, patch * patch * c))


def unsqueeze(x: Tensor, patch: int = 2) -> Tensor:
    """The inverse of `squeeze`: (N, H, W, p * p * C) -> (N, H * p, W * p, C)."""
    n, h, w, c = x.shape
    cut = F.reshape(x, (n, h, w, patch, patch, c // patch**2))  # (n, row, column, i, j, c)
    return F.reshape(F.transpose(cut, (0, 1, 3, 2, 4, 5)), (n, h * patch, w * patch, c // patch**2))


def check_size(family: str, size: int, multiple: int, why: str = "this network") -> None:
    """Raises ValueError, in a sentence that begins with the family's name, unless images of this size can be cut."""
    if multiple < 1 or size % multiple:
        raise ValueError(f"{family}: with {why} the image size must be a multiple of {multiple}; given {size}")
