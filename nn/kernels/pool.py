"""Squares of a grid: their sums and maxima, and the spreading of a number over a square.

The sum over squares is the adjoint of the spreading, so the two serve average pooling and nearest upsampling, forward
and backward.  All work on whole vectors of channels, and read and write each number once.
"""
from nn.kernels import kernel
from nn.kernels.simd import lanes, load_some, splat, store_some


@kernel
def sum_squares(x, scale, out):
    """out[n,i,j] = scale * the sum of a square of x (N, H*size, W*size, C); out (N, H, W, C)."""
    count, height, width, channels = out.shape
    size, row = x.shape[1] // height, x.shape[2] * channels
    for place in range(count * height * width):
        i, j = place // width, place % width  # i counts through the rows of all images
        corner = i * size * row + j * size * channels
        for c in range(0, channels, lanes(x)):
            total = splat(x, 0.0)
            for u in range(size):
                for v in range(size):
                    total += load_some(x, corner + u * row + v * channels + c, channels - c)
            store_some(out, place * channels + c, total * scale, channels - c)


@kernel
def spread(x, scale, out):
    """Every place of the square of out (N, H*size, W*size, C) is scale * x[n,i,j]; x (N, H, W, C)."""
    count, height, width, channels = x.shape
    size, row = out.shape[1] // height, out.shape[2] * channels
    for place in range(count * height * width):
        i, j = place // width, place % width
        corner = i * size * row + j * size * channels
        for c in range(0, channels, lanes(x)):
            value = load_some(x, place * channels + c, channels - c) * scale
            for u in range(size):
                for v in range(size):
                    store_some(out, corner + u * row + v * channels + c, value, channels - c)


@kernel
def largest(x, winners, out):
    """out[n,i,j,c] = the largest number of a square of x (NaN is larger than all); winners: its first place."""
    count, height, width, channels = out.shape
    size = x.shape[1] // height
    for n in range(count):
        for i in range(height):
            for j in range(width):
                for c in range(channels):
                    out[n, i, j, c] = x[n, i * size, j * size, c]
                    winners[n, i, j, c] = 0
                for k in range(1, size * size):
                    row, column = i * size + k // size, j * size + k % size
                    for c in range(channels):
                        new, old = x[n, row, column, c], out[n, i, j, c]
                        wins = (new > old) | ((new != new) & (old == old))
                        out[n, i, j, c] = new if wins else old
                        winners[n, i, j, c] = k if wins else winners[n, i, j, c]


@kernel
def to_winners(grad, winners, out):
    """Each number of grad goes to the place in its square of `out` that won; all other places get 0."""
    count, height, width, channels = grad.shape
    size = out.shape[1] // height
    for n in range(count):
        for i in range(height):
            for j in range(width):
                for k in range(size * size):
                    row, column = i * size + k // size, j * size + k % size
                    for c in range(channels):
                        out[n, row, column, c] = grad[n, i, j, c] if winners[n, i, j, c] == k else 0
