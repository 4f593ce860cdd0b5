"""Activations by their formulas."""
import numpy as np


def sigmoid(x):
    e = np.exp(-np.abs(x))  # in (0, 1], whatever the sign of x
    return np.where(x >= 0, 1, e) / (1 + e)


def sigmoid_backward(y, grad):
    return grad * y * (1 - y)


def silu(x):
    return x * sigmoid(x)


def silu_backward(x, grad):
    s = sigmoid(x)
    return grad * (s * (1 + x * (1 - s)))


def relu(x):
    return np.maximum(x, 0)


def relu_backward(x, grad):
    return grad * (x > 0)


def leaky_relu(x, slope):
    return np.where(x > 0, x, slope * x)


def leaky_relu_backward(x, grad, slope):
    return np.where(x > 0, grad, slope * grad)
