"""Maxima of squares, by reshaping; x (N, H*size, W*size, C)."""
import numpy as np


def squares(x, size):
    """(N, H*size, W*size, C) -> (N, H, W, size*size, C)."""
    count, height, width, channels = x.shape
    cut = x.reshape(count, height // size, size, width // size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(count, height // size, width // size, size * size, channels)


def largest(x, size):
    """The largest numbers, and the places of the first of them; argmax takes a NaN for the largest."""
    winners = squares(x, size).argmax(axis=3)
    return squares(x, size).max(axis=3), winners


def to_winners(grad, winners, size):
    places = np.arange(size * size)[:, None]
    won = np.where(winners[:, :, :, None] == places, grad[:, :, :, None], 0)  # (N, H, W, size*size, C)
    count, height, width, _, channels = won.shape
    won = won.reshape(count, height, width, size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return won.reshape(count, height * size, width * size, channels)
