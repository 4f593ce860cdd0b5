"""Muon: for weights that are matrices, momentum whose steps are made orthogonal.

The gradient of a weight matrix (inputs x outputs) has a few large singular values; the rest are tiny, and under Adam,
which scales each number alone, the weights hardly move in their directions.  Muon (Jordan et al. 2024) takes the
velocity M = U S V^T and steps along U V^T, the nearest matrix with orthogonal rows or columns: every direction moves by
the same amount.  It is steepest descent in the spectral norm (Bernstein and Newhouse 2024).

    M <- momentum M + (1 - momentum) G                       G: the gradient
    D  = polar(momentum M + (1 - momentum) G)                Nesterov's look ahead; polar(U S V^T) = U V^T
    W <- W - rate (0.2 sqrt(max(rows, columns)) D + weight_decay W)

The factor makes the numbers of a step about as large as AdamW's are (Liu et al. 2025), so that one rate serves both:
AdamW updates what has a single axis, Muon all else, also the first and the last layer and the table of words, which the
method's author leaves to AdamW.  Muon brought the loss of our diffusion model as low in 600 steps as AdamW in 1,200
(`docs/what-helped.md`).
"""

import math
from collections.abc import Callable

import numpy as np

from nn.kernels import flat
from nn.optim import EMA, AdamW
from nn.processes import shared_zeros

MATCHES_ADAMW = 0.2  # the typical size of the numbers in one of AdamW's steps, at a rate of 1

# a, b, c of p(s) = a s + b s^3 + c s^5, a polynomial for each round: the one that brings the interval in which the
# singular values lie closest to 1, found by Remez' exchange (Amsel et al. 2025).  The intervals: from 0.002
# to 1, 0.017 to 1.98, 0.07 to 1.93, 0.26 to 1.74; and after the last round 0.68 to 1.32.
POLYNOMIALS = (
    (8.42679, -24.93613, 18.49249),
    (4.11165, -3.05913, 0.57495),
    (3.71457, -2.77812, 0.54294),
    (2.78195, -2.07493, 0.46350),
)


def polar(matrix: np.ndarray) -> np.ndarray:
    """U V^T, roughly, for a matrix U S V^T of shape (m, n); zeros for zeros.

    With r = (sum s^4)^(1/4): singular values s >= 0.002 r come out in [0.68, 1.32]; smaller s as about 350 s/r.

    An odd polynomial of a matrix, a X + b (X X^T) X + c (X X^T)^2 X, applies that polynomial to the singular values
    and leaves the vectors as they are.  Polynomials that bring every s in (0, 1] closer to 1 are applied one after
    another (Newton and Schulz; Higham 2008, chapter 8).  All rounds work on the smaller Gram matrix, X X^T or, for a
    tall X, X^T X, and keep the product P of their factors; so the large matrix is multiplied twice, not eight times.
    """
    scalar = matrix.dtype.type
    largest = np.abs(matrix).max()
    if largest == 0:
        return np.zeros_like(matrix)
    x = matrix * scalar(1 / largest)  # so that no square of a square overflows or vanishes
    tall = matrix.shape[0] > matrix.shape[1]
    gram = x.T @ x if tall else x @ x.T
    # r = (sum s^4)^(1/4) is the root of the Gram matrix's norm, and no s is larger.  In a trained diffusion model r is
    # 1.06 times the largest s, and the more usual (sum s^2)^(1/2) 1.45 times: that saves a fifth of a round.
    square = np.sqrt(np.vdot(gram, gram))
    gram *= scalar(1 / square)
    product = None  # P: what stands beside x so far
    for round_, (a, b, c) in enumerate(POLYNOMIALS, 1):
        factor = scalar(c) * gram
        factor.flat[:: len(factor) + 1] += scalar(b)
        factor = gram @ factor
        factor.flat[:: len(factor) + 1] += scalar(a)  # a I + X X^T (b I + c X X^T)
        product = factor if product is None else factor @ product
        if round_ < len(POLYNOMIALS):
            gram = factor @ gram @ factor  # of the next X, which is factor @ X, or X @ factor
    product *= scalar(square**-0.5)
    return x @ product if tall else product @ x


def _cost(rows: int, columns: int) -> int:
    """Multiplications in `polar`: the large matrix twice, the small ones 4 times a round less 3."""
    k, n = min(rows, columns), max(rows, columns)
    return 2 * k * k * n + (4 * len(POLYNOMIALS) - 3) * k**3


class Muon:
    """Updates parameters in a flat array: the matrices, which come first, as above, what follows by AdamW.

    matrices: `FlatParameters.matrices`; ema: the moving average of all values, updated in the same pass
    """

    def __init__(
        self, values: np.ndarray, matrices: list[tuple[slice, int, int]], ema: EMA, momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0,
    ):  # fmt: skip
        end = max((part.stop for part, _, _ in matrices), default=0)
        self.matrices, self.ema, self.momentum, self.weight_decay = matrices, ema, momentum, weight_decay
        self.values, self.average = values[:end], ema.average[:end]
        self.velocity = shared_zeros((end,), values.dtype)  # worker processes write into it
        self.vectors = AdamW(values[end:], betas, weight_decay=weight_decay, ema=ema.of(slice(end, None)))

    def step(self, gradient: np.ndarray, rate: float, scale: float = 1.0, share: Callable | None = None) -> None:
        """One step.  share: has `move` called for all shares, by whichever workers; None: here and now."""
        numbers = (rate, scale, 1 - self.ema.current_decay())
        if share is None:
            self.move(gradient, numbers)
        else:
            share(numbers)
        self.vectors.step(gradient[len(self.values) :], rate, scale)  # last, because it counts the average's updates

    def move(self, gradient: np.ndarray, numbers: tuple, index: int = 0, workers: int = 1) -> None:
        """The step of all matrices, or of worker `index`'s share, one after the other while in the cache."""
        rate, scale, ema_rate = numbers  # ema_rate: the share of the new weights in their average
        number = self.values.dtype.type
        for part, rows, columns in self.shares(workers)[index]:
            values, ahead = self.values[part], np.empty(rows * columns, self.values.dtype)
            flat.nesterov_update(gradient[part], self.velocity[part], ahead, number(scale), number(self.momentum))
            direction = np.ravel(polar(ahead.reshape(rows, columns)))
            amounts = (rate * MATCHES_ADAMW * math.sqrt(max(rows, columns)), rate * self.weight_decay, ema_rate)
            flat.directed_update(values, direction, self.average[part], *(number(amount) for amount in amounts))

    def shares(self, count: int) -> list[list[tuple[slice, int, int]]]:
        """The matrices dealt to `count` workers: the costliest first, each to the worker who has least to do."""
        shares: list[list[tuple[slice, int, int]]] = [[] for _ in range(count)]
        loads = [0] * count
        for cost, matrix in sorted(((_cost(*m[1:]), m) for m in self.matrices), key=lambda pair: -pair[0]):
            worker = loads.index(min(loads))
            shares[worker].append(matrix)
            loads[worker] += cost
        return shares

    def state(self) -> dict[str, np.ndarray]:
        return {"velocity": self.velocity} | self.vectors.state()
