"""An image in the middle of a larger buffer."""
import numpy as np


def copy_into(x, image, padding, shape):
    """Zeros of this shape (H', W', C), with x[image] (H, W, C) `padding` pixels from the top and the left."""
    padded = np.zeros(shape, x.dtype)
    padded[padding : padding + x.shape[1], padding : padding + x.shape[2]] = x[image]
    return padded
