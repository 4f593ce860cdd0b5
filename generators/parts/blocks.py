"""What more than one family uses: parts of networks, a mean of likelihoods, and whether images are ink on paper."""

import math

import numpy as np

from nn import init
from nn.modules import Conv2d, GroupNormSiLU, Linear, Module
from nn.tensor import Function, Tensor


def log_mean_exp(log_values: np.ndarray) -> np.ndarray:
    """log(mean(exp(log_values))) over axis 0, without overflow: the mean of likelihoods, given their logarithms."""
    return np.logaddexp.reduce(log_values, axis=0) - math.log(len(log_values))


class SoftClip(Function):
    """y = m tanh(x / m), m being `most`;  dx = (1 - tanh^2(x / m)) dy."""

    def forward(ctx, x, most):
        tanh = np.tanh(x * (1 / most))
        ctx.save(tanh)
        return tanh * most

    def backward(ctx, grad):
        (tanh,) = ctx.saved
        return grad * (1 - tanh * tanh)


def soft_clip(raw: Tensor, most: float) -> Tensor:
    """most * tanh(raw / most): near 0 the identity, never beyond `most`; for logarithms of scales.

    A plain clip has no gradient outside, so a scale that overshoots, as happens in the first steps, would stay there.
    """
    return SoftClip.apply(raw, most=most)


def is_ink(images: np.ndarray) -> bool:
    """Whether uint8 images are ink on paper, almost black and white, rather than photographs, which are gray.

    One to two hundred of them tell, from all over the set: films, for one, are drawn when they are asked for.
    """
    some = images[:: max(1, len(images) // 100)]
    return bool(np.mean((some > 25) & (some < 230)) <= 0.2)


def modulated_norm(channels: int) -> GroupNormSiLU:
    """A norm for a condition to modulate: 8 groups, but two channels or more in each.

    The modulation comes before the normalisation, which in a group of one channel would undo it.
    """
    return GroupNormSiLU(max(1, min(8, channels // 2)), channels)


class ResidualBlock(Module):
    """x + conv(act(modulate(conv(act(x)), W condition))), act being GroupNorm, SiLU (He et al. 2016, pre-activation).

    x (N, H, W, in_channels), condition (N, condition_features) -> (N, H, W, out_channels).  The condition scales and
    shifts every channel between the convolutions (Perez et al. 2018), before the second norm: behind it it did less
    (`docs/notebook.md`).  The second convolution starts at zero, so the block starts as the identity, or as the 1x1
    convolution `skip` where the channels change.
    """

    def __init__(self, in_channels: int, out_channels: int, condition_features: int, rng: np.random.Generator):
        self.norm1 = GroupNormSiLU(8, in_channels)
        self.conv1 = Conv2d(in_channels, out_channels, 3, rng)
        self.condition = Linear(condition_features, 2 * out_channels, rng)
        self.norm2 = modulated_norm(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, rng)
        self.conv2.weight.data = init.zeros(self.conv2.weight.shape)
        self.skip = Conv2d(in_channels, out_channels, 1, rng) if in_channels != out_channels else None

    def __call__(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(self.norm1(x))
        h = self.norm2(h, self.condition(condition))
        return self.conv2(h, onto=x if self.skip is None else self.skip(x))
