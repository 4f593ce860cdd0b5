"""Broadcasting backwards, one number at a time."""

import numpy as np


def reduced(grad, shape):
    """Add every entry of grad to the one entry of an array of this shape that broadcasting had copied there."""
    total = np.zeros(shape, grad.dtype)
    for index in np.ndindex(grad.shape):
        own = index[len(index) - len(shape) :]
        total[tuple(0 if n == 1 else i for i, n in zip(own, shape, strict=True))] += grad[index]
    return total
