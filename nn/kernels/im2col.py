"""Patches as the rows of a matrix, and back: what turns a convolution of any shape into one matrix product.

Within one row of the kernel a patch is contiguous in the image, so a whole run of kw * C numbers is copied at once;
only at the border is it cut.
"""
from nn.kernels import kernel


@kernel
def im2col(x, kernel_height, kernel_width, stride, padding, out_height, out_width, out):
    """x (N, H, W, C) flat -> out (N*H'*W', kh*kw*C), zeros outside the image."""
    count, height, width, channels = x.shape
    image = x.reshape(count, height, width * channels)
    run = kernel_width * channels
    row = 0
    for n in range(count):
        for i in range(out_height):
            for j in range(out_width):
                left = (j * stride - padding) * channels
                skipped = max(0, -left)
                end = min(run, width * channels - left)
                for u in range(kernel_height):
                    y, start = i * stride + u - padding, u * run
                    if y < 0 or y >= height or end <= skipped:
                        for k in range(run):
                            out[row, start + k] = 0
                        continue
                    for k in range(skipped):
                        out[row, start + k] = 0
                    for k in range(skipped, end):
                        out[row, start + k] = image[n, y, left + k]
                    for k in range(max(end, skipped), run):
                        out[row, start + k] = 0
                row += 1


@kernel
def col2im(columns, kernel_height, kernel_width, stride, padding, out_height, out_width, out):
    """The adjoint: adds every row of columns (N*H'*W', kh*kw*C) into its place in out (N, H, W, C), which is zeroed."""
    count, height, width, channels = out.shape
    image = out.reshape(count, height, width * channels)
    image[:] = 0
    run = kernel_width * channels
    row = 0
    for n in range(count):
        for i in range(out_height):
            for j in range(out_width):
                left = (j * stride - padding) * channels
                skipped, end = max(0, -left), min(run, width * channels - left)
                for u in range(kernel_height):
                    y, start = i * stride + u - padding, u * run
                    if 0 <= y < height:
                        for k in range(skipped, end):
                            image[n, y, left + k] += columns[row, start + k]
                row += 1
