"""Embedding, which turns numbers of words into vectors, and dropout, which silences numbers at random."""
from __future__ import annotations

import numpy as np

from nn.tensor import Function, Tensor


class Embedding(Function):
    """y_k = row i_k of W;  dW_i = the sum of dy_k over all k with i_k = i."""

    @staticmethod
    def forward(ctx, weight, indices):
        ctx.save(indices)
        ctx.shape = weight.shape
        return weight[indices]

    @staticmethod
    def backward(ctx, grad):
        (indices,) = ctx.saved
        count, dim = ctx.shape
        # Sorted by index, the rows that belong together lie together, and reduceat sums each run of them.
        flat = indices.reshape(-1)
        dw = np.zeros((count, dim), grad.dtype)
        if flat.size:
            order = np.argsort(flat, kind="stable")
            runs = flat[order]
            starts = np.concatenate(([0], np.flatnonzero(runs[1:] != runs[:-1]) + 1))
            dw[runs[starts]] = np.add.reduceat(grad.reshape(-1, dim)[order], starts, axis=0)
        return dw, None


def embedding(weight, indices) -> Tensor:
    """weight (count, dim), integer indices of any shape: the rows asked for, of shape (*indices.shape, dim).

    Raises IndexError if an index is not in 0 .. count - 1 (a negative one too), TypeError if they are not integers.
    """
    indices = indices.data if isinstance(indices, Tensor) else np.asarray(indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"embedding() needs integer indices; given dtype {indices.dtype}")
    if indices.size and not 0 <= indices.min() <= indices.max() < weight.shape[0]:
        raise IndexError(
            f"embedding() has {weight.shape[0]} rows; given indices from {indices.min()} to {indices.max()}"
        )
    return Embedding.apply(weight, indices)


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
