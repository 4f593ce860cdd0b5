"""Convolution by its definition: cut out every patch, lay it in a row of a matrix, multiply (Chellapilla et al. 2006).

Layout: images (N, H, W, C), weights (kh, kw, in, out).  As everywhere in deep learning, "convolution" means
correlation: the kernel is not flipped.
"""
import numpy as np

from nn.kernels.reference.im2col import col2im, im2col


def convolve(x, weight, bias, stride, padding):
    """y[n,i,j,:] = sum over u, v of x[n, i*stride+u-padding, j*stride+v-padding, :] @ weight[u,v] + bias."""
    return np.tensordot(im2col(x, weight.shape[:2], stride, padding), weight, axes=3) + bias


def input_gradient(grad, weight, shape, stride, padding):
    """The gradient with respect to x (of this shape): each output's gradient, spread over the patch it came from."""
    columns = np.tensordot(grad, weight, axes=((3,), (3,)))  # (N, H', W', kh, kw, in)
    return col2im(columns, shape, stride, padding)


def weight_gradient(x, grad, kernel, stride, padding):
    """The gradient with respect to the weights: patches times output gradients, summed over all places."""
    return np.tensordot(im2col(x, kernel, stride, padding), grad, axes=((0, 1, 2), (0, 1, 2)))
