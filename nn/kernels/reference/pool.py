"""Sums, maxima and copies over squares, by reshaping; x (N, H*size, W*size, C) where it has squares."""
import numpy as np


def squares(x, size):
    """(N, H*size, W*size, C) -> (N, H, W, size*size, C)."""
    count, height, width, channels = x.shape
    cut = x.reshape(count, height // size, size, width // size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(count, height // size, width // size, size * size, channels)


def sum_squares(x, size, scale):
    return squares(x, size).sum(axis=3) * scale


def spread(x, size, scale):
    return x.repeat(size, axis=1).repeat(size, axis=2) * scale


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
