"""PyTorch's form of every op that `bench/ops.py` times, on images (N, C, H, W) and weights in PyTorch's layout."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from bench.peers.layers import modulate

FUNCTIONS: dict[str, Callable] = {
    "conv2d": lambda x, w, b: F.conv2d(x, w, b, padding=w.shape[2] // 2),
    "linear": F.linear,
    "group_norm_silu": lambda x, gamma, beta, *modulation: F.silu(
        F.group_norm(modulate(x, *modulation) if modulation else x, 8, gamma, beta)
    ),
    "silu": F.silu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "softplus": F.softplus,
    "scaled_dot_product_attention": F.scaled_dot_product_attention,
    "bce_with_logits": lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none").sum(dim=(1, 2, 3)),
}


def prepare(op: str, arrays: list[np.ndarray], channels_last: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """(run forwards, run forwards and backwards) on our arrays; all float arrays want gradients."""
    tensors = [to_torch(op, position, array, channels_last) for position, array in enumerate(arrays)]
    function = FUNCTIONS[op]
    with torch.no_grad():
        cotangent = torch.ones_like(function(*tensors))

    def forward() -> None:
        function(*tensors)

    def both() -> None:
        for tensor in tensors:
            tensor.grad = None
        function(*tensors).backward(cotangent)

    return forward, both


def to_torch(op: str, position: int, array: np.ndarray, channels_last: bool) -> torch.Tensor:
    """Our array at this position of an op's arguments, in PyTorch's layout."""
    tensor = torch.from_numpy(array)
    if op == "linear" and position == 1:
        tensor = tensor.T.contiguous()
    elif array.ndim == 4 and op != "scaled_dot_product_attention":
        tensor = tensor.permute((3, 2, 0, 1) if op == "conv2d" and position == 1 else (0, 3, 1, 2)).contiguous()
        if channels_last:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor.requires_grad_()
