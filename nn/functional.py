"""The public names of all ops, for `from nn import functional as F`."""
# ruff: noqa: F401
from nn.ops.activation import leaky_relu, log_softmax, relu, sigmoid, silu, softplus, tanh
from nn.ops.attention import scaled_dot_product_attention
from nn.ops.conv import conv2d, conv_transpose2d
from nn.ops.elementwise import add, clip, div, dropout, exp, log, mul, neg, pow, sub
from nn.ops.loss import bce_with_logits, cross_entropy, gaussian_kl, mse
from nn.ops.matmul import linear, matmul
from nn.ops.norm import group_norm, group_norm_silu, layer_norm
from nn.ops.pool import max_pool2d
from nn.ops.reduce import logsumexp, mean, sum
from nn.ops.shape import broadcast_to, concat, getitem, reshape, split, stack, transpose

__all__ = sorted(name for name in globals() if not name.startswith("_"))
