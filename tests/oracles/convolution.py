"""Convolution, one output number at a time.  Images (N, H, W, C), weights (kh, kw, in, out)."""
import numpy as np


def conv2d(x, w, b=None, stride=1, padding=0):
    """y[n,i,j,o] = b[o] + sum over u, v, c of x[n, stride i + u - padding, stride j + v - padding, c] w[u,v,c,o]."""
    n, height, width, _ = x.shape
    kh, kw, _, out = w.shape
    rows = (height + 2 * padding - kh) // stride + 1
    columns = (width + 2 * padding - kw) // stride + 1
    y = np.zeros((n, rows, columns, out), x.dtype)
    for i in range(rows):
        for j in range(columns):
            for u in range(kh):
                for v in range(kw):
                    r, c = stride * i + u - padding, stride * j + v - padding
                    if 0 <= r < height and 0 <= c < width:
                        y[:, i, j] += x[:, r, c] @ w[u, v]
    return y if b is None else y + b


def conv_transpose2d(x, w, b=None, stride=1, padding=0, output_padding=0):
    """Each input pixel (i, j) paints x[n,i,j] w[u,v] at (stride i + u - padding, stride j + v - padding)."""
    n, height, width, _ = x.shape
    kh, kw, _, out = w.shape
    rows = (height - 1) * stride - 2 * padding + kh + output_padding
    columns = (width - 1) * stride - 2 * padding + kw + output_padding
    y = np.zeros((n, rows, columns, out), x.dtype)
    for i in range(height):
        for j in range(width):
            for u in range(kh):
                for v in range(kw):
                    r, c = stride * i + u - padding, stride * j + v - padding
                    if 0 <= r < rows and 0 <= c < columns:
                        y[:, r, c] += x[:, i, j] @ w[u, v]
    return y if b is None else y + b
