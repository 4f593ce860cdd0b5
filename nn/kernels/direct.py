"""Convolution with few channels on one side, straight from the definition: the first and last layers of a network.

A matrix product with a side of 1 to 8 leaves most of a vector unit idle, and laying out patches for it costs more
than the product.  With few input channels ("wide") a vector runs along the output channels; with few output channels
("narrow") along a row of the patch, kw * C numbers that lie side by side in the image, and its lanes are added up at
the end.  Four pixels, or four weights, are worked on at a time: what they share is loaded once, and no addition waits
for the one before.
"""
from nn.kernels import kernel
from nn.kernels.padding import copy_into
from nn.kernels.simd import lanes, load_some, splat, store_some, total


@kernel
def wide(x, weight, bias, stride, padding, padded, out):
    """x (N, H, W, few), weight (kh, kw, few, K), bias (K,), padded scratch -> out (N, H', W', K)."""
    count, out_height, out_width, channels = out.shape
    kernel_height, run = weight.shape[0], weight.shape[1] * weight.shape[2]
    row, step = padded.shape[1] * padded.shape[2], stride * padded.shape[2]
    pixels = padded.reshape(-1)
    padded[:] = 0
    for image in range(count):
        copy_into(x, image, padding, padded)
        for i in range(out_height):
            for j in range(0, out_width, 4):
                start = i * stride * row + j * step
                target = ((image * out_height + i) * out_width + j) * channels
                for c in range(0, channels, lanes(x)):
                    left = channels - c
                    y0 = y1 = y2 = y3 = load_some(bias, c, left)
                    for u in range(kernel_height):
                        for k in range(run):
                            w = load_some(weight, (u * run + k) * channels + c, left)
                            p = start + u * row + k
                            y0 += pixels[p] * w
                            y1 += pixels[p + step] * w
                            y2 += pixels[p + 2 * step] * w
                            y3 += pixels[p + 3 * step] * w
                    store_some(out, target + c, y0, left)
                    store_some(out, target + channels + c, y1, left if j + 1 < out_width else 0)
                    store_some(out, target + 2 * channels + c, y2, left if j + 2 < out_width else 0)
                    store_some(out, target + 3 * channels + c, y3, left if j + 3 < out_width else 0)


@kernel
def narrow(x, weight, bias, stride, padding, padded, out):
    """x (N, H, W, C), weight (few, kh, kw*C), bias (few,), padded scratch -> out (N, H', W', few)."""
    count, out_height, out_width, channels = out.shape
    _, kernel_height, run = weight.shape
    row, step = padded.shape[1] * padded.shape[2], stride * padded.shape[2]
    padded[:] = 0
    for image in range(count):
        copy_into(x, image, padding, padded)
        for i in range(out_height):
            for j in range(0, out_width, 4):
                start = i * stride * row + j * step
                for c in range(channels):
                    y0 = y1 = y2 = y3 = splat(x, 0.0)
                    for u in range(kernel_height):
                        for k in range(0, run, lanes(x)):
                            w = load_some(weight, (c * kernel_height + u) * run + k, run - k)
                            p = start + u * row + k
                            y0 += load_some(padded, p, run - k) * w
                            y1 += load_some(padded, p + step, run - k) * w
                            y2 += load_some(padded, p + 2 * step, run - k) * w
                            y3 += load_some(padded, p + 3 * step, run - k) * w
                    out[image, i, j, c] = bias[c] + total(y0)
                    if j + 1 < out_width:
                        out[image, i, j + 1, c] = bias[c] + total(y1)
                    if j + 2 < out_width:
                        out[image, i, j + 2, c] = bias[c] + total(y2)
                    if j + 3 < out_width:
                        out[image, i, j + 3, c] = bias[c] + total(y3)


@kernel
def wide_weight_gradient(x, grad, stride, padding, padded, out):
    """x (N, H, W, few), grad (N, H', W', K), padded scratch -> out (kh, kw, few, K)."""
    count, out_height, out_width, channels = grad.shape
    run = out.shape[1] * out.shape[2]
    row, step = padded.shape[1] * padded.shape[2], stride * padded.shape[2]
    taps = out.shape[0] * run
    pixels, flat = padded.reshape(-1), out.reshape(taps, channels)
    padded[:] = 0
    out[:] = 0
    for image in range(count):
        copy_into(x, image, padding, padded)
        for c in range(0, channels, lanes(x)):
            left = channels - c
            for first in range(0, taps, 4):
                t1, t2, t3 = min(first + 1, taps - 1), min(first + 2, taps - 1), min(first + 3, taps - 1)
                offset0, offset1 = first // run * row + first % run, t1 // run * row + t1 % run
                offset2, offset3 = t2 // run * row + t2 % run, t3 // run * row + t3 % run
                s0 = s1 = s2 = s3 = splat(x, 0.0)
                for i in range(out_height):
                    source = (image * out_height + i) * out_width * channels + c
                    for j in range(out_width):
                        g = load_some(grad, source + j * channels, left)
                        p = i * stride * row + j * step
                        s0 += pixels[p + offset0] * g
                        s1 += pixels[p + offset1] * g
                        s2 += pixels[p + offset2] * g
                        s3 += pixels[p + offset3] * g
                _add(flat, first, c, s0, left)
                _add(flat, first + 1, c, s1, left if first + 1 < taps else 0)
                _add(flat, first + 2, c, s2, left if first + 2 < taps else 0)
                _add(flat, first + 3, c, s3, left if first + 3 < taps else 0)


@kernel
def narrow_weight_gradient(x, grad, stride, padding, padded, out):
    """x (N, H, W, C), grad (N, H', W', few), padded scratch -> out (few, kh, kw*C)."""
    count, out_height, out_width, channels = grad.shape
    _, kernel_height, run = out.shape
    row, step = padded.shape[1] * padded.shape[2], stride * padded.shape[2]
    flat = out.reshape(channels * kernel_height, run)
    padded[:] = 0
    out[:] = 0
    width = lanes(x)
    for image in range(count):
        copy_into(x, image, padding, padded)
        for c in range(channels):
            for u in range(kernel_height):
                for k in range(0, run, 4 * width):
                    left = run - k
                    s0 = s1 = s2 = s3 = splat(x, 0.0)
                    for i in range(out_height):
                        start = (i * stride + u) * row + k
                        for j in range(out_width):
                            g = grad[image, i, j, c]
                            p = start + j * step
                            s0 += load_some(padded, p, left) * g
                            s1 += load_some(padded, p + width, left - width) * g
                            s2 += load_some(padded, p + 2 * width, left - 2 * width) * g
                            s3 += load_some(padded, p + 3 * width, left - 3 * width) * g
                    _add(flat, c * kernel_height + u, k, s0, left)
                    _add(flat, c * kernel_height + u, k + width, s1, left - width)
                    _add(flat, c * kernel_height + u, k + 2 * width, s2, left - 2 * width)
                    _add(flat, c * kernel_height + u, k + 3 * width, s3, left - 3 * width)


@kernel
def _add(rows, row, column, vector, count):
    """rows[row, column : column + count] += vector."""
    index = row * rows.shape[1] + column
    store_some(rows, index, load_some(rows, index, count) + vector, count)
