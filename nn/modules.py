"""Layers: a parameter or two, and the op that uses them.

The attributes of a `Module` are parameters, other modules, or lists of modules, and are walked in the order in which
the constructor set them.  Calling a module runs its forward pass.  A constructor that draws weights takes the `rng`.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nn import functional as F
from nn import init
from nn.tensor import Parameter, Tensor


class Module:
    """Base of everything that holds parameters.

    >>> net = Sequential(Linear(2, 3, np.random.default_rng(0)), F.relu)
    >>> [(name, parameter.shape) for name, parameter in net.named_parameters()]
    [('layers.0.weight', (2, 3)), ('layers.0.bias', (3,))]
    """

    def children(self) -> Iterator[tuple[str, Module | Parameter | np.ndarray]]:
        """(name, value) of each parameter, buffer (a plain array) and module directly inside, in definition order."""
        for name, value in vars(self).items():
            if isinstance(value, Module | Parameter | np.ndarray):
                yield name, value
            elif isinstance(value, list | tuple):
                for index, element in enumerate(value):
                    if isinstance(element, Module | Parameter):
                        yield f"{name}.{index}", element

    def _walk(self, kind: type, prefix: str = "") -> Iterator[tuple[str, object]]:
        for name, value in self.children():
            if isinstance(value, kind):
                yield prefix + name, value
            elif isinstance(value, Module):
                yield from value._walk(kind, f"{prefix}{name}.")

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """(dotted name, parameter) in definition order; one that is shared by two modules appears once."""
        seen: set[int] = set()
        return [(n, p) for n, p in self._walk(Parameter) if not (id(p) in seen or seen.add(id(p)))]

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named_parameters()]

    def parameter_count(self) -> int:
        return sum(parameter.size for parameter in self.parameters())

    def state(self) -> dict[str, np.ndarray]:
        """Every parameter and buffer (an array that is not trained) by dotted name: the arrays, no copies."""
        return {name: p.data for name, p in self.named_parameters()} | dict(self._walk(np.ndarray))

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Copy `state` into the parameters and buffers, all or none.  ValueError if a name or a shape does not fit."""
        own = self.state()
        if missing := sorted(own.keys() - state.keys()):
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise ValueError(f"the state lacks {missing[0]!r}{more}")
        if unknown := sorted(state.keys() - own.keys()):
            raise ValueError(f"the state has {unknown[0]!r}, which this model does not")
        for name, array in own.items():
            if array.shape != state[name].shape:
                raise ValueError(f"{name!r} has shape {state[name].shape} in the state, {array.shape} in this model")
        for name, array in own.items():
            array[...] = state[name]

    def astype(self, dtype) -> Module:
        """Convert every parameter and buffer in place (float64 for gradient checks); returns the module."""
        for name, value in list(self.children()):
            if isinstance(value, Module):
                value.astype(dtype)
            elif isinstance(value, Parameter):
                value.data = value.data.astype(dtype)
            elif value.dtype.kind == "f":
                setattr(self, name, value.astype(dtype))
        return self


class Sequential(Module):
    """Layers one after another.  A plain function such as `F.relu` may stand between them."""

    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Linear(Module):
    """y = x W + b on the last axis: (..., in_features) -> (..., out_features).

    >>> layer = Linear(4, 2, np.random.default_rng(0))
    >>> layer(Tensor(np.ones((3, 4), np.float32))).shape
    (3, 2)
    """

    def __init__(self, in_features: int, out_features: int, rng: np.random.Generator, bias: bool = True):
        self.weight = Parameter(init.he((in_features, out_features), rng))
        self.bias = Parameter(init.zeros((out_features,))) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Conv2d(Module):
    """Cross-correlation of (N, H, W, in_channels) with `out_channels` filters of kernel x kernel, an odd number.

    Zeros around the image keep H and W as they are at stride 1; at stride 2 they are halved, rounded up.
    onto: of the result's shape, added to it.

    >>> layer = Conv2d(1, 8, 3, np.random.default_rng(0), stride=2)
    >>> layer(Tensor(np.ones((5, 28, 28, 1), np.float32))).shape
    (5, 14, 14, 8)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, rng: np.random.Generator, stride: int = 1):
        if kernel % 2 == 0:
            raise ValueError(f"Conv2d: the kernel must be odd, to keep the size of the image; given {kernel}")
        self.stride, self.padding = stride, (kernel - 1) // 2
        self.weight = Parameter(init.he((kernel, kernel, in_channels, out_channels), rng))
        self.bias = Parameter(init.zeros((out_channels,)))

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding, onto=onto)


class GroupNorm(Module):
    """Each image's channels, in `groups` groups, brought to mean 0 and variance 1, then scaled and shifted."""

    def __init__(self, groups: int, channels: int):
        if channels % groups:
            raise ValueError(f"GroupNorm: {channels} channels cannot be cut into {groups} equal groups")
        self.groups = groups
        self.gamma = Parameter(init.ones((channels,)))
        self.beta = Parameter(init.zeros((channels,)))

    def __call__(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.gamma, self.beta, self.groups)


class GroupNormSiLU(GroupNorm):
    """GroupNorm followed by SiLU, in one pass; modulation (N, 2C): see `F.group_norm_silu`."""

    def __call__(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        return F.group_norm_silu(x, self.gamma, self.beta, self.groups, modulation=modulation)


class LayerNorm(Module):
    """The last axis brought to mean 0 and variance 1, then scaled and shifted."""

    def __init__(self, features: int):
        self.gamma = Parameter(init.ones((features,)))
        self.beta = Parameter(init.zeros((features,)))

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gamma, self.beta)


class MultiHeadAttention(Module):
    """Every position looks at every other (Vaswani et al. 2017, section 3.2): (N, T, features) -> the same."""

    def __init__(self, features: int, heads: int, rng: np.random.Generator):
        if features % heads:
            raise ValueError(f"MultiHeadAttention: {features} features cannot be cut into {heads} equal heads")
        self.heads = heads
        self.query_key_value = Linear(features, 3 * features, rng)
        self.output = Linear(features, features, rng)

    def __call__(self, x: Tensor) -> Tensor:
        n, t, features = x.shape
        qkv = self.query_key_value(x).reshape(n, t, 3, self.heads, features // self.heads)
        q, k, v = (
            part.reshape(n, t, *qkv.shape[3:]).transpose(0, 2, 1, 3)  # (N, heads, T, features / heads)
            for part in F.split(qkv, 3, axis=2)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.output(mixed.transpose(0, 2, 1, 3).reshape(n, t, features))
