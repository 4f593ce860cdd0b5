"""Convolution by its definition: cut out every patch, lay it in a row of a matrix, multiply (Chellapilla et al. 2006).

Layout: images (N, H, W, C), weights (kh, kw, in, out).  As everywhere in deep learning, "convolution" means
correlation: the kernel is not flipped.
"""
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


def convolve(x, weight, stride, padding):
    """y[n,i,j,:] = sum over u, v of x[n, i*stride+u-padding, j*stride+v-padding, :] @ weight[u,v]."""
    return np.tensordot(im2col(x, weight.shape[:2], stride, padding), weight, axes=3)


def input_gradient(grad, weight, shape, stride, padding):
    """The gradient with respect to x (of this shape): each output's gradient, spread over the patch it came from."""
    columns = np.tensordot(grad, weight, axes=((3,), (3,)))  # (N, H', W', kh, kw, in)
    return col2im(columns, shape, stride, padding)


def weight_gradient(x, grad, kernel, stride, padding):
    """The gradient with respect to the weights: patches times output gradients, summed over all places."""
    return np.tensordot(im2col(x, kernel, stride, padding), grad, axes=((0, 1, 2), (0, 1, 2)))
