"""What the kernels of `nn/kernels/flat.py` compute, in plain NumPy."""
import numpy as np


def add_lanes(lanes, start, stop):
    """Returns out[start:stop]."""
    return lanes[:, start:stop].sum(axis=0)


def adamw_update(
    values, gradient, m, v, average, scale, rate, beta1, beta2, correction1, correction2, epsilon, decay, ema_rate
):
    """Returns the new (values, m, v, average)."""
    g = scale * gradient
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    values = values - rate * (m / correction1) / (np.sqrt(v / correction2) + epsilon) - decay * values
    return values, m, v, average + ema_rate * (values - average)


def nesterov_update(gradient, velocity, scale, momentum):
    """Returns the new velocity, and the look ahead."""
    velocity = momentum * velocity + (1 - momentum) * scale * gradient
    return velocity, momentum * velocity + (1 - momentum) * scale * gradient


def directed_update(values, direction, average, rate, decay, ema_rate):
    """Returns the new (values, average)."""
    values = values - rate * direction - decay * values
    return values, average + ema_rate * (values - average)
