"""Products, softmax, activations and losses, one number at a time with the `math` module."""
import math

import numpy as np


def matmul(a, b):
    """(m, k) times (k, n)."""
    y = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(a.shape[1]):
                y[i, j] += a[i, k] * b[k, j]
    return y


def log_softmax(row):
    """log(e^x_k / sum_j e^x_j) of one row, by the largest, so that it holds at any size."""
    top = max(row)
    log_total = top + math.log(math.fsum(math.exp(x - top) for x in row))
    return np.array([x - log_total for x in row])


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def each(f, x):
    """f of every number in x."""
    return np.array([f(float(number)) for number in x.ravel()]).reshape(x.shape)


def mse(prediction, target):
    return np.array([sum((p.ravel() - t.ravel()) ** 2) / p.size for p, t in zip(prediction, target, strict=True)])


def bce_with_logits(logits, target):
    """-t log s(x) - (1 - t) log(1 - s(x)), where -log s(x) = softplus(-x) and -log(1 - s(x)) = softplus(x)."""
    return np.array([
        math.fsum(t * softplus(-x) + (1 - t) * softplus(x) for x, t in zip(xs.ravel(), ts.ravel(), strict=True))
        for xs, ts in zip(logits, target, strict=True)
    ])  # fmt: skip


def cross_entropy(logits, labels):
    return np.array([-log_softmax(row)[label] for row, label in zip(logits, labels, strict=True)])


def gaussian_kl(mean, log_var):
    """The sum over i of (m^2 + e^v - 1 - v) / 2, for each example."""
    return np.array([
        math.fsum((m * m + math.expm1(v) - v) / 2 for m, v in zip(ms.ravel(), vs.ravel(), strict=True))
        for ms, vs in zip(mean, log_var, strict=True)
    ])  # fmt: skip
