"""Convolution and its two gradients on plain arrays: which algorithm, and the matrix products between its kernels.

    choose          which algorithm; a function of shapes alone, so that results never depend on timing or cores
    convolve        y = A(w) x + b
    input_gradient  A(w)^T g: with stride 1 a convolution again, with the kernel flipped
    weight_gradient dL/dw

The matrix products are np.matmul on contiguous matrices, which reaches BLAS directly and releases the GIL.
Images (N, H, W, C), weights (kh, kw, in, out).
"""
import math

import numpy as np

from nn.kernels import direct
from nn.kernels.im2col import col2im, im2col
from nn.kernels.scratch import scratch
from nn.kernels.winograd import F2, F4

DIRECT = 8  # channels, at most, on one side for the kernels of direct.py
WINOGRAD = 16  # channels must be a multiple of it
SMALL_PRODUCT = 1_000_000  # multiply-adds up to which OpenBLAS multiplies without packing: 106 against 94 GFLOP/s
CHUNK_BYTES = 1 << 21  # of transformed images at a time: what a core's cache holds
# Tiles in a chunk, at least, since every chunk reads all the transformed weights: 512 to 512 channels at 7x7 take an
# eighth of the time that they take with the 3 tiles that the two rules above would leave, 128 to 128 channels four
# fifths of the time that they take with 56.
CHUNK_TILES = 128


def choose(kernel, stride, padding, channels, out_height, out_width):
    """The algorithm for a convolution with this kernel (kh, kw), channels (in, out) and output size.

    "matmul"    1x1 kernels: the pixels are the rows of the matrix already
    Winograd    3x3 kernels with stride 1 and many channels; F4 or F2, whichever multiplies less, counting what its
                last tiles compute beyond the border
    "narrow", "wide"    few output channels, few input channels (direct.py)
    "im2col"    everything else
    """
    if kernel == (1, 1) and stride == 1 and padding == 0:
        return "matmul"
    if kernel == (3, 3) and stride == 1 and padding <= 2 and not any(c % WINOGRAD for c in channels):
        return min((F2, F4), key=lambda method: method.size**2 * method.tiles(out_height, out_width))
    if channels[1] <= DIRECT and channels[1] < channels[0]:
        return "narrow"
    return "wide" if channels[0] <= DIRECT else "im2col"


def convolve(x, weight, bias, stride, padding):
    """y[n,i,j,:] = sum over u, v of x[n, i*stride+u-padding, j*stride+v-padding, :] @ weight[u,v] + bias (or None)."""
    x, weight = np.ascontiguousarray(x), np.ascontiguousarray(weight)
    bias = None if bias is None else np.ascontiguousarray(bias)
    kernel, channels = weight.shape[:2], weight.shape[2:]
    out_height, out_width = output_size(x.shape, kernel, stride, padding)
    out = np.empty((x.shape[0], out_height, out_width, channels[1]), x.dtype)
    if not x.size or not weight.size:
        out[...] = 0 if bias is None else bias  # nothing to sum
        return out
    method = choose(kernel, stride, padding, channels, out_height, out_width)
    if method in (F2, F4):
        _winograd(method, x, method.transform_weights(weight), bias, padding, out)
        return out
    if method in ("narrow", "wide"):
        if method == "narrow":
            weight = weight.reshape(kernel[0], -1, channels[1]).transpose(2, 0, 1).copy()  # (out, kh, kw*in)
        bias = np.zeros(channels[1], x.dtype) if bias is None else bias
        run = direct.narrow if method == "narrow" else direct.wide
        run(x, weight, bias, stride, padding, _padded_for_fours(x, kernel, stride, padding, out_width), out)
        return out
    patches = x if method == "matmul" else _patches(x, kernel, stride, padding, out_height, out_width)
    np.matmul(patches.reshape(-1, patches.shape[-1]), weight.reshape(-1, channels[1]), out=out.reshape(-1, channels[1]))
    if bias is not None:
        out += bias
    return out


def input_gradient(grad, weight, shape, stride, padding):
    """The gradient with respect to x, of this shape, given the gradient of y."""
    grad = np.ascontiguousarray(grad)
    if not grad.size or not weight.size:
        return np.zeros(shape, grad.dtype)
    kernel_height, kernel_width = weight.shape[:2]
    if stride == 1 and kernel_height == kernel_width and padding < kernel_height:
        padding = kernel_height - 1 - padding
        method = choose(weight.shape[:2], 1, padding, weight.shape[:1:-1], *shape[1:3])
        if method not in (F2, F4):
            return convolve(grad, weight[::-1, ::-1].transpose(0, 1, 3, 2), None, 1, padding)
        out = np.empty(shape, grad.dtype)
        weights = method.transform_weights(np.ascontiguousarray(weight), flipped=True)
        _winograd(method, grad, weights, None, padding, out)
        return out
    matrix = weight.reshape(-1, weight.shape[3]).T
    pixels = grad.reshape(-1, grad.shape[3])
    columns = scratch("columns", (len(pixels), matrix.shape[1]), grad.dtype)
    np.matmul(pixels, matrix, out=columns)
    out = np.empty(shape, grad.dtype)
    padded = _padded(shape, padding, grad.dtype)
    col2im(columns, kernel_height, kernel_width, stride, padding, *grad.shape[1:3], padded, out)
    return out


def weight_gradient(x, grad, kernel, stride, padding):
    """The gradient with respect to the weights: sum over all places of x's patch times the gradient there."""
    x, grad = np.ascontiguousarray(x), np.ascontiguousarray(grad)
    channels = (x.shape[3], grad.shape[3])
    method = choose(kernel, stride, padding, channels, *grad.shape[1:3])
    out = np.empty((*kernel, *channels), x.dtype)
    if not x.size or not grad.size:
        out[...] = 0  # nothing to sum
        return out
    if method in (F2, F4):
        _winograd_weight_gradient(method, x, grad, padding, out)
        return out
    if method in ("narrow", "wide"):
        padded = _padded_for_fours(x, kernel, stride, padding, grad.shape[2])
        if method == "wide":
            direct.wide_weight_gradient(x, grad, stride, padding, padded, out)
            return out
        rows = np.empty((channels[1], kernel[0], kernel[1] * channels[0]), x.dtype)
        direct.narrow_weight_gradient(x, grad, stride, padding, padded, rows)
        return rows.transpose(1, 2, 0).reshape(out.shape)
    patches = x if method == "matmul" else _patches(x, kernel, stride, padding, *grad.shape[1:3])
    patches, pixels = patches.reshape(-1, patches.shape[-1]), grad.reshape(-1, channels[1])
    np.matmul(patches.T, pixels, out=out.reshape(-1, channels[1]))
    return out


def bias_gradient(grad):
    """The sum over all pixels, as a matrix product: 14 us for 6272 x 32, where np.sum takes 107."""
    pixels = grad.reshape(math.prod(grad.shape[:3]), grad.shape[3])
    return np.ones(len(pixels), grad.dtype) @ pixels


def output_size(shape, kernel, stride, padding):
    """The height and width of a convolution of an image (N, H, W, C)."""
    return tuple((size + 2 * padding - k) // stride + 1 for size, k in zip(shape[1:3], kernel, strict=True))


def _padded(shape, padding, dtype, least_width=0):
    """Scratch for one image of this shape (N, H, W, C) with zeros around it."""
    height, width = shape[1] + 2 * padding, shape[2] + 2 * padding
    return scratch("padded", (height, max(width, least_width), shape[3]), dtype)


def _padded_for_fours(x, kernel, stride, padding, out_width):
    """The same for the direct kernels, which work on four outputs at a time and so look beyond the last one."""
    return _padded(x.shape, padding, x.dtype, least_width=(-(-out_width // 4) * 4 - 1) * stride + kernel[1])


def _patches(x, kernel, stride, padding, out_height, out_width):
    columns = scratch("columns", (x.shape[0] * out_height * out_width, kernel[0] * kernel[1] * x.shape[3]), x.dtype)
    padded = _padded(x.shape, padding, x.dtype)
    im2col(x, *kernel, stride, padding, out_height, out_width, padded, columns)
    return columns


def _winograd(method, x, weights, bias, padding, out):
    """out = Winograd convolution of x with transformed weights (n^2, in, out), a few images at a time."""
    channels, out_channels = weights.shape[1:]
    bias = np.zeros(out_channels, x.dtype) if bias is None else bias
    for part, rows in _chunks(method, len(x), out.shape[1:3], channels, out_channels, x.itemsize):
        inputs, input_planes = method.planes(rows, channels, x.dtype, "image planes")
        outputs, output_planes = method.planes(rows, out_channels, x.dtype, "product planes")
        padded = method.padded(*out.shape[1:3], channels, method.r - 1, x.dtype)
        method.input(x[part], padding, padded, inputs)
        np.matmul(input_planes, weights, out=output_planes)
        method.output(outputs, bias, out[part])


def _winograd_weight_gradient(method, x, grad, padding, out):
    """The products of the planes of x and of grad, summed over tiles, brought back to 3x3."""
    channels, out_channels = out.shape[2:]
    height, width = grad.shape[1:3]
    total, total_planes = method.planes(channels, out_channels, x.dtype, "weight planes")
    term, term_planes = method.planes(channels, out_channels, x.dtype, "weight planes of a chunk")
    for part, rows in _chunks(method, len(x), (height, width), channels, out_channels, x.itemsize):
        inputs, input_planes = method.planes(rows, channels, x.dtype, "image planes")
        outputs, output_planes = method.planes(rows, out_channels, x.dtype, "product planes")
        method.input(x[part], padding, method.padded(height, width, channels, method.r - 1, x.dtype), inputs)
        method.output_adjoint(grad[part], 0, method.padded(height, width, out_channels, 0, x.dtype), outputs)
        np.matmul(input_planes.transpose(0, 2, 1), output_planes, out=term_planes if part.start else total_planes)
        if part.start:
            total_planes += term_planes
    method.weights_adjoint(total, out.reshape(method.r**2, -1), total_planes[0].size)


def _chunks(method, images, size, channels, out_channels, itemsize):
    """(slice of images, tiles in it) for every chunk: as even as can be, and no larger than the rules above allow."""
    tiles = method.tiles(*size)
    bytes_per_tile = method.size**2 * (channels + out_channels) * itemsize
    most = max(CHUNK_TILES, min(SMALL_PRODUCT // (channels * out_channels), CHUNK_BYTES // bytes_per_tile))
    per_chunk = -(-images // max(1, -(-images * tiles // most)))
    per_chunk = max(1, min(per_chunk, most // tiles))
    for start in range(0, images, per_chunk):
        stop = min(images, start + per_chunk)
        yield slice(start, stop), (stop - start) * tiles
