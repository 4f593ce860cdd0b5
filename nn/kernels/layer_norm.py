"""Layer normalisation of rows, forward and backward, with a scale and shift for each group of rows.

x (N, T, C) has N groups of T rows.  For each row, with the gamma and beta (C,) of its group,

    xhat = (x - mean) / sigma,   y = gamma xhat + beta,   g = gamma dy,
    dx = (g - mean(g) - xhat mean(g xhat)) / sigma,   dgamma, dbeta = the sums of dy xhat and dy over the rows.

A row stays in the nearest cache, so that reading it three times, for its mean, its variance and the result, costs
little more than once.  Each row is what `group_norm` makes of an image of one position with one group.
"""
import math

from nn.kernels import kernel
from nn.kernels.simd import lanes, load_some, splat, store_some, total


@kernel
def layer_norm(x, gamma, beta, eps, moments, out):
    """x (N, T, C), gamma and beta (N, C) -> out like x; moments (N, T, 2): mean and 1 / sigma, for the way back."""
    count, rows, channels = x.shape
    whole = channels - channels % lanes(x)
    for group in range(count):
        scales, shifts = gamma[group], beta[group]
        for row in range(rows):
            start = (group * rows + row) * channels
            sums = splat(x, 0.0)
            for c in range(0, channels, lanes(x)):
                sums += load_some(x, start + c, channels - c)
            mean = total(sums) / channels
            squares = splat(x, 0.0)
            for c in range(0, whole, lanes(x)):
                d = load_some(x, start + c, lanes(x)) - mean
                squares += d * d
            variance = total(squares)
            for c in range(whole, channels):
                variance += (x[group, row, c] - mean) ** 2
            moments[group, row, 0], moments[group, row, 1] = mean, 1 / math.sqrt(variance / channels + eps)
            mean, inverse = moments[group, row, 0], moments[group, row, 1]  # in x's dtype
            for c in range(0, channels, lanes(x)):
                left = channels - c
                xhat = (load_some(x, start + c, left) - mean) * inverse
                store_some(out, start + c, load_some(scales, c, left) * xhat + load_some(shifts, c, left), left)


@kernel
def layer_norm_backward(x, gamma, moments, grad, dx, dgamma, dbeta):
    """The gradients dx like x, dgamma and dbeta (N, C), given `grad` of the output and what `layer_norm` has left."""
    count, rows, channels = x.shape
    dgamma[:] = 0
    dbeta[:] = 0
    for group in range(count):
        scales, dscales, dshifts = gamma[group], dgamma[group], dbeta[group]
        for row in range(rows):
            start = (group * rows + row) * channels
            mean, inverse = moments[group, row, 0], moments[group, row, 1]
            g_sums = gx_sums = splat(x, 0.0)
            for c in range(0, channels, lanes(x)):
                left = channels - c
                dy = load_some(grad, start + c, left)  # zero beyond the row's end, so the sums are right
                xhat = (load_some(x, start + c, left) - mean) * inverse
                g = dy * load_some(scales, c, left)
                g_sums += g
                gx_sums += g * xhat
                store_some(dscales, c, load_some(dscales, c, left) + dy * xhat, left)
                store_some(dshifts, c, load_some(dshifts, c, left) + dy, left)
            mean_g, mean_gx = total(g_sums) / channels, total(gx_sums) / channels
            for c in range(0, channels, lanes(x)):
                left = channels - c
                xhat = (load_some(x, start + c, left) - mean) * inverse
                g = load_some(grad, start + c, left) * load_some(scales, c, left)
                store_some(dx, start + c, (g - mean_g - xhat * mean_gx) * inverse, left)
