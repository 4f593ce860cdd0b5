"""Kernels as they look before anything is done for speed: one loop for each axis, compiled, nothing allocated.

Halfway between a NumPy twin and a kernel in use.  What stands in `nn/kernels/` came from loops like these, by measuring
where their time goes; here one still sees at a glance what is computed.
"""
import math

from nn.kernels import kernel


@kernel
def im2col(x, kernel_height, kernel_width, stride, padding, out):
    """Every patch that the kernel sees: x (N, H, W, C) -> out (N, H', W', kh, kw, C), zeros outside of the image."""
    count, height, width, channels = x.shape
    for n in range(count):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                for u in range(kernel_height):
                    for v in range(kernel_width):
                        row, column = i * stride + u - padding, j * stride + v - padding
                        inside = 0 <= row < height and 0 <= column < width
                        for c in range(channels):
                            out[n, i, j, u, v, c] = x[n, row, column, c] if inside else 0


@kernel
def convolve(x, weight, stride, padding, out):
    """out[n,i,j,:] = sum over u, v of x[n, i*stride+u-padding, j*stride+v-padding, :] @ weight[u,v]; x is 0 outside.

    x (N, H, W, in), weight (kh, kw, in, out) -> out (N, H', W', out).
    """
    count, height, width, channels = x.shape
    for n in range(count):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                out[n, i, j] = 0
                for u in range(weight.shape[0]):
                    for v in range(weight.shape[1]):
                        row, column = i * stride + u - padding, j * stride + v - padding
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(channels):
                                for k in range(weight.shape[3]):  # innermost, because there memory is contiguous
                                    out[n, i, j, k] += x[n, row, column, c] * weight[u, v, c, k]


@kernel
def group_norm_silu(x, gamma, beta, groups, eps, out):
    """out = h * sigmoid(h) with h = gamma * xhat + beta, xhat being x (N, P, C) normalised over each group of channels.

    Two passes over x for mean and variance, and one that does all the rest: normalise, scale, shift and SiLU.
    """
    count, positions, channels = x.shape
    width = channels // groups
    for n in range(count):
        for g in range(groups):
            first, last = g * width, (g + 1) * width
            total = 0.0
            for p in range(positions):
                for c in range(first, last):
                    total += x[n, p, c]
            mean = total / (positions * width)
            total = 0.0
            for p in range(positions):
                for c in range(first, last):
                    total += (x[n, p, c] - mean) ** 2
            inverse_sigma = 1 / math.sqrt(total / (positions * width) + eps)
            for p in range(positions):
                for c in range(first, last):
                    h = gamma[c] * (x[n, p, c] - mean) * inverse_sigma + beta[c]
                    out[n, p, c] = h / (1 + math.exp(-h))
