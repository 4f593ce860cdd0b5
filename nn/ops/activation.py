"""Activations, and the logarithm of softmax; no intermediate overflows, whatever the size of x."""
import numpy as np

from nn.kernels import activation as kernels
from nn.tensor import Function


class Relu(Function):
    """y = max(x, 0), dy/dx = [x > 0].  A NaN stays a NaN."""

    def forward(ctx, x):
        ctx.save(x)
        return _entrywise(kernels.relu, x)

    def backward(ctx, grad):
        (x,) = ctx.saved
        return _entrywise(kernels.relu_backward, x, grad)


def relu(x):
    """max(x, 0), any shape."""
    return Relu.apply(x)


class LeakyRelu(Function):
    """y = x where x > 0, else slope * x."""

    def forward(ctx, x, slope):
        ctx.slope = x.dtype.type(slope)
        ctx.save(x)
        return _entrywise(kernels.leaky_relu, x, ctx.slope)

    def backward(ctx, grad):
        return _entrywise(kernels.leaky_relu_backward, *ctx.saved, grad, ctx.slope)


def leaky_relu(x, slope=0.2):
    """x where positive, slope * x elsewhere, any shape."""
    return LeakyRelu.apply(x, slope=slope)


class Sigmoid(Function):
    """y = 1 / (1 + exp(-x)), dy/dx = y (1 - y)."""

    def forward(ctx, x):
        y = _entrywise(kernels.sigmoid, x)
        ctx.save(y)
        return y

    def backward(ctx, grad):
        return _entrywise(kernels.sigmoid_backward, *ctx.saved, grad)


def sigmoid(x):
    """1 / (1 + exp(-x)), any shape."""
    return Sigmoid.apply(x)


class Silu(Function):
    """y = x s with s = sigmoid(x), dy/dx = s (1 + x (1 - s)) (Hendrycks and Gimpel 2016)."""

    def forward(ctx, x):
        ctx.save(x)
        return _entrywise(kernels.silu, x)

    def backward(ctx, grad):
        return _entrywise(kernels.silu_backward, *ctx.saved, grad)


def silu(x):
    """x * sigmoid(x), any shape."""
    return Silu.apply(x)


class Tanh(Function):
    """y = tanh(x), dy/dx = 1 - y^2."""

    def forward(ctx, x):
        y = np.tanh(x)
        ctx.save(y)
        return y

    def backward(ctx, grad):
        (y,) = ctx.saved
        return grad * (1 - y * y)


def tanh(x):
    """The hyperbolic tangent, any shape."""
    return Tanh.apply(x)


class Softplus(Function):
    """y = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), dy/dx = sigmoid(x)."""

    def forward(ctx, x):
        ctx.save(x)
        return _entrywise(kernels.softplus, x)

    def backward(ctx, grad):
        (x,) = ctx.saved
        return grad * _entrywise(kernels.sigmoid, x)


def softplus(x):
    """log(1 + exp(x)), any shape."""
    return Softplus.apply(x)


class LogSoftmax(Function):
    """y = x - log sum_k exp(x_k) along an axis; dL/dx = g - softmax(x) sum_k g_k."""

    def forward(ctx, x, axis):
        shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
        with np.errstate(divide="ignore"):  # the sum is 0 where the axis is empty
            y = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        ctx.axis = axis
        ctx.save(y)
        return y

    def backward(ctx, grad):
        (y,) = ctx.saved
        return grad - np.exp(y) * grad.sum(axis=ctx.axis, keepdims=True)


def log_softmax(x, axis=-1):
    """The logarithm of softmax, exact also where softmax itself underflows; any shape.

    >>> log_softmax([1000.0, 0.0])
    Tensor([ 0., -1000.], shape=(2,), float32)
    """
    return LogSoftmax.apply(x, axis=axis)


def _entrywise(kernel, x, *others):
    """Run a kernel on the flattened x and what follows, arrays like it or numbers of its dtype; a new array like x."""
    out = np.empty(x.shape, x.dtype)
    flat = [np.ascontiguousarray(a).reshape(-1) if isinstance(a, np.ndarray) else a for a in (x, *others)]
    kernel(*flat, out.reshape(-1))
    return out
