"""Attention: every position looks at every other and takes a weighted mean of what it finds there.

Source: Vaswani et al. 2017, "Attention is all you need", eq. 1.
"""
from __future__ import annotations

import numpy as np

from nn.tensor import Function, Tensor


class ScaledDotProductAttention(Function):
    """S = Q K^T / sqrt(d),  P = softmax(S) by row,  Y = P V.

    dV = P^T dY
    dP = dY V^T
    dS = P * (dP - the row sums of dP * P)        (the softmax's own Jacobian)
    dQ = dS K / sqrt(d),  dK = dS^T Q / sqrt(d)
    """

    @staticmethod
    def forward(ctx, q, k, v):
        scores = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)  # (N, heads, Tq, Tk)
        scores -= scores.max(axis=-1, keepdims=True)
        p = np.exp(scores, out=scores)
        p /= p.sum(axis=-1, keepdims=True)
        ctx.save(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v, p = ctx.saved
        dq = dk = dv = None
        if ctx.needs[2]:
            dv = p.swapaxes(-1, -2) @ grad
        if ctx.needs[0] or ctx.needs[1]:
            ds = grad @ v.swapaxes(-1, -2)
            ds -= np.einsum("nhqk,nhqk->nhq", ds, p)[..., None]
            ds *= p
            scale = q.shape[-1] ** -0.5
            if ctx.needs[0]:
                dq = ds @ k
                dq *= scale
            if ctx.needs[1]:
                dk = ds.swapaxes(-1, -2) @ q
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
