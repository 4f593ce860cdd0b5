"""The public names of all ops, for `from nn import functional as F`."""
from nn.ops.activation import (
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from nn.ops.attention import scaled_dot_product_attention
from nn.ops.conv import conv2d, conv_transpose2d
from nn.ops.elementwise import (
    abs,
    add,
    clip,
    div,
    exp,
    log,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    sqrt,
    sub,
    where,
)
from nn.ops.embedding import dropout, embedding
from nn.ops.loss import bce_with_logits, cross_entropy, gaussian_kl, mse
from nn.ops.matmul import linear, matmul
from nn.ops.norm import batch_norm, group_norm, group_norm_silu, layer_norm
from nn.ops.pool import avg_pool2d, max_pool2d, upsample_nearest
from nn.ops.reduce import logsumexp, max, mean, sum, var
from nn.ops.shape import (
    broadcast_to,
    concat,
    getitem,
    pad,
    reshape,
    split,
    stack,
    transpose,
)

__all__ = [
    "abs", "add", "avg_pool2d", "batch_norm", "bce_with_logits", "broadcast_to", "clip", "concat", "conv2d",
    "conv_transpose2d", "cross_entropy", "div", "dropout", "embedding", "exp", "gaussian_kl", "gelu", "getitem",
    "group_norm", "group_norm_silu", "layer_norm", "leaky_relu", "linear", "log", "log_softmax", "logsumexp", "matmul",
    "max", "max_pool2d", "maximum", "mean", "minimum", "mse", "mul", "neg", "pad", "pow", "relu", "reshape",
    "scaled_dot_product_attention", "sigmoid", "silu", "softmax", "softplus", "split", "sqrt", "stack", "sub", "sum",
    "tanh", "transpose", "upsample_nearest", "var", "where",
]  # fmt: skip
