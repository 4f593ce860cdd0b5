"""Activations and their gradients, entry by entry, in one pass over flat arrays.

NumPy makes a temporary array for each step of a formula; here numbers go through the whole formula in registers.  Over
200,704 float32 numbers: leaky ReLU 20 us, in NumPy 749 us; SiLU 67 us, in NumPy 1.2 ms.
"""
from nn.kernels import kernel
from nn.kernels.exponential import exp, log1p
from nn.kernels.simd import lanes, load_some, splat, store_some, unless_negative


@kernel
def silu(x, out):
    """x sigmoid(x)."""
    for i in range(0, x.size, lanes(x)):
        v = load_some(x, i, x.size - i)
        store_some(out, i, v / (1.0 + exp(-v)), x.size - i)


@kernel
def silu_backward(x, grad, out):
    """grad * s (1 + x (1 - s)), s = sigmoid(x)."""
    for i in range(0, x.size, lanes(x)):
        v, g = load_some(x, i, x.size - i), load_some(grad, i, x.size - i)
        s = 1.0 / (1.0 + exp(-v))
        store_some(out, i, g * (s + v * (s - s * s)), x.size - i)


@kernel
def sigmoid(x, out):
    """1 / (1 + exp(-x))."""
    for i in range(0, x.size, lanes(x)):
        v = load_some(x, i, x.size - i)
        store_some(out, i, 1.0 / (1.0 + exp(-v)), x.size - i)


@kernel
def sigmoid_backward(y, grad, out):
    """grad * y (1 - y), y being the sigmoid."""
    for i in range(0, y.size, lanes(y)):
        v, g = load_some(y, i, y.size - i), load_some(grad, i, y.size - i)
        store_some(out, i, g * (v - v * v), y.size - i)


@kernel
def softplus(x, out):
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    for i in range(0, x.size, lanes(x)):
        v = load_some(x, i, x.size - i)
        y = unless_negative(v, splat(v, 0.0)) + log1p(exp(-unless_negative(v, -v)))
        store_some(out, i, y, x.size - i)


@kernel
def relu(x, out):
    """x where it is positive or NaN, else 0."""
    for i in range(x.size):
        out[i] = 0 if x[i] <= 0 else x[i]


@kernel
def relu_backward(x, grad, out):
    """grad where x is positive, else 0."""
    for i in range(x.size):
        out[i] = grad[i] if x[i] > 0 else 0


@kernel
def leaky_relu(x, slope, out):
    """x where it is positive or NaN, else slope * x."""
    for i in range(x.size):
        out[i] = slope * x[i] if x[i] <= 0 else x[i]


@kernel
def leaky_relu_backward(x, grad, slope, out):
    """grad where x is positive, else slope * grad."""
    for i in range(x.size):
        out[i] = grad[i] if x[i] > 0 else slope * grad[i]
