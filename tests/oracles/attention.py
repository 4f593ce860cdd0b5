"""Attention, one query at a time."""
import numpy as np


def attention(q, k, v):
    """q (N, heads, Tq, d), k (N, heads, Tk, d), v (N, heads, Tk, dv): softmax(q k^T / sqrt(d)) v."""
    n, heads, queries, d = q.shape
    y = np.zeros((n, heads, queries, v.shape[3]), q.dtype)
    for a in range(n):
        for h in range(heads):
            for i in range(queries):
                scores = np.array([np.dot(q[a, h, i], key) / np.sqrt(d) for key in k[a, h]])
                weights = np.exp(scores - max(scores))
                weights /= sum(weights)
                for weight, value in zip(weights, v[a, h], strict=True):
                    y[a, h, i] += weight * value
    return y
