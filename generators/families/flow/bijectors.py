"""Invertible layers: what a flow is made of.

A bijector maps x to z and back, and says how much it stretches space on the way.  If z has density p(z), then x has

    log p(x) = log p(z) + log |det dz/dx|,     z = f(x)               (Dinh et al. 2015, eq. 2-3)

because a small box around x of volume v becomes a box around z of volume v |det dz/dx| that holds the same
probability.  A chain of bijectors is a bijector whose logarithms of determinants add up.

Every bijector has
    forward(x, condition) -> (z, log_det)      log_det (N,): log |det dz/dx| of each example by itself
    inverse(z, condition) -> x
    prepare(x, condition) -> z                 like forward, but first initialises what depends on data
on tensors, differentiable both ways.  Images are (N, H, W, C); `condition` is what the networks inside are told of the
captions: numbers (N, features), or what else they understand (`conditioning.py`), or that guided (`Guided`).

A general map of 784 pixels has a Jacobian of 784 x 784, whose determinant takes 784^3 operations; each layer here has a
triangular, diagonal or tiny one.  Sources: Dinh et al. 2015 (NICE), Dinh et al. 2017 (RealNVP), Kingma and Dhariwal
2018 (Glow), Zhai et al. 2024 (guidance in flows).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from generators.parts.blocks import soft_clip
from generators.parts.guidance import guide
from generators.parts.patches import squeeze, unsqueeze
from nn import functional as F
from nn import init
from nn.modules import Module
from nn.tensor import Function, Parameter, Tensor

MAX_LOG_SCALE = 3.0  # of one coupling, a factor of 20 either way: no network can make a scale explode or vanish
Condition = Any  # bijectors hand it on to their networks and do not look inside


class Bijector(Module):
    """An invertible map; the base class only says what `prepare` does where nothing depends on data."""

    def prepare(self, x: Tensor, condition: Condition) -> Tensor:
        return self.forward(x, condition)[0]


class Composition(Bijector):
    """Bijectors one after another:  log |det| of the chain is the sum of its links', the inverse runs backwards."""

    def __init__(self, *links: Bijector):
        self.links = links

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        x, total = self.links[0].forward(x, condition)
        for link in self.links[1:]:
            x, log_det = link.forward(x, condition)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor, condition: Condition) -> Tensor:
        for link in reversed(self.links):
            z = link.inverse(z, condition)
        return z

    def prepare(self, x: Tensor, condition: Condition) -> Tensor:
        for link in self.links:
            x = link.prepare(x, condition)
        return x


class Logit(Bijector):
    """From [0, 1] to the whole line: z = log(p / (1 - p)) with p = margin + (1 - 2 margin) x.

    The margin keeps pixels at the ends finite (Dinh et al. 2017, section 4.1).  dz/dx = (1 - 2 margin) / (p (1 - p)).
    z -> x -> z is only as exact as x: in float32 all z beyond some 17 are the same white.
    """

    def __init__(self, margin: float):
        self.margin = margin

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        log_p = F.log(self.margin + (1 - 2 * self.margin) * x)
        log_q = F.log((1 - self.margin) - (1 - 2 * self.margin) * x)  # q = 1 - p
        log_slope = math.log(1 - 2 * self.margin) - log_p - log_q
        return log_p - log_q, sum_per_example(log_slope)

    def inverse(self, z: Tensor, condition: Condition) -> Tensor:
        return (F.sigmoid(z) - self.margin) * (1 / (1 - 2 * self.margin))


class Squeeze(Bijector):
    """Trades resolution for channels: (N, H, W, C) <-> (N, H/2, W/2, 4C).  Only moves numbers: log_det = 0."""

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        return squeeze(x), nothing(x)

    def inverse(self, z: Tensor, condition: Condition) -> Tensor:
        return unsqueeze(z)


class Checkerboard(Bijector):
    """Sorts the channels of squeezed images, four pixels a block, into black squares and white ones.

        0 1         0 . | . 1
        2 3   ->    . 3 | 2 .         channels 0, 1, 2, 3 -> 0, 3, 1, 2

    Then a coupling between the two halves of the channels *is* the checkerboard coupling of Dinh et al. 2017 (figure 3,
    left), at half the resolution, where no work is done on squares that a mask would throw away.
    """

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        upper_left, upper_right, lower_left, lower_right = F.split(x, 4, axis=-1)
        return F.concat([upper_left, lower_right, upper_right, lower_left], axis=-1), nothing(x)

    def inverse(self, z: Tensor, condition: Condition) -> Tensor:
        upper_left, lower_right, upper_right, lower_left = F.split(z, 4, axis=-1)
        return F.concat([upper_left, upper_right, lower_left, lower_right], axis=-1)


class ActNorm(Bijector):
    """z = exp(log_scale) * x + shift, per channel (Kingma and Dhariwal 2018, section 3.1).

    `prepare` makes the first batch come out with mean 0 and variance 1; from then on scale and shift are learned.  The
    same scale applies to every pixel, so log_det = H * W * sum(log_scale).
    """

    def __init__(self, channels: int):
        self.log_scale = Parameter(init.zeros((channels,)))
        self.shift = Parameter(init.zeros((channels,)))

    def prepare(self, x: Tensor, condition: Condition) -> Tensor:
        mean, deviation = x.data.mean(axis=(0, 1, 2)), x.data.std(axis=(0, 1, 2))
        self.log_scale.data[...] = -np.log(deviation + 1e-6)
        self.shift.data[...] = -mean / (deviation + 1e-6)
        return self.forward(x, condition)[0]

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        z = x * F.exp(self.log_scale) + self.shift
        return z, once_per_pixel(self.log_scale.sum(), x)

    def inverse(self, z: Tensor, condition: Condition) -> Tensor:
        return (z - self.shift) * F.exp(-self.log_scale)


class ChannelMix(Bijector):
    """z = x W at every pixel, W (C, C): the invertible 1x1 convolution (Kingma and Dhariwal 2018, section 3.2).

    It learns what the halves of the next coupling are.  W begins as a random rotation.  log_det = H * W * log |det W|,
    and C is small.
    """

    def __init__(self, channels: int, rng: np.random.Generator):
        self.weight = Parameter(init.orthogonal((channels, channels), rng))

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        return F.linear(x, self.weight), once_per_pixel(LogAbsDet.apply(self.weight), x)

    def inverse(self, z: Tensor, condition: Condition) -> Tensor:
        return F.linear(z, Inverse.apply(self.weight))


class LogAbsDet(Function):
    """y = log |det W|;  dW = dy W^(-T)  (Jacobi's formula)."""

    def forward(ctx, w):
        ctx.save(w)
        return np.asarray(np.linalg.slogdet(w)[1])

    def backward(ctx, grad):
        (w,) = ctx.saved
        return grad * np.linalg.inv(w).T


class Inverse(Function):
    """Y = W^-1;  dW = -Y^T dY Y^T, from d(W Y) = dW Y + W dY = 0."""

    def forward(ctx, w):
        inverse = np.linalg.inv(w)
        ctx.save(inverse)
        return inverse

    def backward(ctx, grad):
        (inverse,) = ctx.saved
        return -inverse.T @ grad @ inverse.T


class Guided:
    """A guided condition, usable wherever one is: a network's answer is `guide` of those under two plain conditions.

    The flow stays exact: scale and shift may be any function of the unchanged half (Zhai et al. 2024, on guidance).
    said, silent: conditions of the same N images.
    """

    def __init__(self, said: Any, silent: Any, weight: float):
        self.said, self.silent, self.weight = said, silent, weight


def ask(network: Callable[[Any], Tensor], condition: Condition) -> Tensor:
    """What a network answers under a plain condition, or under a guided one."""
    if not isinstance(condition, Guided):
        return network(condition)
    return guide(network(condition.silent), network(condition.said), condition.weight)


class Coupling(Bijector):
    """One half of the channels is left alone and decides how the other half is scaled and shifted.

    (a, b) = the halves of x;  z = (a, b * exp(s) + t)  with  s, t = network(a, condition)
                                                                    (Dinh et al. 2017, eq. 7-8 and figure 3, right)
    The Jacobian is triangular with 1 and exp(s) on its diagonal, whatever the network does, and the inverse never
    inverts the network: a is still there, so s and t can be computed again.

    network: (N, H, W, C/2), condition -> (N, H, W, C), of which the first half becomes s, the second is t.
    swap:    leave the second half alone instead of the first.
    """

    def __init__(self, network: Module, swap: bool = False):
        self.network, self.swap = network, swap

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        a, b = self._halves(x)
        log_scale, shift = self._scale_and_shift(a, condition)
        b, log_det = couple(b, log_scale, shift)
        return self._join(a, b), log_det

    def inverse(self, z: Tensor, condition: Condition) -> Tensor:
        a, b = self._halves(z)
        log_scale, shift = self._scale_and_shift(a, condition)
        return self._join(a, uncouple(b, log_scale, shift))

    def _scale_and_shift(self, a: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        return scale_and_shift(ask(lambda plain: self.network(a, plain), condition))

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = F.split(x, 2, axis=-1)
        return (second, first) if self.swap else (first, second)

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return F.concat([b, a] if self.swap else [a, b], axis=-1)


def scale_and_shift(answer: Tensor) -> tuple[Tensor, Tensor]:
    """The halves of what a network answers, along the channels: a log-scale, kept within bounds, and a shift."""
    raw, shift = F.split(answer, 2, axis=-1)
    return soft_clip(raw, MAX_LOG_SCALE), shift


def couple(b: Tensor, log_scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """z = b * exp(log_scale) + shift and log |det dz/db|, (N,): the sum of log_scale over each example."""
    return b * F.exp(log_scale) + shift, sum_per_example(log_scale)


def uncouple(z: Tensor, log_scale: Tensor, shift: Tensor) -> Tensor:
    """The b of which `couple` made z."""
    return (z - shift) * F.exp(-log_scale)


class FactorOut(Bijector):
    """Half of the channels are done and leave; `rest` goes on with the others (Dinh et al. 2017, section 3.6).

    (a, b) = the halves of x;  z = (rest(a), b), flat: (N, H, W, C) -> (N, H*W*C).  Saves work and memory,
    and gives the noise an order: first the coarse, which every finer part may depend on, then detail.
    """

    def __init__(self, rest: Bijector, shape: tuple[int, int, int]):
        self.rest, self.shape = rest, shape

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        a, b = F.split(x, 2, axis=-1)
        z, log_det = self.rest.forward(a, condition)
        return self._join(z, b), log_det

    def inverse(self, z: Tensor, condition: Condition) -> Tensor:
        half = z.shape[1] // 2
        h, w, c = self.shape
        a = self.rest.inverse(z[:, :half], condition)
        return F.concat([a, z[:, half:].reshape(len(z), h, w, c // 2)], axis=-1)

    def prepare(self, x: Tensor, condition: Condition) -> Tensor:
        a, b = F.split(x, 2, axis=-1)
        return self._join(self.rest.prepare(a, condition), b)

    def _join(self, z: Tensor, b: Tensor) -> Tensor:
        return F.concat([z, b.reshape(len(b), -1)], axis=1)


class Flatten(Bijector):
    """(N, H, W, C) <-> (N, H*W*C)."""

    def __init__(self, shape: tuple[int, int, int]):
        self.shape = shape

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        return x.reshape(len(x), -1), nothing(x)

    def inverse(self, z: Tensor, condition: Condition) -> Tensor:
        return z.reshape(len(z), *self.shape)


class CaptionAffine(Bijector):
    """z = (x - mean) * exp(-log_scale), where a network reads mean and log_scale off the caption.

    Standard normal noise z is then the same as x drawn from a Gaussian that the caption has chosen: a learned prior,
    written as one more bijector, so that the noise of the whole flow is standard normal.

    network: condition -> (N, 2 * variables)
    """

    def __init__(self, network: Callable[[Any], Tensor]):
        self.network = network

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        log_scale, mean = scale_and_shift(ask(self.network, condition))
        return uncouple(x, log_scale, mean), -sum_per_example(log_scale)

    def inverse(self, z: Tensor, condition: Condition) -> Tensor:
        log_scale, mean = scale_and_shift(ask(self.network, condition))
        return couple(z, log_scale, mean)[0]


def nothing(x: Tensor) -> Tensor:
    """The log_det of a map that only moves numbers about: (N,) zeros."""
    return Tensor(np.zeros(len(x), x.dtype))


def sum_per_example(x: Tensor) -> Tensor:
    """(N, ...) -> (N,)"""
    return x.reshape(len(x), -1).sum(axis=1)


def once_per_pixel(log_det: Tensor, x: Tensor) -> Tensor:
    """The log_det of what is done at each of the H * W pixels of every image of x, (N,)."""
    n, h, w, _ = x.shape
    return F.broadcast_to(log_det * float(h * w), (n,))
