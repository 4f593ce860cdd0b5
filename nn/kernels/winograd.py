"""Convolution with a 3x3 kernel and stride 1 through Winograd's transforms (see winograd_matrices.py for the algebra).

The image is cut into m x m tiles of the output.  `gather` takes the n x n patch behind each tile (n = m + 2),
transforms it, and writes value k of tile t to planes[k, t, :]; the multiplication that a direct convolution does
9 times per output is then n^2 matrix products planes[k] @ weights[k], n^2/m^2 times per output (2.25 for m = 4);
`scatter` transforms the products back into m x m tiles.  Weights are transformed by `weights`.  The gradient
with respect to the weights is the same algebra with the transposed matrices: planes of the image times planes of the
output's gradient, brought back by `weights_adjoint`.

What makes the transforms fast: an image is first copied into a zero-padded buffer, so that no tile has a border to
test for (nn/kernels/padding.py), and a tile is loaded, transformed and stored as whole vectors
of channels in registers (nn/kernels/tiles.py).  Channels must be a multiple of 16.
"""
import numpy as np

from nn.kernels import kernel
from nn.kernels.memo import Memo
from nn.kernels.padding import copy_into
from nn.kernels.scratch import scratch
from nn.kernels.simd import lanes, load
from nn.kernels.tiles import add_to_all, load_tile, store_tile, transform
from nn.kernels.winograd_matrices import MATRICES


def make_gather(name, step):
    """A kernel that transforms all patches of images by the matrix called `name`; patches begin `step` pixels apart."""
    size, patch = MATRICES[name].shape

    @kernel
    def gather(x, padding, padded, planes):
        """x (N, H, W, C); padded (tiles*step + patch - step both ways, C), scratch; planes (size^2, >= N*tiles*C)."""
        count, _, _, channels = x.shape
        tile_rows, tile_columns = (padded.shape[0] - patch) // step + 1, (padded.shape[1] - patch) // step + 1
        row_stride = padded.shape[1] * channels
        plane_stride = planes.shape[1]
        padded[:] = 0
        t = 0
        for image in range(count):
            copy_into(x, image, padding, padded)
            for i in range(tile_rows):
                for j in range(tile_columns):
                    corner = i * step * row_stride + j * step * channels
                    for c in range(0, channels, lanes(x)):
                        tile = transform(name, load_tile(padded, corner + c, row_stride, channels, patch))
                        store_tile(planes, t + c, size * plane_stride, plane_stride, size, size, tile)
                    t += channels

    return gather


def make_scatter(name):
    """A kernel that brings planes back by the matrix called `name` and lays the tiles side by side."""
    step, size = MATRICES[name].shape

    @kernel
    def scatter(planes, bias, out):
        """planes (size^2, >= N*tiles*C), bias (C,) -> out (N, H, W, C), of which the last tiles may see a part only."""
        count, height, width, channels = out.shape
        plane_stride = planes.shape[1]
        t = 0
        for image in range(count):
            for i in range(0, height, step):
                for j in range(0, width, step):
                    corner = ((image * height + i) * width + j) * channels
                    for c in range(0, channels, lanes(out)):
                        tile = transform(name, load_tile(planes, t + c, size * plane_stride, plane_stride, size))
                        tile = add_to_all(tile, load(bias, c))
                        store_tile(out, corner + c, width * channels, channels, height - i, width - j, tile)
                    t += channels

    return scatter


def make_flat(name):
    """A kernel that transforms one tile of long rows by a matrix (l, k), L numbers of each.  For weights."""
    rows, columns = MATRICES[name].shape

    @kernel
    def flat(tiles, out, length):
        """tiles (k^2, >= L) -> out (l^2, >= L); length: L."""
        stride, out_stride = tiles.shape[1], out.shape[1]
        for c in range(0, length, lanes(tiles)):
            tile = transform(name, load_tile(tiles, c, columns * stride, stride, columns))
            store_tile(out, c, rows * out_stride, out_stride, rows, rows, tile)

    return flat


class Winograd:
    """F(m x m, r x r): its kernels, and the shapes of the arrays that they work on."""

    def __init__(self, m, r):
        self.m, self.r, self.size = m, r, m + r - 1
        self.input = make_gather(f"F({m},{r}) input", m)
        self.output = make_scatter(f"F({m},{r}) output")
        self.output_adjoint = make_gather(f"F({m},{r}) output adjoint", m)
        self.weights = make_flat(f"F({m},{r}) weights")
        self.weights_adjoint = make_flat(f"F({m},{r}) weights adjoint")

    def tiles(self, height, width):
        """How many tiles cover an output of this size."""
        return -(-height // self.m) * -(-width // self.m)

    def padded(self, height, width, channels, margin, dtype):
        """Scratch that a kernel copies an image into, for an output of this size.

        `margin` is what a patch is larger than a tile: r - 1 for `input`, 0 for `output_adjoint`.
        """
        rows, columns = -(-height // self.m) * self.m, -(-width // self.m) * self.m
        return scratch("padded", (rows + margin, columns + margin, channels), dtype)

    def planes(self, rows, channels, dtype, role=None):
        """Memory for planes: as the kernels see it (n^2, stride), and as n^2 matrices (n^2, rows, channels).

        The stride is an odd number of cache lines: a power of two would map all planes of a tile to one set of the
        cache (14x14x64, 8 images: 145 us to transform, against 64; weights of 128 to 128 channels: 240 against 61).
        role: of the scratch that it is; None: not scratch, but memory to keep.
        """
        line = 64 // dtype.itemsize
        shape = (self.size**2, (-(-rows * channels // line) | 1) * line)
        flat = scratch(role, shape, dtype) if role else np.empty(shape, dtype)
        return flat, flat[:, : rows * channels].reshape(-1, rows, channels)

    def transform_weights(self, weight, flipped=False):
        """(r, r, in, out) -> (n^2, in, out), not contiguous (see `planes`).

        flipped: of the kernel that the input's gradient is convolved with
        """
        return _transformed.get(weight, (self.m, flipped), lambda w: self._transform(w, flipped))

    def _transform(self, weight, flipped=False):
        if flipped:
            weight = np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2))
        flat, planes = self.planes(*weight.shape[2:], weight.dtype)
        self.weights(weight.reshape(self.r**2, -1), flat, planes[0].size)
        return planes


_transformed = Memo(limit=128 << 20)
F4 = Winograd(4, 3)
F2 = Winograd(2, 3)
