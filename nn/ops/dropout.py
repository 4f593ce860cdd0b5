"""Dropout: numbers set to zero at random, so that a network does not rely on any one of them."""
from __future__ import annotations

import numpy as np

from nn.tensor import Function, Tensor


class Dropout(Function):
    """y = x m / (1 - p) with m = 0 with probability p, else 1, so that E[y] = x;  dx = dy m / (1 - p).

    Source: Srivastava et al. 2014, in the "inverted" form, which leaves nothing to do at test time.
    """

    @staticmethod
    def forward(ctx, x, p, rng):
        # float32 whatever the dtype of x, so that both precisions drop the same numbers
        mask = rng.random(x.shape, dtype=np.float32) >= p
        ctx.scale = 1 / (1 - p)
        ctx.save(mask)
        y = x * mask
        y *= ctx.scale
        return y

    @staticmethod
    def backward(ctx, grad):
        (mask,) = ctx.saved
        dx = grad * mask
        dx *= ctx.scale
        return dx


def dropout(x, p: float, rng: np.random.Generator) -> Tensor:
    """x with each number set to 0 with probability p (0 <= p < 1), the others scaled up to keep the mean."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout() needs a probability with 0 <= p < 1; given {p}")
    return Dropout.apply(x, p=p, rng=rng)
