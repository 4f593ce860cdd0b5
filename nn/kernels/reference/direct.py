"""Convolutions with few channels on one side: what any convolution is, with the weights laid out as the kernels do."""
import numpy as np

from nn.kernels.reference import convolution


def wide(x, weight, bias, stride, padding):
    """weight (kh, kw, few, K)."""
    return convolution.convolve(x, weight, bias, stride, padding)


def narrow(x, weight, bias, stride, padding):
    """weight (few, kh, kw*C)."""
    few, kernel_height, _ = weight.shape
    weight = weight.reshape(few, kernel_height, -1, x.shape[3]).transpose(1, 2, 3, 0)
    return convolution.convolve(x, weight, bias, stride, padding)


def wide_weight_gradient(x, grad, kernel, stride, padding):
    """(kh, kw, few, K)."""
    return convolution.weight_gradient(x, grad, kernel, stride, padding)


def narrow_weight_gradient(x, grad, kernel, stride, padding):
    """(few, kh, kw*C)."""
    gradient = convolution.weight_gradient(x, grad, kernel, stride, padding)
    return np.moveaxis(gradient, 3, 0).reshape(grad.shape[3], kernel[0], -1)
