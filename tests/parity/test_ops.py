"""Every op against PyTorch's, forward and backward, at random shapes, in both dtypes.

The measure is the largest absolute difference over the largest absolute value of PyTorch's result in float64: at most
1e-5 for our float32 (5e-5 where Winograd's transforms may be at work) and 1e-10 for our float64.
"""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn import functional as F
from tests.nn.ops.cases import CASES
from tests.nn.ops.run import as_dtype, backward, forward, is_float
from tests.oracles.numeric import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")
T = torch.nn.functional
Normal, kl_divergence = torch.distributions.Normal, torch.distributions.kl_divergence


def channels_first(x):
    return x.permute(0, 3, 1, 2)


def channels_last(x):
    return x.permute(0, 2, 3, 1)


def spatial(function):
    """An op of PyTorch on (N, C, H, W), applied to (N, H, W, C)."""
    return lambda x, **options: channels_last(function(channels_first(x), **options))


def reduction(function):
    """PyTorch's `dim` for our `axis`, all axes for None."""

    def reduce(x, axis, keepdims):
        return function(x, dim=tuple(range(x.ndim)) if axis is None else axis, keepdim=keepdims)

    return reduce


def conv2d(x, w, b, stride, padding):
    w = w.permute(3, 2, 0, 1).contiguous()
    return channels_last(T.conv2d(channels_first(x), w, b, stride=stride, padding=padding))


def conv_transpose2d(x, w, b, **options):
    w = w.permute(2, 3, 0, 1).contiguous()
    return channels_last(T.conv_transpose2d(channels_first(x), w, b, **options))


def group_norm(x, gamma, beta, groups):
    return channels_last(T.group_norm(channels_first(x), groups, gamma, beta))


def modulated(x, gamma, beta, modulation, groups):
    scale, shift = modulation[:, None, None].chunk(2, dim=-1)
    return T.silu(group_norm((1 + scale) * x + shift, gamma, beta, groups))


def getitem(x, index):
    def convert(part):
        return torch.as_tensor(part) if isinstance(part, np.ndarray) else part

    return x[tuple(convert(part) for part in index) if isinstance(index, tuple) else convert(index)]


def layer_norm_of_each(x, gamma, beta):
    of_each = (len(x), *[1] * (x.ndim - 2), -1)
    return T.layer_norm(x, x.shape[-1:]) * gamma.reshape(of_each) + beta.reshape(of_each)


def dropout(x, p, seed):
    kept = np.random.default_rng(seed).random(tuple(x.shape), dtype=np.float32) >= p
    return x * torch.as_tensor(kept) / (1 - p)


def by_example(losses):
    return losses.reshape(len(losses), -1)


TWINS = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "pow": lambda x: x**2,
    "pow.cube": lambda x: x**3,
    "pow.inverse": lambda x: x**-1.5,
    "exp": torch.exp,
    "log": torch.log,
    "clip": lambda x, low, high: torch.clamp(x, low, high),
    "sum": reduction(torch.sum),
    "mean": reduction(torch.mean),
    "logsumexp": reduction(torch.logsumexp),
    "reshape": torch.reshape,
    "transpose": lambda x, axes: x.permute(axes),
    "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
    "concat": lambda *tensors, axis: torch.cat(tensors, axis),
    "split": lambda x, sections, axis: torch.tensor_split(x, sections, axis),
    "stack": lambda *tensors, axis: torch.stack(tensors, axis),
    "getitem": getitem,
    "matmul": torch.matmul,
    "linear": lambda x, w, b: T.linear(x, w.T, b),
    "relu": torch.relu,
    "leaky_relu": lambda x: T.leaky_relu(x, 0.2),
    "silu": T.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "log_softmax": lambda x, axis: torch.log_softmax(x, axis),
    "conv2d": conv2d,
    "conv2d.onto": lambda x, w, b, a, **options: a + conv2d(x, w, b, **options),
    "conv_transpose2d": conv_transpose2d,
    "max_pool2d": spatial(lambda x, size: T.max_pool2d(x, size)),
    "group_norm": group_norm,
    "group_norm_silu": lambda *inputs, groups: T.silu(group_norm(*inputs, groups)),
    "group_norm_silu.modulated": modulated,
    "layer_norm": lambda x, gamma, beta: T.layer_norm(x, x.shape[-1:], gamma, beta),
    "layer_norm.of_each": layer_norm_of_each,
    "scaled_dot_product_attention": T.scaled_dot_product_attention,
    "dropout": dropout,
    "mse": lambda p, t: by_example((p - t) ** 2).mean(1),
    "bce_with_logits": lambda x, t: by_example(T.binary_cross_entropy_with_logits(x, t, reduction="none")).sum(1),
    "cross_entropy": lambda x, labels: T.cross_entropy(x, labels, reduction="none"),
    "gaussian_kl": lambda mean, log_var: by_example(
        kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean)))
    ).sum(1),
}


def theirs(name, arrays, cotangents, options):
    """PyTorch's outputs and gradients in float64."""
    twin = TWINS.get(name) or TWINS[name.partition(".")[0]]
    tensors = [
        torch.tensor(a, dtype=torch.float64, requires_grad=True) if is_float(a) else torch.as_tensor(a) for a in arrays
    ]
    outputs = twin(*tensors, **options)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.autograd.backward(outputs, [torch.as_tensor(u, dtype=torch.float64) for u in cotangents])
    gradients = [
        None if not t.requires_grad else np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in tensors
    ]
    return [y.detach().numpy() for y in outputs], gradients


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_op(case, dtype, seed):
    """Catches: any difference from PyTorch in what an op computes, in its gradients, or in their precision."""
    rng = np.random.default_rng(seed)
    arrays, options = case.draw(rng)
    arrays = as_dtype(arrays, dtype)
    outputs = forward(case.function, arrays, **options)
    cotangents = [rng.standard_normal(y.shape).astype(dtype) for y in outputs]
    expected, gradients = theirs(case.name, arrays, cotangents, options)
    tolerance = 1e-10 if dtype == np.float64 else 5e-5 if "conv" in case.name else 1e-5
    for i, (ours, truth) in enumerate(zip(outputs, expected, strict=True)):
        assert_close(ours, truth, tolerance, f"output {i}", floor=0.1)
    computed = backward(case.function, arrays, cotangents, **options)
    for i, (ours, truth) in enumerate(zip(computed, gradients, strict=True)):
        if truth is not None:
            assert_close(ours, truth, tolerance, f"the gradient of input {i}", floor=0.1)


KINKS = {
    "clip": (lambda x: F.clip(x, -1, 2), lambda x: torch.clamp(x, -1, 2), [[-1.5, -1.0, 0.0, 2.0, 2.5]]),
    "relu": (F.relu, torch.relu, [[-1.0, 0.0, 2.0]]),
    "pow at 0": (lambda x: F.pow(x, 0), lambda x: x**0, [[0.0, 1.0, -2.0]]),
}


@pytest.mark.parametrize("name", KINKS)
def test_the_rule_at_kinks_and_ties(name):
    """Catches: a subgradient other than PyTorch's where there is a choice, so that ported code trains differently."""
    ours, twin, values = KINKS[name]
    arrays = [np.array(v) for v in values]
    tensors = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    outputs = forward(ours, arrays)
    cotangent = np.arange(1.0, outputs[0].size + 1).reshape(outputs[0].shape)
    expected = twin(*tensors)
    expected.backward(torch.as_tensor(cotangent))
    assert_close(outputs[0], expected.detach().numpy(), 1e-12)
    for gradient, tensor in zip(backward(ours, arrays, [cotangent]), tensors, strict=True):
        assert_close(gradient, tensor.grad.numpy(), 1e-12)


STABLE = ["sigmoid", "silu", "tanh", "softplus", "log_softmax", "logsumexp"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", STABLE)
def test_extremes(name, dtype):
    """Catches: an exp that overflows, or a difference of large numbers, at +-1e4."""
    x = np.array([[-1e4, -100, -20, -1, 0, 1, 20, 100, 1e4], [1e4, 1e4, 0, 0, 0, 0, 0, 0, -1e4]], dtype)
    options = {"axis": -1} if "softmax" in name else {"axis": 1, "keepdims": False} if name == "logsumexp" else {}
    outputs = forward(getattr(F, name), [x], **options)
    cotangents = [np.linspace(-1, 2, y.size).reshape(y.shape).astype(dtype) for y in outputs]
    expected, gradients = theirs(name, [x], cotangents, options)
    tolerance = 1e-10 if dtype == np.float64 else 1e-5
    assert_close(outputs[0], expected[0], tolerance)
    assert_close(backward(getattr(F, name), [x], cotangents, **options)[0], gradients[0], tolerance)
