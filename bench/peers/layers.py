"""How a layer of ours becomes one of PyTorch's, with its weights.

A twin is built from our module: whatever sizes, parameters and inner modules that one has, the twin has under the same
names (with `_` behind those that are taken there, such as `half`), so that only the forward pass has to be written
again.  It is written as a PyTorch user would: images (N, C, H, W), weights in PyTorch's layout, PyTorch's
fused functions.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from nn.modules import Module
from nn.tensor import Parameter


@dataclass(frozen=True)
class Layout:
    """Where PyTorch keeps a weight of ours: reshape to `seen`, transpose by `axes`, reshape to `shape`."""

    seen: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    def to_torch(self, array: np.ndarray) -> torch.Tensor:
        turned = array.reshape(self.seen).transpose(self.axes).reshape(self.shape)
        return torch.tensor(np.ascontiguousarray(turned))

    def to_ours(self, tensor: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
        turned = tensor.detach().numpy().reshape([self.seen[axis] for axis in self.axes])
        return turned.transpose(np.argsort(self.axes)).reshape(shape)


def as_it_is(shape: tuple[int, ...]) -> Layout:
    return Layout(shape, tuple(range(len(shape))), shape)


class Twin(torch.nn.Module):
    """A PyTorch module with the attributes of one of ours.  A subclass of the same class name writes the forward."""

    kinds: dict[str, type[Twin]] = {}  # by the name of our class

    def __init_subclass__(cls) -> None:
        Twin.kinds[cls.__name__] = cls

    def __init__(self, ours: Module):
        super().__init__()
        self.layouts: dict[str, Layout] = {}
        for name, value in vars(ours).items():
            own = name + "_" if hasattr(Twin, name) else name
            if isinstance(value, Parameter):
                self.layouts[own] = layout = self.layout(name, value.shape)
                setattr(self, own, torch.nn.Parameter(layout.to_torch(value.data)))
            elif isinstance(value, Module):
                setattr(self, own, twin(value))
            elif isinstance(value, list | tuple) and any(isinstance(element, Module) for element in value):
                setattr(self, own, torch.nn.ModuleList(twin(element) for element in value))
            else:
                setattr(self, own, value)

    def layout(self, name: str, shape: tuple[int, ...]) -> Layout:
        """PyTorch's layout of the parameter of this name, whose shape in ours is given."""
        return as_it_is(shape)

    def pairs(self) -> dict[str, tuple[torch.nn.Parameter, Layout]]:
        """Our dotted name of every parameter -> the parameter here and its layout."""

        def ours(name: str) -> str:
            return ".".join(part.rstrip("_") for part in name.strip(".").split("."))

        return {
            ours(f"{where}.{name}"): (module._parameters[name], at)
            for where, module in self.named_modules()
            if isinstance(module, Twin)
            for name, at in module.layouts.items()
        }


def twin(ours: Module) -> Twin:
    """The PyTorch twin of a module of ours."""
    return Twin.kinds[type(ours).__name__](ours)


class Linear(Twin):
    """PyTorch keeps (out, in).  Used on vectors (..., in), and as a 1x1 convolution on images: `on_pixels`.

    reads, writes: (C, H, W) of the image that the inputs are flattened from, or that the outputs are reshaped to
    after, where there is one: ours are in the order H, W, C, PyTorch's in C, H, W.
    """

    def __init__(self, ours: Module, reads: tuple[int, ...] = (), writes: tuple[int, ...] = ()):
        self.reads, self.writes = reads, writes  # plain attributes: torch allows them before super().__init__()
        super().__init__(ours)

    def layout(self, name: str, shape: tuple[int, ...]) -> Layout:
        outputs, order_out = _image_order(self.writes, shape[-1])
        if name == "bias":
            return Layout(outputs, order_out, shape)
        inputs, order_in = _image_order(self.reads, shape[0])
        axes = (*(len(inputs) + axis for axis in order_out), *order_in)
        return Layout((*inputs, *outputs), axes, (shape[1], shape[0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)

    def on_pixels(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in, H, W) -> (N, out, H, W)"""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


def _image_order(image: tuple[int, ...], size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes (..., H, W, C) that `size` numbers have in ours, and the order that makes (..., C, H, W) of them."""
    if not image:
        return (size,), (0,)
    channels, height, width = image
    copies = size // math.prod(image)  # for instance 2: a scale and a shift, one behind the other
    return (copies, height, width, channels), (0, 3, 1, 2)


class Conv2d(Twin):
    def layout(self, name: str, shape: tuple[int, ...]) -> Layout:
        if name == "bias":
            return as_it_is(shape)
        kh, kw, inputs, outputs = shape
        return Layout(shape, (3, 2, 0, 1), (outputs, inputs, kh, kw))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class GroupNorm(Twin):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.group_norm(x, self.groups, self.gamma, self.beta)


class LayerNorm(Twin):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta)


def modulate(x: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
    """(1 + scale) x + shift, x (N, C, H, W), modulation (N, 2C) = [scale | shift]."""
    scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
    return (1 + scale) * x + shift


class GroupNormSiLU(GroupNorm):
    def forward(self, x: torch.Tensor, modulation: torch.Tensor | None = None) -> torch.Tensor:
        if modulation is not None:
            x = modulate(x, modulation)
        return F.silu(super().forward(x))


class MultiHeadAttention(Twin):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, features = x.shape
        qkv = self.query_key_value(x).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0))  # (N, heads, T, features / heads)
        return self.output(mixed.transpose(1, 2).reshape(n, t, features))
