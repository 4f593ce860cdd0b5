"""Patches as the rows of a matrix, and back: what turns a convolution of any shape into one matrix product.

Within one row of the kernel a patch is contiguous in the image, so a run of kw * C numbers is copied at once, in
vectors; in a zero-padded copy of the image (padding.py) no run is cut short at a border.  Eight images of 28x28x32,
kernel 4x4, stride 2: 80 us, and 99 us back; number by number, with tests for the border, 752 and 577 us.

im2col writes whole vectors even where a run ends within one, which spares the masks (simd.py): the next run overwrites
what is too much.  So what it reads and writes must be scratch, which has room behind its end.
"""
from nn.kernels import kernel
from nn.kernels.padding import copy_into
from nn.kernels.simd import lanes, load_some, store_some


@kernel
def im2col(x, kernel_height, kernel_width, stride, padding, out_height, out_width, padded, out):
    """x (N, H, W, C) -> out (N*H'*W', kh*kw*C); padded (H + 2*padding, W + 2*padding, C) and out are scratch."""
    channels = x.shape[3]
    run, row = kernel_width * channels, padded.shape[1] * channels
    padded[:] = 0
    target = 0
    for image in range(x.shape[0]):
        copy_into(x, image, padding, padded)
        for i in range(out_height):
            for j in range(out_width):
                for u in range(kernel_height):
                    source = (i * stride + u) * row + j * stride * channels
                    for k in range(0, run, lanes(x)):
                        store_some(out, target + k, load_some(padded, source + k, lanes(x)), lanes(x))
                    target += run


@kernel
def col2im(columns, kernel_height, kernel_width, stride, padding, out_height, out_width, padded, out):
    """The adjoint: adds every row of columns (N*H'*W', kh*kw*C) into its place in out (N, H, W, C).

    columns and padded, as for im2col, are flat: to load a kernel that reshapes, Numba imports `arrayobj`, 50 ms.
    """
    count, height, width, channels = out.shape
    run, row = kernel_width * channels, (width + 2 * padding) * channels
    whole = run - run % lanes(out)
    source = 0
    for image in range(count):
        padded[:] = 0
        for i in range(out_height):
            for j in range(out_width):
                for u in range(kernel_height):
                    target = (i * stride + u) * row + j * stride * channels
                    for k in range(0, whole, lanes(out)):
                        total = load_some(padded, target + k, lanes(out)) + load_some(columns, source + k, lanes(out))
                        store_some(padded, target + k, total, lanes(out))
                    for k in range(whole, run):  # a vector would wait for the last one, which it overlaps
                        padded[target + k] += columns[source + k]
                    source += run
        for i in range(height):
            inside = (padding + i) * row + padding * channels
            target = (image * height + i) * width * channels
            for k in range(0, width * channels, lanes(out)):
                left = width * channels - k
                store_some(out, target + k, load_some(padded, inside + k, left), left)
