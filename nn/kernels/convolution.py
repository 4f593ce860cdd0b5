"""Convolution and its two gradients on plain arrays: which algorithm, and the matrix products between its kernels.

    choose          which algorithm; a function of shapes alone, so that results never depend on timing or cores
    convolve        y = A(w) x + b, perhaps added to something
    input_gradient  A(w)^T g: with stride 1 a convolution again, with the kernel flipped
    weight_gradient dL/dw

The matrix products are np.matmul on contiguous matrices, which reaches BLAS directly and releases the GIL.
Images (N, H, W, C), weights (kh, kw, in, out).
"""
import math

import numpy as np

from nn.kernels import winograd
from nn.kernels.im2col import col2im, im2col
from nn.kernels.rows import add_row, sum_rows
from nn.kernels.scratch import scratch

NARROW = 8  # channels, at most, of an output whose patches are laid out rather than the input's
WINOGRAD = 16  # channels must be a multiple of it
SMALL_PRODUCT = 1_000_000  # multiply-adds up to which OpenBLAS multiplies without packing: 106 against 94 GFLOP/s
CHUNK_BYTES = 1 << 21  # of transformed images at a time: what a core's cache holds
# Tiles in a chunk, at least, since every chunk reads all the transformed weights: 512 to 512 channels at 7x7 take an
# eighth of the time that they take with the 3 tiles that the two rules above would leave.
CHUNK_TILES = 128


def choose(kernel, stride, padding, channels):
    """The algorithm for a convolution with this kernel (kh, kw) and these channels (in, out).

    "matmul"    1x1 kernels: the pixels are the rows of the matrix already
    "winograd"  3x3 kernels with stride 1 and many channels
    "narrow"    few output channels: each pixel times the whole kernel is a patch of the output, and these are added up
    "im2col"    everything else: each patch of the input times the kernel is a pixel of the output
    """
    if kernel == (1, 1) and stride == 1 and padding == 0:
        return "matmul"
    if kernel == (3, 3) and stride == 1 and padding <= 2 and not any(c % WINOGRAD for c in channels):
        return "winograd"
    square = kernel[0] == kernel[1] and stride == 1 and padding < kernel[0]
    return "narrow" if square and channels[1] <= NARROW and channels[1] < channels[0] else "im2col"


def convolve(x, weight, bias, stride, padding, onto=None):
    """y[n,i,j,:] = sum over u, v of x[n, i*stride+u-padding, j*stride+v-padding, :] @ weight[u,v] + bias (or None).

    onto: like y, added to it; or None
    """
    x, weight = np.ascontiguousarray(x), np.ascontiguousarray(weight)
    bias = None if bias is None else np.ascontiguousarray(bias)
    kernel, channels = weight.shape[:2], weight.shape[2:]
    out_height, out_width = output_size(x.shape, kernel, stride, padding)
    out = np.empty((x.shape[0], out_height, out_width, channels[1]), x.dtype)
    method = choose(kernel, stride, padding, channels)
    if not x.size or not weight.size:
        out[...] = 0  # nothing to sum
    elif method == "winograd":
        return _winograd(x, winograd.transform_weights(weight), bias, padding, onto, out)
    elif method == "narrow":
        _spread(x, _flipped(weight), 1, kernel[0] - 1 - padding, out)
    else:
        patches = _patches(method, x, kernel, stride, padding, out_height, out_width)
        np.matmul(patches, weight.reshape(-1, channels[1]), out=out.reshape(-1, channels[1]))
    if bias is not None:
        add_row(out.reshape(math.prod(out.shape[:3]), channels[1]), bias)
    if onto is not None:
        out += onto
    return out


def input_gradient(grad, weight, shape, stride, padding):
    """The gradient with respect to x, of this shape, given the gradient of y."""
    grad, out = np.ascontiguousarray(grad), np.empty(shape, grad.dtype)
    if not grad.size or not weight.size:
        out[...] = 0
        return out
    kernel_height, kernel_width = weight.shape[:2]
    if stride == 1 and kernel_height == kernel_width and padding < kernel_height:
        padding = kernel_height - 1 - padding
        if choose(weight.shape[:2], 1, padding, weight.shape[:1:-1]) != "winograd":
            return convolve(grad, _flipped(weight), None, 1, padding)
        weights = winograd.transform_weights(np.ascontiguousarray(weight), flipped=True)
        return _winograd(grad, weights, None, padding, None, out)
    _spread(grad, weight, stride, padding, out)
    return out


def weight_gradient(x, grad, kernel, stride, padding):
    """The gradient with respect to the weights: sum over all places of x's patch times the gradient there."""
    x, grad = np.ascontiguousarray(x), np.ascontiguousarray(grad)
    channels = (x.shape[3], grad.shape[3])
    method = choose(kernel, stride, padding, channels)
    out = np.empty((*kernel, *channels), x.dtype)
    if not x.size or not grad.size:
        out[...] = 0  # nothing to sum
    elif method == "winograd":
        _winograd_weight_gradient(x, grad, padding, out)
    elif method == "narrow":  # the same sums, seen from the output: its patches times the pixels of x
        patches = _patches(method, grad, kernel, 1, kernel[0] - 1 - padding, *x.shape[1:3])
        out[...] = _flipped((patches.T @ x.reshape(-1, channels[0])).reshape(*kernel, *channels[::-1]))
    else:
        patches = _patches(method, x, kernel, stride, padding, *grad.shape[1:3])
        np.matmul(patches.T, grad.reshape(-1, channels[1]), out=out.reshape(-1, channels[1]))
    return out


def bias_gradient(grad):
    """The sum over all pixels."""
    return sum_rows(grad.reshape(math.prod(grad.shape[:3]), grad.shape[3]))


def output_size(shape, kernel, stride, padding):
    """The height and width of a convolution of an image (N, H, W, C)."""
    return tuple((size + 2 * padding - k) // stride + 1 for size, k in zip(shape[1:3], kernel, strict=True))


def _padded(shape, padding, dtype):
    """Scratch for one image of this shape (N, H, W, C) with zeros around it."""
    return scratch("padded", (shape[1] + 2 * padding, shape[2] + 2 * padding, shape[3]), dtype)


def _flipped(weight):
    """The kernel of the adjoint, (kh, kw, out, in)."""
    return weight[::-1, ::-1].transpose(0, 1, 3, 2)


def _spread(grad, weight, stride, padding, out):
    """out = A(w)^T grad by its definition: every pixel of grad times the kernel is a patch of `out` to add in place."""
    matrix = weight.reshape(-1, weight.shape[3]).T
    pixels = grad.reshape(-1, grad.shape[3])
    columns = scratch("columns", (len(pixels), matrix.shape[1]), grad.dtype)
    np.matmul(pixels, matrix, out=columns)
    padded = _padded(out.shape, padding, grad.dtype)
    col2im(columns.ravel(), *weight.shape[:2], stride, padding, *grad.shape[1:3], padded.ravel(), out)


def _patches(method, x, kernel, stride, padding, out_height, out_width):
    """The patch behind each output, as the rows of a matrix; of 1x1 kernels that is x itself."""
    if method == "matmul":
        return x.reshape(-1, x.shape[3])
    columns = scratch("columns", (x.shape[0] * out_height * out_width, kernel[0] * kernel[1] * x.shape[3]), x.dtype)
    im2col(x, *kernel, stride, padding, out_height, out_width, _padded(x.shape, padding, x.dtype), columns)
    return columns


def _winograd(x, weights, bias, padding, onto, out):
    """out = `onto` + Winograd convolution of x with transformed weights (n^2, in, out), a few images at a time."""
    onto = None if onto is None else np.ascontiguousarray(onto)
    channels, out_channels = weights.shape[1:]
    bias = np.zeros(out_channels, x.dtype) if bias is None else bias
    for part in _chunks(len(x), out.shape[1:3], channels, out_channels, x.itemsize):
        images = winograd.image_planes(x[part], padding, out.shape[1:3])
        flat, products = winograd.planes(images.shape[1], out_channels, x.dtype, "product planes")
        np.matmul(images, weights, out=products)
        winograd.scatter(flat, bias, None if onto is None else onto[part], out[part])
    return out


def _winograd_weight_gradient(x, grad, padding, out):
    """The products of the planes of x and of grad, summed over tiles, brought back to 3x3."""
    channels, out_channels = out.shape[2:]
    size = grad.shape[1:3]
    total, total_planes = winograd.planes(channels, out_channels, x.dtype, "weight planes")
    _, term_planes = winograd.planes(channels, out_channels, x.dtype, "weight planes of a chunk")
    for part in _chunks(len(x), size, channels, out_channels, x.itemsize):
        images, gradients = winograd.image_planes(x[part], padding, size), winograd.gradient_planes(grad[part])
        np.matmul(images.transpose(0, 2, 1), gradients, out=term_planes if part.start else total_planes)
        if part.start:
            total_planes += term_planes
    winograd.weights_adjoint(total, out.reshape(9, -1), total_planes[0].size)


def _chunks(images, size, channels, out_channels, itemsize):
    """The slice of images in each chunk: as even as can be, and no larger than the rules above allow."""
    tiles = winograd.tile_count(*size)
    bytes_per_tile = winograd.SIZE**2 * (channels + out_channels) * itemsize
    most = max(CHUNK_TILES, min(SMALL_PRODUCT // (channels * out_channels), CHUNK_BYTES // bytes_per_tile))
    per_chunk = -(-images // max(1, -(-images * tiles // most)))
    per_chunk = max(1, min(per_chunk, most // tiles))
    return [slice(start, min(images, start + per_chunk)) for start in range(0, images, per_chunk)]
