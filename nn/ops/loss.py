"""Losses.  Each returns one value per example, shape (N,); what to average over is the caller's decision."""

import math

import numpy as np

from nn.kernels import activation as kernels
from nn.ops.activation import _entrywise
from nn.tensor import Function, Tensor


class MSE(Function):
    """l_n = (1/D) sum_i (p_ni - t_ni)^2;  dp_ni = dl_n (2/D) (p_ni - t_ni),  dt = -dp."""

    def forward(ctx, prediction, target):
        error = _by_example(prediction - target)
        ctx.save(error)
        ctx.shape = prediction.shape
        return np.einsum("ni,ni->n", error, error) / max(error.shape[1], 1)

    def backward(ctx, grad):
        (error,) = ctx.saved
        dp = (error * (grad * (2 / max(error.shape[1], 1)))[:, None]).reshape(ctx.shape)
        return dp, -dp if ctx.needs[1] else None


def mse(prediction, target) -> Tensor:
    """The mean squared error over all axes but the first; shapes (N, ...), equal."""
    _same_shape("mse", "prediction", prediction, "target", target)
    return MSE.apply(prediction, target)


class BCEWithLogits(Function):
    """l_n = -sum_i [t log s(x) + (1 - t) log(1 - s(x))]_ni with s the sigmoid, computed without overflow as

        softplus(x) - x t,    softplus(x) = max(x, 0) + log(1 + e^-|x|)

    dx = dl_n (s(x) - t),  dt = -dl_n x.
    """

    def forward(ctx, logits, target):
        ctx.save(logits, target)
        losses = _entrywise(kernels.softplus, logits)
        losses -= logits * target
        return _by_example(losses).sum(axis=1)

    def backward(ctx, grad):
        logits, target = ctx.saved
        grad = grad.reshape(-1, *(1,) * (logits.ndim - 1))
        dx = None
        if ctx.needs[0]:
            dx = _entrywise(kernels.sigmoid, logits)
            dx -= target
            dx *= grad
        return dx, -grad * logits if ctx.needs[1] else None


def bce_with_logits(logits, target) -> Tensor:
    """The binary cross-entropy in nats of target in [0, 1] under sigmoid(logits), summed over all other axes."""
    _same_shape("bce_with_logits", "logits", logits, "target", target)
    return BCEWithLogits.apply(logits, target)


class CrossEntropy(Function):
    """l_n = -log softmax(x_n)[y_n] = log sum_k e^(x_nk) - x_n,y_n;  dx_nk = dl_n (softmax(x_n)_k - [k = y_n])."""

    def forward(ctx, logits, labels):
        shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
        rows = np.arange(len(logits))
        chosen = shifted[rows, labels]
        p = np.exp(shifted, out=shifted)
        total = p.sum(axis=1)
        p /= total[:, None]
        ctx.save(p, rows, labels)
        return np.log(total) - chosen

    def backward(ctx, grad):
        p, rows, labels = ctx.saved
        dx = p * grad[:, None]
        dx[rows, labels] -= grad
        return (dx,)


def cross_entropy(logits, labels) -> Tensor:
    """logits (N, K), integer labels (N,) in 0 .. K - 1: the negative log-likelihood in nats of each label.

    Raises ValueError on other shapes, TypeError if labels are not integers, IndexError on a label out of range.

    >>> cross_entropy(Tensor([[0.0, 0.0], [0.0, 3.0]]), [0, 1])
    Tensor([0.6931, 0.0486], shape=(2,), float32)
    """
    labels = labels.data if isinstance(labels, Tensor) else np.asarray(labels, None if np.size(labels) else int)
    if len(logits.shape) != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"cross_entropy() needs logits (N, K), labels (N,); given {logits.shape}, {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy() needs integer labels; given dtype {labels.dtype}")
    if labels.size and not 0 <= labels.min() <= labels.max() < logits.shape[1]:
        given = f"labels from {labels.min()} to {labels.max()}"
        raise IndexError(f"cross_entropy() has {logits.shape[1]} classes; given {given}")
    return CrossEntropy.apply(logits, labels=labels)


class GaussianKL(Function):
    """l_n = KL(N(m, e^v) || N(0, 1)) = (1/2) sum_i (m^2 + e^v - 1 - v)_ni;  dm = dl_n m,  dv = dl_n (e^v - 1) / 2.

    m, v (N, ...), with any further axes i or none -> (N,).  Source: Kingma and Welling 2014, appendix B.
    """

    def forward(ctx, mean, log_var):
        excess = np.expm1(log_var)  # e^v - 1, exact also for small v
        ctx.save(mean, excess)
        terms = mean * mean
        terms += excess
        terms -= log_var
        return 0.5 * _by_example(terms).sum(axis=1)

    def backward(ctx, grad):
        mean, excess = ctx.saved
        grad = grad.reshape(-1, *(1,) * (mean.ndim - 1))
        return grad * mean if ctx.needs[0] else None, (0.5 * grad) * excess if ctx.needs[1] else None


def gaussian_kl(mean, log_var) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, 1)) in nats, summed over all axes but the first; shapes (N, ...), equal."""
    _same_shape("gaussian_kl", "mean", mean, "log_var", log_var)
    return GaussianKL.apply(mean, log_var)


def _by_example(x: np.ndarray) -> np.ndarray:
    """(N, ...) as (N, numbers of each example)."""
    return x.reshape(len(x), math.prod(x.shape[1:]))


def _same_shape(function: str, first_name: str, first, second_name: str, second) -> None:
    if first.shape != second.shape or not first.shape:
        names, given = f"{first_name} and {second_name}", f"given {first.shape} and {second.shape}"
        raise ValueError(f"{function}() needs {names} of one shape (N, ...); {given}")
