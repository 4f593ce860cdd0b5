"""Activations: the elementwise bends between linear layers, and softmax.

Each is written so that no intermediate overflows, whatever the size of x.
"""
import math

import numpy as np

from nn.kernels import activation as kernels
from nn.tensor import Function


class Relu(Function):
    """y = max(x, 0), dy/dx = [x > 0].  A NaN stays a NaN."""

    @staticmethod
    def forward(ctx, x):
        ctx.save(x)
        return _entrywise(kernels.relu, x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved
        return _entrywise(kernels.relu_backward, x, grad)


def relu(x):
    """max(x, 0), any shape."""
    return Relu.apply(x)


class LeakyRelu(Function):
    """y = x where x > 0, else slope * x."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.slope = slope
        ctx.save(x)
        return _entrywise(kernels.leaky_relu, x, number=slope)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved
        return _entrywise(kernels.leaky_relu_backward, x, grad, number=ctx.slope)


def leaky_relu(x, slope=0.2):
    """x where positive, slope * x elsewhere, any shape."""
    return LeakyRelu.apply(x, slope=slope)


class Sigmoid(Function):
    """y = 1 / (1 + exp(-x)), dy/dx = y (1 - y)."""

    @staticmethod
    def forward(ctx, x):
        y = _entrywise(kernels.sigmoid, x)
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved
        return _entrywise(kernels.sigmoid_backward, y, grad)


def sigmoid(x):
    """1 / (1 + exp(-x)), any shape."""
    return Sigmoid.apply(x)


class Silu(Function):
    """y = x s with s = sigmoid(x), dy/dx = s (1 + x (1 - s)) (Hendrycks and Gimpel 2016)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save(x)
        return _entrywise(kernels.silu, x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved
        return _entrywise(kernels.silu_backward, x, grad)


def silu(x):
    """x * sigmoid(x), any shape."""
    return Silu.apply(x)


class Gelu(Function):
    """y = x P(x), P the normal distribution function; dy/dx = P(x) + x p(x), p its density (same paper as SiLU)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save(x)
        return x * _normal_cdf(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved
        density = np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
        return grad * (_normal_cdf(x) + x * density)


def gelu(x):
    """x times the probability that a standard normal number is below x (the exact form), any shape."""
    return Gelu.apply(x)


class Tanh(Function):
    """y = tanh(x), dy/dx = 1 - y^2."""

    @staticmethod
    def forward(ctx, x):
        y = np.tanh(x)
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved
        return grad * (1 - y * y)


def tanh(x):
    """The hyperbolic tangent, any shape."""
    return Tanh.apply(x)


class Softplus(Function):
    """y = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), dy/dx = sigmoid(x)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save(x)
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved
        return grad * _entrywise(kernels.sigmoid, x)


def softplus(x):
    """log(1 + exp(x)), any shape."""
    return Softplus.apply(x)


class Softmax(Function):
    """y_i = exp(x_i) / sum_k exp(x_k) along an axis; dL/dx = y (g - sum_k g_k y_k)."""

    @staticmethod
    def forward(ctx, x, axis):
        y = np.exp(x - x.max(axis=axis, keepdims=True))
        y /= y.sum(axis=axis, keepdims=True)
        ctx.axis = axis
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved
        return y * (grad - (grad * y).sum(axis=ctx.axis, keepdims=True))


def softmax(x, axis=-1):
    """exp(x), scaled to sum to one along the axis; any shape."""
    return Softmax.apply(x, axis=axis)


class LogSoftmax(Function):
    """y = x - log sum_k exp(x_k) along an axis; dL/dx = g - softmax(x) sum_k g_k."""

    @staticmethod
    def forward(ctx, x, axis):
        shifted = x - x.max(axis=axis, keepdims=True)
        y = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        ctx.axis = axis
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved
        return grad - np.exp(y) * grad.sum(axis=ctx.axis, keepdims=True)


def log_softmax(x, axis=-1):
    """The logarithm of softmax, exact also where softmax itself underflows; any shape."""
    return LogSoftmax.apply(x, axis=axis)


def _normal_cdf(x):
    return 0.5 * (1 + _entrywise(kernels.erf, x * (1 / math.sqrt(2))))


def _entrywise(kernel, *arrays, number=None):
    """Run a kernel on the flattened arrays, and `number` in their dtype if there is one; a new array of their shape."""
    out = np.empty(arrays[0].shape, arrays[0].dtype)
    flat = [np.ascontiguousarray(array).reshape(-1) for array in arrays]
    if number is not None:
        flat.append(out.dtype.type(number))
    kernel(*flat, out.reshape(-1))
    return out
