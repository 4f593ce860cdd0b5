"""Winograd's transforms, one einsum each.  Planes are (n^2, tiles, C): value k of every tile."""
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def gather(x, matrix, step, padding, out_height, out_width):
    """Patches of x (N, H, W, C) that begin every `step` pixels, each as matrix @ patch @ matrix.T: planes."""
    size, patch = matrix.shape
    rows, columns = -(-out_height // step), -(-out_width // step)
    count, height, width, channels = x.shape
    padded = np.zeros((count, rows * step + patch, columns * step + patch, channels), x.dtype)
    visible = x[:, : padded.shape[1] - padding, : padded.shape[2] - padding]
    padded[:, padding : padding + visible.shape[1], padding : padding + visible.shape[2]] = visible
    patches = sliding_window_view(padded, (patch, patch), axis=(1, 2))[:, ::step, ::step][:, :rows, :columns]
    planes = np.einsum("ai,nrscij,bj->abnrsc", matrix, patches, matrix)
    return planes.reshape(size * size, -1, channels).astype(x.dtype)


def scatter(planes, matrix, bias, shape):
    """The tiles matrix @ tile @ matrix.T side by side, cut to `shape` (N, H, W, C), plus bias (C,)."""
    count, height, width, channels = shape
    step, size = matrix.shape
    rows, columns = -(-height // step), -(-width // step)
    tiles = planes.reshape(size, size, count, rows, columns, channels)
    whole = np.einsum("ia,abnrsc,jb->nrisjc", matrix, tiles, matrix)
    whole = whole.reshape(count, rows * step, columns * step, channels).astype(planes.dtype)
    return whole[:, :height, :width] + bias


def flat(tiles, matrix):
    """matrix @ tile @ matrix.T for tiles (k, k, L), along their first two axes."""
    return np.einsum("ai,ijl,bj->abl", matrix, tiles, matrix).astype(tiles.dtype)
