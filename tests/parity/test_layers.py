"""Every layer against PyTorch's, with our weights copied in: output, gradient of the input, gradient of each weight."""
import numpy as np
import pytest

import nn.modules as ours
from nn.tensor import Tensor
from tests.oracles.numeric import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")


def rng():
    return np.random.default_rng(0)


# How our weights lie in PyTorch's, by the number of axes of a layer's weight.
TO_TORCH = {
    "linear": lambda w: w.T,
    "conv": lambda w: w.transpose(3, 2, 0, 1),
    "same": lambda w: w,
}

# name: (our layer, PyTorch's, [(our parameter, theirs, how to turn it)], shape of x)
AFFINE = [("gamma", "weight", "same"), ("beta", "bias", "same")]
LAYERS = {
    "Linear": (
        lambda: ours.Linear(5, 7, rng()),
        lambda: torch.nn.Linear(5, 7),
        [("weight", "weight", "linear"), ("bias", "bias", "same")],
        (3, 4, 5),
    ),
    "Conv2d": (
        lambda: ours.Conv2d(3, 8, 3, rng()),
        lambda: torch.nn.Conv2d(3, 8, 3, padding="same"),
        [("weight", "weight", "conv"), ("bias", "bias", "same")],
        (2, 9, 7, 3),
    ),
    "Conv2d, strided": (
        lambda: ours.Conv2d(4, 6, 5, rng(), stride=2),
        lambda: torch.nn.Conv2d(4, 6, 5, stride=2, padding=2),
        [("weight", "weight", "conv"), ("bias", "bias", "same")],
        (2, 8, 10, 4),
    ),
    "GroupNorm": (lambda: ours.GroupNorm(2, 6), lambda: torch.nn.GroupNorm(2, 6), AFFINE, (3, 4, 5, 6)),
    "GroupNormSiLU": (
        lambda: ours.GroupNormSiLU(4, 8),
        lambda: torch.nn.Sequential(torch.nn.GroupNorm(4, 8), torch.nn.SiLU()),
        [("gamma", "0.weight", "same"), ("beta", "0.bias", "same")],
        (3, 4, 5, 8),
    ),
    "LayerNorm": (lambda: ours.LayerNorm(6), lambda: torch.nn.LayerNorm(6), AFFINE, (3, 4, 6)),
    "MultiHeadAttention": (
        lambda: ours.MultiHeadAttention(8, 2, rng()),
        lambda: torch.nn.MultiheadAttention(8, 2, batch_first=True),
        [
            ("query_key_value.weight", "in_proj_weight", "linear"),
            ("query_key_value.bias", "in_proj_bias", "same"),
            ("output.weight", "out_proj.weight", "linear"),
            ("output.bias", "out_proj.bias", "same"),
        ],
        (3, 5, 8),
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, dtype):
    """Catches: a layer whose default, layout of weights, or use of its op differs from what its name promises."""
    make, make_theirs, names, shape = LAYERS[name]
    generator = np.random.default_rng(1)
    layer, twin = make(), make_theirs().double()
    layer.astype(dtype)
    parameters, theirs = dict(layer.named_parameters()), dict(twin.named_parameters())
    assert set(parameters) == {mine for mine, _, _ in names} and set(theirs) == {other for _, other, _ in names}
    for mine, other, turn in names:
        parameters[mine].data[...] += 0.1 * generator.standard_normal(parameters[mine].shape)  # scales not all 1
        theirs[other].data = torch.tensor(TO_TORCH[turn](parameters[mine].data), dtype=torch.float64)

    x = generator.standard_normal(shape).astype(dtype)
    mine_x, their_x = Tensor(x, requires_grad=True), torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = layer(mine_x)
    first = their_x.permute(0, 3, 1, 2) if len(shape) == 4 else their_x
    truth = twin(first, first, first)[0] if name == "MultiHeadAttention" else twin(first)
    truth = truth.permute(0, 2, 3, 1) if len(shape) == 4 else truth
    cotangent = generator.standard_normal(y.shape).astype(dtype)
    y.backward(cotangent)
    truth.backward(torch.tensor(cotangent, dtype=torch.float64))

    tolerance = 1e-10 if dtype == np.float64 else 5e-5 if "Conv" in name else 1e-5
    assert y.dtype == dtype
    assert_close(y.data, truth.detach().numpy(), tolerance, "the output")
    assert_close(mine_x.grad, their_x.grad.numpy(), tolerance, "the gradient of x")
    for mine, other, turn in names:
        assert_close(TO_TORCH[turn](parameters[mine].grad), theirs[other].grad.numpy(), tolerance, f"that of {mine}")


def test_sequential():
    """Catches: layers called in another order, or one of them left out."""
    generator = rng()
    layers = ours.Sequential(ours.Linear(4, 6, generator), ours.LayerNorm(6), ours.Linear(6, 2, generator))
    twin = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6), torch.nn.Linear(6, 2))
    for parameter, theirs in zip(layers.parameters(), twin.parameters(), strict=True):
        theirs.data = torch.tensor(parameter.data.T if parameter.ndim == 2 else parameter.data)
    x = generator.standard_normal((3, 4), dtype=np.float32)
    assert_close(layers(Tensor(x)).data, twin(torch.tensor(x)).detach().numpy(), 1e-5)
