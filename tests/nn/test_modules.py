"""Layers: parameters in order, state, conversion, and each forward against its op or formula."""
import gc
import tracemalloc

import numpy as np
import pytest

from nn import Tensor, modules
from nn import functional as F
from nn.modules import Module


def rng():
    return np.random.default_rng(0)


class Nested(Module):
    def __init__(self):
        self.second = modules.Linear(2, 3, rng())
        self.blocks = [modules.LayerNorm(3), modules.LayerNorm(3)]
        self.first = modules.GroupNorm(1, 3)
        self.seen = np.zeros(3, np.float32)  # a buffer
        self.alias = self.second
        self.note = "not a parameter"


def test_parameters_in_definition_order_once_each():
    """Catches alphabetical or hash order, lists not walked, a shared module counted twice."""
    names = [name for name, _ in Nested().named_parameters()]
    assert names == [
        "second.weight", "second.bias", "blocks.0.gamma", "blocks.0.beta", "blocks.1.gamma", "blocks.1.beta",
        "first.gamma", "first.beta",
    ]  # fmt: skip
    assert Nested().parameter_count() == 6 + 3 + 4 * 3 + 6


def test_state_round_trip_includes_buffers():
    """Catches buffers that are not saved, and loading that rebinds arrays instead of filling them."""
    source, target = Nested(), Nested()
    for array in source.state().values():
        array += 1.5
    held = target.second.weight.data
    target.load_state({name: array.copy() for name, array in source.state().items()})
    assert "seen" in target.state() and held is target.second.weight.data
    for name, array in source.state().items():
        np.testing.assert_array_equal(target.state()[name], array)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("second.bias"), "second.bias"),
        (lambda s: s.update(strange=np.ones(1)), "strange"),
        (lambda s: s.update({"second.bias": np.ones(7)}), "second.bias"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_whole(change, named):
    """Catches silent broadcasting, and a model half loaded before the error."""
    model = Nested()
    state = {name: array + 9 for name, array in model.state().items()}
    change(state)
    before = model.second.weight.data.copy()
    with pytest.raises(ValueError, match=named):
        model.load_state(state)
    np.testing.assert_array_equal(model.second.weight.data, before)


def test_an_even_kernel_is_refused():
    """Catches: a convolution that silently does not keep the size."""
    with pytest.raises(ValueError, match="Conv2d: .*4"):
        modules.Conv2d(1, 1, 4, np.random.default_rng(0))


def test_astype_reaches_everything():
    model = Nested().astype(np.float64)
    assert {array.dtype for array in model.state().values()} == {np.dtype(np.float64)}


def test_sequential_takes_layers_and_functions():
    net = modules.Sequential(modules.Linear(2, 3, rng()), F.relu, modules.Linear(3, 1, rng()))
    x = Tensor(np.ones((4, 2), np.float32))
    a, b = net.layers[0], net.layers[2]
    expected = np.maximum(x.data @ a.weight.data + a.bias.data, 0) @ b.weight.data + b.bias.data
    np.testing.assert_allclose(net(x).data, expected, rtol=1e-6)
    assert len(net.parameters()) == 4


@pytest.mark.parametrize(
    ("layer", "shape", "result"),
    [
        (lambda: modules.Conv2d(3, 5, 3, rng()), (2, 6, 6, 3), (2, 6, 6, 5)),
        (lambda: modules.Conv2d(3, 5, 5, rng(), stride=2), (2, 6, 6, 3), (2, 3, 3, 5)),
        (lambda: modules.GroupNorm(2, 4), (2, 3, 3, 4), (2, 3, 3, 4)),
        (lambda: modules.GroupNormSiLU(2, 4), (2, 3, 3, 4), (2, 3, 3, 4)),
        (lambda: modules.MultiHeadAttention(6, 2, rng()), (2, 5, 6), (2, 5, 6)),
    ],
)
def test_shapes_and_a_sensible_start(layer, shape, result):
    """A standard normal input comes out with a variance near 1.  Catches initialisation by the wrong fan-in."""
    x = np.random.default_rng(1).standard_normal((32, *shape[1:])).astype(np.float32)
    y = layer()(Tensor(x)).data
    assert y.shape == (32, *result[1:]) and layer()(Tensor(x[:0])).shape == (0, *result[1:])
    assert 0.05 < y.var() < 4


def test_attention_mixes_positions_within_an_example_only():
    """Catches axes swapped in the reshapes: another example, or another head, would leak in."""
    layer = modules.MultiHeadAttention(4, 2, rng()).astype(np.float64)
    x = np.random.default_rng(3).standard_normal((2, 3, 4))
    base = layer(Tensor(x)).data
    changed = x.copy()
    changed[1, 2] += 1
    moved = layer(Tensor(changed)).data
    np.testing.assert_array_equal(moved[0], base[0])
    assert np.abs(moved[1] - base[1]).min(axis=-1).max() > 0
    order = [2, 0, 1]
    np.testing.assert_allclose(layer(Tensor(x[:, order])).data, base[:, order], rtol=1e-10)


@pytest.mark.parametrize(
    "wrong",
    [lambda: modules.GroupNorm(3, 4), lambda: modules.MultiHeadAttention(5, 2, rng())],
)
def test_impossible_sizes(wrong):
    with pytest.raises(ValueError, match="4|5"):
        wrong()


def test_a_thousand_steps_in_flat_memory():
    """Catches graphs, gradients or scratch that pile up from step to step."""
    enter, leave = modules.Conv2d(2, 16, 3, rng()), modules.Conv2d(16, 2, 3, rng())
    net = modules.Sequential(enter, modules.GroupNormSiLU(4, 16), leave)
    x = np.random.default_rng(6).standard_normal((4, 8, 8, 2)).astype(np.float32)

    def step():
        F.sum(net(Tensor(x)) * 1e-3).backward()

    for _ in range(20):
        step()
    tracemalloc.start()
    step()
    gc.collect()  # Python keeps some freed objects for later use, and lets go of them here
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(1000):
        step()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 20_000  # bytes; one activation has 16,384
