"""Passes over all parameters at once, in one flat array.

A step in NumPy is a dozen array operations, each a trip through memory, which is what it costs; these make one trip.
"""
import math

from nn.kernels import kernel


@kernel
def add_lanes(lanes, out, start, stop):
    """out[start:stop] = sum over the first axis of lanes (L, size) there, in the order of that axis."""
    block = 4096  # a block of `out` stays in the L1 cache while every lane is added to it
    for begin in range(start, stop, block):
        end = min(begin + block, stop)
        for i in range(begin, end):
            out[i] = lanes[0, i]
        for lane in range(1, len(lanes)):
            for i in range(begin, end):
                out[i] += lanes[lane, i]


@kernel
def adamw_update(
    values, gradient, m, v, average, scale, rate, beta1, beta2, correction1, correction2, epsilon, decay, ema_rate
):
    """One step of AdamW and of the weights' moving average, in place, all arrays of shape (size,).

    scale: multiplies the gradient (the clipping factor); correction1, correction2: 1 - beta1^t and 1 - beta2^t
    decay: the learning rate times the weight decay; ema_rate: 1 - d, the share of the new weights in the average
    """
    one = values.dtype.type(1)
    for i in range(values.size):
        g = gradient[i] * scale
        m[i] = beta1 * m[i] + (one - beta1) * g
        v[i] = beta2 * v[i] + (one - beta2) * g * g
        step = (m[i] / correction1) / (math.sqrt(v[i] / correction2) + epsilon)
        values[i] -= rate * step + decay * values[i]
        average[i] += ema_rate * (values[i] - average[i])


@kernel
def nesterov_update(gradient, velocity, ahead, scale, momentum):
    """velocity <- momentum velocity + (1 - momentum) scale gradient; `ahead`: the same from there; all (size,)."""
    rest = velocity.dtype.type(1) - momentum
    for i in range(velocity.size):
        push = rest * scale * gradient[i]
        velocity[i] = momentum * velocity[i] + push
        ahead[i] = momentum * velocity[i] + push


@kernel
def directed_update(values, direction, average, rate, decay, ema_rate):
    """values <- values - rate direction - decay values, and their moving average, in place; all of shape (size,).

    decay: the learning rate times the weight decay; ema_rate: as in `adamw_update`.
    """
    for i in range(values.size):
        values[i] -= rate * direction[i] + decay * values[i]
        average[i] += ema_rate * (values[i] - average[i])
