"""Every patch that a convolution's kernel sees, and the adjoint of cutting them out."""
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def im2col(x, kernel, stride, padding):
    """Every patch that the kernel sees: x (N, H, W, C) -> (N, H', W', kh, kw, C)."""
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = sliding_window_view(padded, kernel, axis=(1, 2))[:, ::stride, ::stride]  # (N, H', W', C, kh, kw)
    return windows.transpose(0, 1, 2, 4, 5, 3)


def col2im(columns, shape, stride, padding):
    """The adjoint of im2col: add every patch of columns (N, H', W', kh, kw, C) back into its place in `shape`."""
    _, out_height, out_width, kernel_height, kernel_width, _ = columns.shape
    count, height, width, channels = shape
    padded = np.zeros((count, height + 2 * padding, width + 2 * padding, channels), columns.dtype)
    for i in range(kernel_height):
        for j in range(kernel_width):
            rows = slice(i, i + stride * out_height, stride)
            cols = slice(j, j + stride * out_width, stride)
            padded[:, rows, cols] += columns[:, :, :, i, j]
    return padded[:, padding : padding + height, padding : padding + width]
