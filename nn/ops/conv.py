"""Convolution and its transpose, on images (N, H, W, C) with weights (kh, kw, in, out).

With y = A(w) x for a convolution,
    dL/dx = A(w)^T dL/dy,         which is a transposed convolution, and
    dL/dw = (patches of x)^T dL/dy.
A transposed convolution is y = A(w)^T x with the channels of w exchanged, so its gradient with respect to x is an
ordinary convolution.  `nn/kernels/convolution.py` computes A, by one of several algorithms.
"""
from nn.kernels import convolution
from nn.tensor import Function


class Conv2d(Function):
    """y[n,i,j,:] = sum over u, v of x[n, i*stride+u-padding, j*stride+v-padding, :] @ w[u,v] + b."""

    def forward(ctx, x, w, b, stride, padding):
        ctx.stride, ctx.padding = stride, padding
        ctx.save(x, w)
        return convolution.convolve(x, w, b, stride, padding)

    def backward(ctx, grad):
        x, w = ctx.saved
        dx = dw = db = None
        if ctx.needs[0]:
            dx = convolution.input_gradient(grad, w, x.shape, ctx.stride, ctx.padding)
        if ctx.needs[1]:
            dw = convolution.weight_gradient(x, grad, w.shape[:2], ctx.stride, ctx.padding)
        if ctx.needs[2]:
            db = convolution.bias_gradient(grad)
        return dx, dw, db


class Conv2dOnto(Function):
    """y = a + A(w) x + b: a convolution and what goes past it;  da = dy.

    One array fewer than by `Add`; Winograd adds while it writes tiles, which spares a pass, others in place afterwards.
    """

    gradients = staticmethod(Conv2d.backward)  # itself, whatever a bench puts in its place to count or time it

    def forward(ctx, x, w, b, a, stride, padding):
        ctx.stride, ctx.padding = stride, padding
        ctx.save(x, w)
        return convolution.convolve(x, w, b, stride, padding, onto=a)

    def backward(ctx, grad):
        return *Conv2dOnto.gradients(ctx, grad), grad


def conv2d(x, w, b=None, stride=1, padding=0, onto=None):
    """Convolve x (N, H, W, in) with w (kh, kw, in, out), add b (out,): (N, H', W', out).

    H' = (H + 2*padding - kh) // stride + 1, and W' likewise.  onto: of that shape, added to the result, as in a
    residual block.  Raises ValueError where channels or shapes differ or the kernel is larger than the padded image.

    >>> import numpy as np
    >>> image, edge = np.array([0.0, 0, 5, 5]).reshape(1, 1, 4, 1), np.array([-1.0, 1]).reshape(1, 2, 1, 1)
    >>> conv2d(image, edge).data.ravel()
    array([0., 5., 0.])
    """
    _check("conv2d", x, w, b, stride, padding)
    if any(size + 2 * padding < k for size, k in zip(x.shape[1:3], w.shape[:2], strict=True)):
        raise ValueError(
            f"conv2d: a kernel of {w.shape[0]}x{w.shape[1]} is larger than an image of {x.shape[1]}x{x.shape[2]} "
            f"with padding {padding}"
        )
    if onto is None:
        return Conv2d.apply(x, w, b, stride=stride, padding=padding)
    shape = (x.shape[0], *convolution.output_size(x.shape, w.shape[:2], stride, padding), w.shape[3])
    if tuple(onto.shape) != shape:
        raise ValueError(f"conv2d: `onto` must have the shape of the result, {shape}; given {onto.shape}")
    return Conv2dOnto.apply(x, w, b, onto, stride=stride, padding=padding)


class ConvTranspose2d(Function):
    """The adjoint: y[n, i*stride+u-padding, j*stride+v-padding, :] = sum over i, j, u, v of x[n,i,j,:] @ w[u,v] + b."""

    def forward(ctx, x, w, b, stride, padding, output_padding):
        ctx.stride, ctx.padding = stride, padding
        ctx.save(x, w)
        height, width = (
            (size - 1) * stride - 2 * padding + k + output_padding
            for size, k in zip(x.shape[1:3], w.shape[:2], strict=True)
        )
        shape = (x.shape[0], height, width, w.shape[3])
        y = convolution.input_gradient(x, w.transpose(0, 1, 3, 2), shape, stride, padding)
        return y if b is None else y + b

    def backward(ctx, grad):
        x, w = ctx.saved
        dx = dw = db = None
        if ctx.needs[0]:
            dx = convolution.convolve(grad, w.transpose(0, 1, 3, 2), None, ctx.stride, ctx.padding)
        if ctx.needs[1]:
            dw = convolution.weight_gradient(grad, x, w.shape[:2], ctx.stride, ctx.padding).transpose(0, 1, 3, 2)
        if ctx.needs[2]:
            db = convolution.bias_gradient(grad)
        return dx, dw, db


def conv_transpose2d(x, w, b=None, stride=1, padding=0, output_padding=0):
    """Transposed convolution of x (N, H, W, in) with w (kh, kw, in, out), plus b (out,): (N, H', W', out).

    H' = (H - 1) * stride - 2*padding + kh + output_padding, and W' likewise.  output_padding < stride settles which
    of the sizes that a convolution maps to H is meant.  Raises ValueError where channels or sizes do not fit.
    """
    _check("conv_transpose2d", x, w, b, stride, padding)
    if not 0 <= output_padding < stride:
        raise ValueError(f"conv_transpose2d: output_padding must be below stride {stride}; given {output_padding}")
    sizes = zip(x.shape[1:3], w.shape[:2], strict=True)
    if any((size - 1) * stride - 2 * padding + k + output_padding < 1 for size, k in sizes):
        raise ValueError(f"conv_transpose2d: nothing is left of an image of {x.shape[1:3]} with padding {padding}")
    return ConvTranspose2d.apply(x, w, b, stride=stride, padding=padding, output_padding=output_padding)


def _check(name, x, w, b, stride, padding):
    if stride < 1 or padding < 0:
        raise ValueError(f"{name}: stride must be at least 1 and padding at least 0; given {stride} and {padding}")
    if len(x.shape) != 4 or len(w.shape) != 4:
        raise ValueError(f"{name}: expected x (N, H, W, in) and w (kh, kw, in, out); given {x.shape} and {w.shape}")
    if x.shape[3] != w.shape[2]:
        raise ValueError(f"{name}: x has {x.shape[3]} channels, w of shape {w.shape} expects {w.shape[2]}")
    if b is not None and tuple(b.shape) != (w.shape[3],):
        raise ValueError(f"{name}: the bias must have shape ({w.shape[3]},) like the outputs; given {b.shape}")
