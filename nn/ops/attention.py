"""Attention: every position takes a weighted mean over all positions (Vaswani et al. 2017, eq. 1)."""

import numpy as np

from nn.tensor import Function, Tensor


class ScaledDotProductAttention(Function):
    """S = Q K^T / sqrt(d),  P = softmax(S) by row,  Y = P V.

    dV = P^T dY
    dP = dY V^T
    dS = P * (dP - the row sums of P * dP),  and these row sums are those of dY * Y
    dQ = dS K / sqrt(d),  dK = dS^T Q / sqrt(d)

    P = E / t with E = exp(S - its row maximum) and t the row sums of E.  P itself, of (T, T), is never formed: each
    division by t is of an array of (T, d), before or after a product.
    """

    def forward(ctx, q, k, v):
        e = (q * max(q.shape[3], 1) ** -0.5) @ k.swapaxes(2, 3)  # (N, heads, Tq, Tk)
        e -= e.max(axis=3, keepdims=True, initial=-np.inf)
        np.exp(e, out=e)
        total = e @ np.ones((k.shape[2], 1), e.dtype)  # row sums; over short rows a product is faster than .sum()
        y = e @ v
        y /= total if k.shape[2] else 1  # without keys, a sum of nothing
        ctx.save(q, k, v, e, total, y)
        return y

    def backward(ctx, grad):
        q, k, v, e, total, y = ctx.saved
        dq = dk = dv = None
        grad = grad / total if k.shape[2] else grad
        if ctx.needs[2]:
            dv = e.swapaxes(2, 3) @ grad
        if ctx.needs[0] or ctx.needs[1]:
            ds = grad @ v.swapaxes(2, 3)
            ds -= np.einsum("nhqd,nhqd->nhq", grad, y)[..., None]
            ds *= e
            scale = max(q.shape[3], 1) ** -0.5
            if ctx.needs[0]:
                dq = ds @ k
                dq *= scale
            if ctx.needs[1]:
                dk = ds.swapaxes(2, 3) @ q
                dk *= scale
        return dq, dk, dv


def scaled_dot_product_attention(q, k, v) -> Tensor:
    """q (N, heads, Tq, d), k (N, heads, Tk, d), v (N, heads, Tk, dv): (N, heads, Tq, dv)."""
    if not (
        len(q.shape) == len(k.shape) == len(v.shape) == 4
        and q.shape[:2] == k.shape[:2] == v.shape[:2]
        and q.shape[3] == k.shape[3]
        and k.shape[2] == v.shape[2]
    ):
        raise ValueError(
            "scaled_dot_product_attention() needs q (N, heads, Tq, d), k (N, heads, Tk, d), v (N, heads, Tk, dv); "
            f"given shapes {q.shape}, {k.shape}, {v.shape}"
        )
    return ScaledDotProductAttention.apply(q, k, v)
