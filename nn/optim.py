"""Optimisers, in order of increasing complexity, and what surrounds a step: clipping, schedules, averaging.

Parameters live in one flat array (`nn.parallel.FlatParameters`), so an optimiser is a formula on vectors.  Each has
`step(gradient, rate, scale=1)`, where `scale` multiplies the gradient (see `clip_scale`), and `state()`, a dict of the
arrays that it keeps between steps, for checkpoints.
"""
from __future__ import annotations

import math
from copy import copy

import numpy as np

from nn.kernels import flat
from nn.processes import shared_zeros

Betas = tuple[float, float]
BETAS = (0.9, 0.999)


class Momentum:
    """u <- momentum * u + g;  w <- w - rate * u   (Polyak 1964)"""

    def __init__(self, values: np.ndarray, momentum: float = 0.9):
        self.values, self.momentum = values, momentum
        self.velocity = np.zeros_like(values)

    def step(self, gradient: np.ndarray, rate: float, scale: float = 1.0) -> None:
        self.velocity *= self.momentum
        self.velocity += scale * gradient
        self.values -= rate * self.velocity

    def state(self) -> dict[str, np.ndarray]:
        return {"velocity": self.velocity}


class Adam:
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - rate * m^ / (sqrt(v^) + eps)

    with m^ = m / (1 - b1^t), v^ = v / (1 - b2^t), since both start from zero (Kingma and Ba 2015, algorithm 1).
    """

    def __init__(self, values: np.ndarray, betas: Betas = BETAS, epsilon: float = 1e-8):
        self.values, self.betas, self.epsilon = values, betas, epsilon
        self.m = np.zeros_like(values)
        self.v = np.zeros_like(values)
        self.count = np.zeros((), np.int64)  # t, the number of steps taken

    def step(self, gradient: np.ndarray, rate: float, scale: float = 1.0) -> None:
        b1, b2 = self.betas
        self.count += 1
        t = int(self.count)
        g = scale * gradient
        self.m[...] = b1 * self.m + (1 - b1) * g
        self.v[...] = b2 * self.v + (1 - b2) * g * g
        m_hat, v_hat = self.m / (1 - b1**t), self.v / (1 - b2**t)
        self.values -= rate * m_hat / (np.sqrt(v_hat) + self.epsilon)

    def state(self) -> dict[str, np.ndarray]:
        return {"m": self.m, "v": self.v, "count": self.count}


class EMA:
    """An exponential moving average of the weights, which samples better than the weights themselves.

    average <- d * average + (1 - d) * w  with  d = min(decay, (1 + n) / (10 + n))  after n updates, so that the first
    steps, far from the end, are soon forgotten (the rule of TensorFlow's ExponentialMovingAverage with `num_updates`).
    A decay of 0.999 is reached only after 8,990 updates; a shorter run ends with an average over its last ninth, about.
    """

    def __init__(self, values: np.ndarray, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay must be at least 0 and below 1; given {decay}")
        self.values, self.decay = values, decay
        self.average = shared_zeros(values.shape, values.dtype)  # worker processes update a part of it
        self.average[...] = values
        self.count = np.zeros((), np.int64)  # n, the number of updates so far

    def of(self, part: slice) -> EMA:
        """The same average and count, of a part of the values: for who updates that part alone."""
        ema = copy(self)
        ema.values, ema.average = self.values[part], self.average[part]
        return ema

    def current_decay(self) -> float:
        """d for the update that comes next."""
        n = int(self.count)
        return min(self.decay, (1 + n) / (10 + n))

    def update(self) -> None:
        d = self.current_decay()
        self.average[...] = d * self.average + (1 - d) * self.values
        self.count += 1


class AdamW(Adam):
    """Adam, and beside it w <- w - rate * weight_decay * w, not mixed into the moments (Loshchilov and Hutter 2019).

    The formulas of Adam and, where one is given, of EMA, made one pass over memory by a kernel.

    >>> weights = np.array([1.0, -1.0])
    >>> optimiser = AdamW(weights)
    >>> optimiser.step(gradient=2 * weights, rate=0.1)  # of |w|^2; the first step is the rate, whatever the gradient
    >>> weights.round(6)
    array([ 0.9, -0.9])
    """

    def __init__(self, values: np.ndarray, betas: Betas = BETAS, weight_decay: float = 0.0, ema: EMA | None = None):
        super().__init__(values, betas)
        self.weight_decay, self.ema = weight_decay, ema

    def step(self, gradient: np.ndarray, rate: float, scale: float = 1.0) -> None:
        self.count += 1
        t = int(self.count)
        b1, b2 = self.betas
        average, ema_rate = self.m, 0.0  # without an EMA: a rate of zero leaves any array as it is
        if self.ema is not None:
            average, ema_rate = self.ema.average, 1 - self.ema.current_decay()
            self.ema.count += 1
        numbers = (scale, rate, b1, b2, 1 - b1**t, 1 - b2**t, self.epsilon, rate * self.weight_decay, ema_rate)
        flat.adamw_update(
            self.values, gradient, self.m, self.v, average, *(self.values.dtype.type(number) for number in numbers)
        )


def gradient_norm(gradient: np.ndarray) -> float:
    """The Euclidean length of the whole gradient; NaN if any entry is."""
    return math.sqrt(np.dot(gradient, gradient))


def clip_scale(norm: float, limit: float) -> float:
    """What to multiply a gradient of this norm by so that its norm is at most `limit` (Pascanu et al. 2013)."""
    return 1.0 if norm <= limit else limit / norm


def warmup(step: int, steps: int) -> float:
    """Rises from 1/steps at step 0 to 1 at step `steps` - 1 and stays there."""
    return min(1.0, (step + 1) / steps) if steps else 1.0


def cosine_decay(step: int, total: int, final: float = 0.0) -> float:
    """Falls from 1 at step 0 to `final` at step `total` along half a cosine (Loshchilov and Hutter 2017)."""
    progress = min(1.0, step / total)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
