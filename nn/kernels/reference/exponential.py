"""exp."""
import numpy as np


def exp(x):
    return np.exp(x)
