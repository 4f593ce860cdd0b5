"""Every op with a way to draw inputs for it: the table that the property tests and the parity tests go through.

Shapes are random and small.  Values are normal; where an op has a kink or a tie they come from `apart`, which keeps
all numbers away from 0 and from each other by more than any step of a numerical derivative.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from nn import functional as F


@dataclass(frozen=True)
class Case:
    """function(*arrays as tensors, **options), with draw(rng) -> (arrays, options); float arrays get gradients."""

    name: str
    function: Callable
    draw: Callable

    def __str__(self) -> str:
        return self.name


def case(name: str, draw: Callable, function: Callable | None = None) -> Case:
    """The case of F.<name>; a name like "sum.axes" is another case of F.sum."""
    return Case(name, function or getattr(F, name.partition(".")[0]), draw)


_least: ContextVar[int] = ContextVar("the shortest length of an axis", default=1)


@contextmanager
def empty_axes() -> Iterator[None]:
    """Inside this block an axis that could have any length may have the length 0."""
    token = _least.set(0)
    yield
    _least.reset(token)


def lengths(rng, count: int, most: int = 4) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(_least.get(), most + 1, count))


def normal(rng, *shape) -> np.ndarray:
    return rng.standard_normal(shape)


def positive(rng, *shape) -> np.ndarray:
    return rng.uniform(0.5, 2.5, shape)


def apart(rng, *shapes) -> list[np.ndarray]:
    """Arrays of these shapes; no two numbers in them, nor any number and 0, are closer than 0.05."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    total = sum(sizes)
    numbers = (rng.permutation(total) - total // 2 + 0.5) * 0.1 + rng.uniform(-0.02, 0.02, total)
    return [part.reshape(s) for part, s in zip(np.split(numbers, np.cumsum(sizes)[:-1]), shapes, strict=True)]


def broadcastable(rng) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast: axes of length 1 in either, and one with fewer axes."""
    shape = lengths(rng, int(rng.integers(1, 4)))
    one = tuple(1 if rng.random() < 0.3 else n for n in shape)
    other = tuple(1 if rng.random() < 0.3 else n for n in shape)[int(rng.integers(0, len(shape) + 1)) :]
    return (one, other) if rng.random() < 0.5 else (other, one)


def one(values: Callable) -> Callable:
    """A single array of a random shape."""
    return lambda rng: ([values(rng, *lengths(rng, int(rng.integers(0, 4))))], {})


def two(first: Callable, second: Callable) -> Callable:
    """Two arrays that broadcast."""

    def draw(rng):
        a, b = broadcastable(rng)
        return [first(rng, *a), second(rng, *b)], {}

    return draw


def reduced(values: Callable) -> Callable:
    """An array of one to four axes, some of which (or None, all) are to be reduced; counted from either end."""

    def draw(rng):
        shape = lengths(rng, int(rng.integers(1, 5)), most=3)
        count = int(rng.integers(0, len(shape) + 1))
        axes = tuple(int(a) - len(shape) * int(rng.integers(0, 2)) for a in rng.permutation(len(shape))[:count])
        axis = None if count == 0 else axes[0] if count == 1 and rng.random() < 0.5 else axes
        return [values(rng, *shape)], {"axis": axis, "keepdims": bool(rng.integers(0, 2))}

    return draw


def draw_reshape(rng):
    a, b, c = lengths(rng, 3)
    shapes = [(-1, c) if c else (a * b, c), (c, a, b), (a * b * c,)]  # of nothing, -1 could be any number
    return [normal(rng, a, b, c)], {"shape": shapes[int(rng.integers(0, 3))]}


def draw_transpose(rng):
    ndim = int(rng.integers(1, 5))
    axes = tuple(int(a) - ndim * int(rng.integers(0, 2)) for a in rng.permutation(ndim))
    return [normal(rng, *lengths(rng, ndim))], {"axes": axes}


def draw_broadcast_to(rng):
    a, b = broadcastable(rng)
    return [normal(rng, *a)], {"shape": np.broadcast_shapes(a, b)}


def draw_concat(rng):
    shape, count = lengths(rng, int(rng.integers(1, 4))), int(rng.integers(1, 4))
    axis = int(rng.integers(0, len(shape)))
    pieces = [(*shape[:axis], n, *shape[axis + 1 :]) for n in lengths(rng, count)]
    return [normal(rng, *piece) for piece in pieces], {"axis": axis - len(shape) * int(rng.integers(0, 2))}


def draw_split(rng):
    sections, (before, size, after) = int(rng.integers(1, 5)), lengths(rng, 3)
    return [normal(rng, before, sections * size, after)], {"sections": sections, "axis": int(rng.choice([1, -2]))}


def draw_split_of_the_last_axis(rng):
    (array,), options = draw_split(rng)
    return [np.ascontiguousarray(array.swapaxes(1, 2))], {**options, "axis": int(rng.choice([2, -1]))}


def draw_stack(rng):
    shape, count = lengths(rng, int(rng.integers(0, 3))), int(rng.integers(1, 4))
    axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
    return [normal(rng, *shape) for _ in range(count)], {"axis": axis}


def draw_slices(rng):
    index = [
        (slice(1, None), ..., slice(None, None, 2)),
        (2, slice(None, -1)),
        (..., -1),
        (slice(None), None, 1),
        (slice(None, None, 1), slice(0, 0)),
    ][int(rng.integers(0, 5))]
    return [normal(rng, 3, 2, *lengths(rng, 1, most=3), 2)], {"index": index}


def draw_integers(rng):
    rows = rng.integers(-3, 3, int(rng.integers(1, 7)))  # repeated ones too, and from the end
    index = [rows, (rows, slice(1, None)), (slice(None), rows % 2, ...), (rows, [1, 0, 1] if len(rows) == 3 else 0)]
    return [normal(rng, 3, 2, *lengths(rng, 1))], {"index": index[int(rng.integers(0, 4))]}


def draw_mask(rng):
    shape = lengths(rng, 2)
    return [normal(rng, *shape)], {"index": rng.random(shape) < 0.5}


def draw_matmul(rng):
    m, k, n = lengths(rng, 3)
    a, b = broadcastable(rng)
    kind = int(rng.integers(0, 3))
    a, b = [((), ()), (a, ()), (a, b)][kind]
    return [normal(rng, *a, m, k), normal(rng, *b, k, n)], {}


def draw_linear(rng):
    before, (inputs, outputs) = lengths(rng, int(rng.integers(0, 3))), lengths(rng, 2)
    return [normal(rng, *before, inputs), normal(rng, inputs, outputs), normal(rng, outputs)], {}


def draw_softmax(rng):
    shape = lengths(rng, int(rng.integers(1, 4)))
    return [normal(rng, *shape)], {"axis": int(rng.integers(-len(shape), len(shape)))}


def draw_conv(rng):
    (n,), (height, width) = lengths(rng, 1, most=2), (int(s) for s in rng.integers(3, 7, 2))
    (kh, kw), (inputs, outputs) = rng.integers(1, 4, 2), lengths(rng, 2, most=3)
    if rng.random() < 0.4:
        kh = kw = 3  # the size for which there are special kernels
    arrays = [normal(rng, n, height, width, inputs), normal(rng, kh, kw, inputs, outputs), normal(rng, outputs)]
    return arrays, {"stride": int(rng.integers(1, 3)), "padding": int(rng.integers(0, 3))}


def draw_conv_onto(rng):
    arrays, options = draw_conv(rng)
    return [*arrays, normal(rng, *F.conv2d(*arrays, **options).shape)], options


def draw_conv_transpose(rng):
    (n,), (height, width) = lengths(rng, 1, most=2), (int(s) for s in rng.integers(2, 5, 2))
    (kh, kw), (inputs, outputs) = rng.integers(1, 5, 2), lengths(rng, 2, most=3)
    stride = int(rng.integers(1, 3))
    arrays = [normal(rng, n, height, width, inputs), normal(rng, kh, kw, inputs, outputs), normal(rng, outputs)]
    options = {"stride": stride, "padding": int(rng.integers(0, (min(kh, kw) + 1) // 2))}
    return arrays, {**options, "output_padding": int(rng.integers(0, stride))}


def draw_pool(rng):
    n, height, width, channels = lengths(rng, 4, most=3)
    size = int(rng.integers(1, 4))
    return apart(rng, (n, height * size, width * size, channels)), {"size": size}


def draw_group_norm(rng, least=1):
    n, height, width, size = lengths(rng, 4, most=3)
    groups = int(rng.integers(1, 4))
    channels = groups * (size + least - 1)
    arrays = [normal(rng, n, height, width + 1, channels), positive(rng, channels), normal(rng, channels)]
    return arrays, {"groups": groups}


def draw_modulated(rng):
    """Two channels a group or more: the scale of a lone one is normalised away, and its gradient all rounding."""
    (x, gamma, beta), options = draw_group_norm(rng, least=2)
    factors, shifts = positive(rng, len(x), len(gamma)), normal(rng, len(x), len(gamma))
    return [x, gamma, beta, np.concatenate([factors - 1, shifts], axis=1)], options


def modulated(x, gamma, beta, modulation, groups):
    return F.group_norm_silu(x, gamma, beta, groups, modulation=modulation)


def draw_layer_norm(rng):
    shape = (*lengths(rng, int(rng.integers(1, 3))), 5 + int(rng.integers(0, 4)))
    return [normal(rng, *shape), positive(rng, shape[-1]), normal(rng, shape[-1])], {}


def draw_layer_norm_of_each(rng):
    n, *rest = *lengths(rng, int(rng.integers(2, 4))), 5 + int(rng.integers(0, 4))
    return [normal(rng, n, *rest), positive(rng, n, rest[-1]), normal(rng, n, rest[-1])], {}


def draw_attention(rng):
    n, heads, queries, keys, d, dv = lengths(rng, 6, most=3)
    return [normal(rng, n, heads, queries, d), normal(rng, n, heads, keys, d), normal(rng, n, heads, keys, dv)], {}


def draw_dropout(rng):
    return [normal(rng, *lengths(rng, 2))], {"p": float(rng.choice([0.0, 0.3, 0.8])), "seed": int(rng.integers(99))}


def two_of_one_shape(first: Callable, second: Callable) -> Callable:
    def draw(rng):
        shape = lengths(rng, int(rng.integers(1, 4)))
        return [first(rng, *shape), second(rng, *shape)], {}

    return draw


def draw_cross_entropy(rng):
    (n,), classes = lengths(rng, 1, most=5), int(rng.integers(1, 6))
    return [normal(rng, n, classes), rng.integers(0, classes, n)], {}


def unit(rng, *shape) -> np.ndarray:
    return rng.random(shape)


def kinked(rng, *shape) -> np.ndarray:
    return apart(rng, shape)[0]


CASES = [
    case("add", two(normal, normal)),
    case("sub", two(normal, normal)),
    case("mul", two(normal, normal)),
    case("div", two(normal, positive)),
    case("neg", one(normal)),
    case("pow", one(normal), lambda x: F.pow(x, 2)),
    case("pow.cube", one(normal), lambda x: F.pow(x, 3)),
    case("pow.inverse", one(positive), lambda x: F.pow(x, -1.5)),
    case("exp", one(normal)),
    case("log", one(positive)),
    case("clip", lambda rng: (apart(rng, lengths(rng, 2)), {"low": -0.4, "high": 0.5})),
    case("sum", reduced(normal)),
    case("mean", reduced(normal)),
    case("logsumexp", reduced(normal)),
    case("reshape", draw_reshape),
    case("transpose", draw_transpose),
    case("broadcast_to", draw_broadcast_to),
    case("concat", draw_concat, lambda *tensors, axis: F.concat(tensors, axis)),
    case("split", draw_split),
    case("split.last", draw_split_of_the_last_axis),
    case("stack", draw_stack, lambda *tensors, axis: F.stack(tensors, axis)),
    case("getitem", draw_slices),
    case("getitem.integers", draw_integers),
    case("getitem.mask", draw_mask),
    case("matmul", draw_matmul),
    case("linear", draw_linear),
    case("relu", one(kinked)),
    case("leaky_relu", one(kinked)),
    case("silu", one(normal)),
    case("sigmoid", one(normal)),
    case("tanh", one(normal)),
    case("softplus", one(normal)),
    case("log_softmax", draw_softmax),
    case("conv2d", draw_conv),
    case("conv2d.onto", draw_conv_onto, lambda x, w, b, a, **options: F.conv2d(x, w, b, **options, onto=a)),
    case("conv_transpose2d", draw_conv_transpose),
    case("max_pool2d", draw_pool),
    case("group_norm", draw_group_norm),
    case("group_norm_silu", draw_group_norm),
    case("group_norm_silu.modulated", draw_modulated, modulated),
    case("layer_norm", draw_layer_norm),
    case("layer_norm.of_each", draw_layer_norm_of_each),
    case("scaled_dot_product_attention", draw_attention),
    case("dropout", draw_dropout, lambda x, p, seed: F.dropout(x, p, np.random.default_rng(seed))),
    case("mse", two_of_one_shape(normal, normal)),
    case("bce_with_logits", two_of_one_shape(normal, unit)),
    case("cross_entropy", draw_cross_entropy),
    case("gaussian_kl", two_of_one_shape(normal, normal)),
]
