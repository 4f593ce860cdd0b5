"""Convolution with a 3x3 kernel and stride 1 by Winograd's F(4x4, 3x3); winograd_matrices.py has the algebra.

The output is cut into tiles of 4x4.  `gather` transforms the 6x6 patch of the image behind each tile and writes value k
of tile t to planes[k, t, :].  What a direct convolution multiplies 9 times an output is then 36 matrix products,
planes[k] @ weights[k], 2.25 times an output; `scatter` transforms the products back into tiles.  The gradient with
respect to the weights uses the transposed matrices: planes of the image times planes of the output's gradient.

The transforms are fast because each image is first copied into a zero-padded buffer, so that no tile has a border to
test for (padding.py), and because a tile is loaded, transformed and stored as vectors of channels in registers
(tiles.py).  Channels must be a multiple of 16.  And `scatter`, whose stores jump from row to row, says beforehand where
the next row of tiles goes: 107 us became 44 for 32 images of 14x14x32 that no cache holds, on Zen 5.
"""
import numpy as np

from nn.kernels import kernel
from nn.kernels.memo import Memo
from nn.kernels.padding import copy_into
from nn.kernels.scratch import scratch
from nn.kernels.simd import lanes, load_some, prefetch
from nn.kernels.tiles import add_to_all, load_tile, store_tile, transform
from nn.kernels.winograd_matrices import MATRICES, M, R


def _make_gather(name):
    """A kernel that transforms all patches of images by the matrix called `name`; patches begin M pixels apart."""
    size, patch = MATRICES[name].shape

    @kernel
    def gather(x, padding, padded, planes):
        """x (N, H, W, C); padded (tiles*M + patch - M both ways, C), scratch; planes (size^2, >= N*tiles*C)."""
        count, _, _, channels = x.shape
        tile_rows, tile_columns = (padded.shape[0] - patch) // M + 1, (padded.shape[1] - patch) // M + 1
        row_stride = padded.shape[1] * channels
        plane_stride = planes.shape[1]
        padded[:] = 0
        t = 0
        for image in range(count):
            copy_into(x, image, padding, padded)
            for i in range(tile_rows):
                for j in range(tile_columns):
                    corner = i * M * row_stride + j * M * channels
                    for c in range(0, channels, lanes(x)):
                        tile = transform(name, load_tile(padded, corner + c, row_stride, channels, patch))
                        store_tile(planes, t + c, size * plane_stride, plane_stride, size, size, tile, None)
                    t += channels

    return gather


def _make_flat(name):
    """A kernel that transforms one tile of long rows by a matrix (l, k), L numbers of each.  For weights."""
    rows, columns = MATRICES[name].shape

    @kernel
    def flat(tiles, out, length):
        """tiles (k^2, >= L) -> out (l^2, >= L); length: L."""
        stride, out_stride = tiles.shape[1], out.shape[1]
        for c in range(0, length, lanes(tiles)):
            tile = transform(name, load_tile(tiles, c, columns * stride, stride, columns))
            store_tile(out, c, rows * out_stride, out_stride, rows, rows, tile, None)

    return flat


gather, gather_gradient = _make_gather("input"), _make_gather("output adjoint")
weights, weights_adjoint = _make_flat("weights"), _make_flat("weights adjoint")
SIZE = M + R - 1


@kernel
def scatter(planes, bias, onto, out):
    """planes (SIZE^2, >= N*tiles*C), bias (C,) -> out (N, H, W, C), of which the last tiles may see a part only.

    onto: like out, added to it; or None
    """
    count, height, width, channels = out.shape
    plane_stride = planes.shape[1]
    t = 0
    for image in range(count):
        for i in range(0, height, M):
            for j in range(0, width, M):
                corner = ((image * height + i) * width + j) * channels
                # the next row of tiles fills the next M rows, which lie in one run: this tile asks for its share of it
                share = ((image * height + i + M) * width + j * M) * channels
                for c in range(share, share + M * M * channels, lanes(out)):
                    prefetch(out, c, 1)
                    if onto is not None:
                        prefetch(onto, c, 0)
                for c in range(0, channels, lanes(out)):
                    tile = transform("output", load_tile(planes, t + c, SIZE * plane_stride, plane_stride, SIZE))
                    tile = add_to_all(tile, load_some(bias, c, lanes(out)))
                    store_tile(out, corner + c, width * channels, channels, height - i, width - j, tile, onto)
                t += channels


def tile_count(height, width):
    """How many tiles cover an output of this size."""
    return -(-height // M) * -(-width // M)


def image_planes(x, padding, size):
    """The patches of x (N, H, W, C) behind the tiles of an output of this size, transformed: (SIZE^2, N*tiles, C)."""
    return _gathered(gather, x, padding, size, R - 1, "image planes")


def gradient_planes(grad):
    """The tiles of the output's gradient (N, H, W, C), transformed for the gradient of the weights."""
    return _gathered(gather_gradient, grad, 0, grad.shape[1:3], 0, "product planes")


def _gathered(run, x, padding, size, margin, role):
    """margin: what a patch is larger than a tile."""
    height, width = (-(-n // M) * M + margin for n in size)
    flat, matrices = planes(len(x) * tile_count(*size), x.shape[3], x.dtype, role)
    run(x, padding, scratch("padded", (height, width, x.shape[3]), x.dtype), flat)
    return matrices


def planes(rows, channels, dtype, role=None):
    """Memory for planes: as the kernels see it (SIZE^2, stride), and as SIZE^2 matrices (SIZE^2, rows, channels).

    The stride is an odd number of cache lines: a power of two would map all planes of a tile to one set of the cache
    (14x14x64, 8 images: 145 us to transform, against 64; weights of 128 to 128 channels: 240 against 61).
    role: of the scratch that it is; None: not scratch, but memory to keep
    """
    line = 64 // dtype.itemsize
    shape = (SIZE**2, (-(-rows * channels // line) | 1) * line)
    flat = scratch(role, shape, dtype) if role else np.empty(shape, dtype)
    return flat, flat[:, : rows * channels].reshape(-1, rows, channels)


def transform_weights(weight, flipped=False):
    """(3, 3, in, out) -> (SIZE^2, in, out), not contiguous (see `planes`).

    flipped: of the kernel that the input's gradient is convolved with
    """

    def transformed(weight):
        if flipped:
            weight = np.ascontiguousarray(weight[::-1, ::-1].transpose(0, 1, 3, 2))
        flat, matrices = planes(*weight.shape[2:], weight.dtype)
        weights(weight.reshape(R**2, -1), flat, matrices[0].size)
        return matrices

    return _transformed.get(weight, flipped, transformed)


_transformed = Memo(limit=128 << 20)
