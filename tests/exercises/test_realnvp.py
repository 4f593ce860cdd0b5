"""Judges the exercises on RealNVP: inverses by going there and back, determinants by numerical Jacobians."""

import math

import numpy as np
import pytest

from generators.families.flow import bijectors, realnvp
from generators.parts import patches
from nn import functional as F
from nn.tensor import Parameter, Tensor
from tests.exercises.trial import Trial, bare, normal
from tests.oracles.numeric import vjp

SHAPES = [(3, 4), (2, 2, 2, 3)]


def coupled(b, log_scale, shift):
    return b * np.exp(log_scale) + shift


@pytest.mark.exercise(id="coupling-forward")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_couple(shape):
    b, log_scale, shift = normal(shape, 0), normal(shape, 1), normal(shape, 2)
    trial = Trial("couple(b, log_scale, shift)", b=b, log_scale=log_scale, shift=shift)
    got = trial.run(bijectors.couple, Tensor(b), Tensor(log_scale), Tensor(shift))
    trial.require(isinstance(got, tuple) and len(got) == 2, "a pair is wanted: z and log_det")
    instead = {
        "log_scale is used as the scale itself: exp(log_scale)": b * log_scale + shift,
        "shift before scaling, where it comes after": (b + shift) * np.exp(log_scale),
        "this is the inverse": (b - shift) * np.exp(-log_scale),
        "the scale is inverted: a sign in the exponent": b * np.exp(-log_scale) + shift,
        "the sign of the shift": b * np.exp(log_scale) - shift,
    }
    trial.expect(got[0], coupled(b, log_scale, shift), "z", instead=instead)
    determinants = []
    for n in range(shape[0]):  # the Jacobian of one example at a time, column by column
        rows = [
            vjp(lambda x, n=n: (coupled(x, log_scale[n], shift[n]),), [b[n]], [unit])[0].ravel()
            for unit in np.eye(b[n].size).reshape(-1, *b[n].shape)
        ]
        determinants.append(np.linalg.slogdet(np.array(rows))[1])
    sums = log_scale.reshape(shape[0], -1)
    instead = {
        "the mean over an example, where the sum is wanted": sums.mean(1),
        "the sum of the scales, where that of their logarithms is wanted": np.exp(sums).sum(1),
    }
    log_det = got[1]
    if np.shape(getattr(log_det, "data", log_det)) == ():
        trial.require(False, f"one log_det came back; one for each example is wanted, shape ({shape[0]},)")
    trial.expect(log_det, np.array(determinants), "log_det", atol=1e-7, instead=instead)


@pytest.mark.exercise(id="coupling-inverse")
@pytest.mark.parametrize("which", ["z", "log_scale", "shift"])
def test_uncouple_lets_the_gradient_through(which):
    tensors = {
        name: Tensor(normal((2, 3), seed), name == which) for seed, name in enumerate(["z", "log_scale", "shift"])
    }
    trial = Trial(f"uncouple(z, log_scale, shift), where {which} wants a gradient")
    b = trial.run(bijectors.uncouple, *tensors.values())
    trial.require(getattr(b, "requires_grad", False), f"no gradient flows back to {which}", "something uses .data")


@pytest.mark.exercise(id="coupling-forward")
@pytest.mark.parametrize("which", ["b", "log_scale", "shift"])
def test_couple_lets_the_gradient_through(which):
    tensors = {
        name: Tensor(normal((2, 3), seed), name == which) for seed, name in enumerate(["b", "log_scale", "shift"])
    }
    trial = Trial(f"couple(b, log_scale, shift), where {which} wants a gradient")
    z, log_det = trial.run(bijectors.couple, *tensors.values())
    trial.require(getattr(z, "requires_grad", False), f"no gradient flows from z back to {which}")
    if which == "log_scale":
        trial.require(getattr(log_det, "requires_grad", False), "no gradient flows from log_det back to log_scale")


@pytest.mark.exercise(id="coupling-inverse")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_uncouple(shape):
    b, log_scale, shift = normal(shape, 0), normal(shape, 1), normal(shape, 2)
    z = coupled(b, log_scale, shift)
    trial = Trial("uncouple(z, log_scale, shift)", z=z, log_scale=log_scale, shift=shift)
    instead = {
        "this is the forward map again": coupled(z, log_scale, shift),
        "the scale is undone before the shift; the last is undone first": z * np.exp(-log_scale) - shift,
        "multiplied by the scale, where it has to be divided": (z - shift) * np.exp(log_scale),
        "the sign of the shift": (z + shift) * np.exp(-log_scale),
    }
    got = trial.run(bijectors.uncouple, Tensor(z), Tensor(log_scale), Tensor(shift))
    trial.expect(got, b, "b", rtol=1e-9, instead=instead)


@pytest.mark.exercise(id="actnorm")
@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (1, 4, 4, 3)], ids=str)
def test_actnorm_prepares_itself(shape):
    channels = np.arange(1, shape[-1] + 1)
    x = normal(shape, 0) * 3.0**channels + 10 * channels
    x[:1] += channels  # no image has the mean of them all
    layer = bijectors.ActNorm(shape[-1]).astype(np.float64)
    layer.log_scale.data[...], layer.shift.data[...] = 0.3, -0.2  # to be replaced, not added to
    held = [(layer.log_scale, layer.log_scale.data), (layer.shift, layer.shift.data)]
    trial = Trial("ActNorm.prepare(x, None)", x=x)
    got = trial.run(layer.prepare, Tensor(x), None)
    trial.require(isinstance(got, Tensor), f"a {type(got).__name__} came back; the next layer wants z, a Tensor")
    for name, (parameter, array) in zip(("log_scale", "shift"), held, strict=True):
        kept = getattr(layer, name) is parameter and np.shares_memory(parameter.data, array)
        cause = f"fill it where it is: self.{name}.data[...] = ..."
        trial.require(kept, f"{name} has another array now; the optimiser goes on with the first", cause)
    mean, deviation = x.mean(axis=(0, 1, 2)), x.std(axis=(0, 1, 2))
    instead = {
        "the scale is inverted: the deviation has to be divided by": x * deviation - mean / deviation,
        "multiplied by the deviation, where it has to be divided": (x - mean) * deviation,
        "the shift comes after the scale, so it has to be scaled, too": x / deviation - mean,
        "the mean is not taken away": x / deviation,
        "divided by the variance, not by its root": (x - mean) / deviation**2,
        "by the first image only": (x - x[0].mean(axis=(0, 1))) / x[0].std(axis=(0, 1)),
        "one mean and deviation for all channels": (x - x.mean()) / x.std(),
        "n - 1 in the variance: that of this batch has to be 1 exactly": (x - mean) / x.std(axis=(0, 1, 2), ddof=1),
    }
    instead = {cause: z for cause, z in instead.items() if not np.allclose(z, (x - mean) / deviation, rtol=1e-3)}
    trial.expect(got, (x - mean) / deviation, "z", rtol=1e-4, atol=1e-5, instead=instead)
    another = normal(shape, 1)
    z, log_det = layer.forward(Tensor(another), None)
    trial.expect(z, (another - mean) / deviation, "the z of another batch, later", rtol=1e-4, atol=1e-5)
    log_dets = np.full(shape[0], -shape[1] * shape[2] * np.log(deviation).sum())
    trial.expect(log_det, log_dets, "its log_det", rtol=1e-4, atol=1e-5)


@pytest.mark.exercise(id="actnorm")
def test_actnorm_where_a_channel_never_changes():
    x = normal((2, 2, 2, 2), 0)
    x[..., 1] = 0.5
    layer = bijectors.ActNorm(2).astype(np.float64)
    trial = Trial("ActNorm.prepare(x, None)", "where a channel is the same everywhere", x=x)
    got = trial.run(layer.prepare, Tensor(x), None)
    finite = np.isfinite(np.array(getattr(got, "data", got), float)).all() and np.isfinite(layer.log_scale.data).all()
    trial.require(finite, "infinite or not a number", "its deviation is 0: add a little before you divide by it")


@pytest.mark.exercise(id="squeeze")
@pytest.mark.parametrize(
    "shape, p",
    [((1, 2, 2, 1), 2), ((2, 4, 4, 1), 2), ((1, 2, 4, 3), 2), ((2, 6, 4, 2), 2), ((2, 6, 3, 2), 3), ((1, 2, 3, 2), 1)],
    ids=str,
)
def test_squeeze(shape, p):
    n, h, w, c = shape
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape) + 1
    tags = ("with several channels", c > 1), ("where H is not W", h != w), ("with patches of another size", p != 2)
    trial = Trial(f"squeeze(x, {p})", *[tag for tag, fits in tags if fits], x=x)
    expected = np.zeros((n, h // p, w // p, p * p * c))
    other = np.zeros_like(expected)
    for i, j in np.ndindex(p, p):
        for k in range(c):
            expected[..., (p * i + j) * c + k] = x[:, i::p, j::p, k]
            other[..., k * p * p + p * i + j] = x[:, i::p, j::p, k]
    instead = {"the channels are outermost; they belong innermost: row, column, channel": other}
    trial.expect(trial.run(patches.squeeze, Tensor(x), *([p] if p != 2 else [])), expected, instead=instead)


@pytest.mark.exercise(id="squeeze")
def test_squeeze_lets_the_gradient_through():
    x = Parameter(normal((1, 4, 2, 3), 0))
    trial = Trial("squeeze(x), where x wants a gradient", x=x.data)
    y = trial.run(patches.squeeze, x)
    trial.require(getattr(y, "requires_grad", False), "no gradient flows back to x", "work with tensors, not .data")
    grad = normal((1, 2, 1, 12), 1)
    y.backward(grad)
    expected = np.zeros(x.shape)
    for i, j in np.ndindex(2, 2):
        expected[:, i::2, j::2] = grad[..., (2 * i + j) * 3 : (2 * i + j) * 3 + 3]
    trial.expect(x.grad, expected, "the gradient of x")


@pytest.mark.exercise(id="tubelets")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "counts, edges, c",
    [
        ((2, 3), 2, 1), ((1, 1), 2, 3), ((2, 1), (1, 3), 2), ((3, 2, 2), (3, 2, 4), 1), ((2, 1, 3), 2, 2),
        ((1, 2, 1), (2, 1, 1), 3), ((4,), 2, 1),
    ],
    ids=str,
)  # fmt: skip
def test_unsqueeze(counts, edges, c, dtype):
    edge = (edges,) * len(counts) if isinstance(edges, int) else edges
    inside = math.prod(edge) * c
    x = np.arange(2 * math.prod(counts) * inside, dtype=dtype).reshape(2, *counts, inside) + 1
    tags = ("of films", len(counts) == 3), ("where edges differ", len(set(edge)) > 1), ("with several channels", c > 1)
    trial = Trial(f"unsqueeze(x, {edges})", *[tag for tag, fits in tags if fits], x=x)
    expected = np.zeros((2, *(count * e for count, e in zip(counts, edge, strict=True)), c), dtype)
    strided, outermost, turned = (np.zeros_like(expected) for _ in range(3))
    for place in np.ndindex(*expected.shape[1:]):
        (*pixel, channel) = place
        patch = tuple(p // e for p, e in zip(pixel, edge, strict=True))
        offset = 0
        for p, e in zip(pixel, edge, strict=True):
            offset = offset * e + p % e
        expected[(slice(None), *place)] = x[(slice(None), *patch, offset * c + channel)]
        backwards = 0
        for p, e in zip(pixel[::-1], edge[::-1], strict=True):
            backwards = backwards * e + p % e
        turned[(slice(None), *place)] = x[(slice(None), *patch, backwards * c + channel)]
        outermost[(slice(None), *place)] = x[(slice(None), *patch, channel * math.prod(edge) + offset)]
        apart = tuple(p % n for p, n in zip(pixel, counts, strict=True))
        offset = 0
        for p, n, e in zip(pixel, counts, edge, strict=True):
            offset = offset * e + p // n
        strided[(slice(None), *place)] = x[(slice(None), *apart, offset * c + channel)]
    instead = {
        "the channels are outermost; they belong innermost: place in the patch, then channel": outermost,
        "a patch's pixels are far apart; the axis inside a patch comes after the axis of patches": strided,
        "within a patch the axes are exchanged: row, then column": turned,
        "a reshape alone: the axes have to change places first": x.reshape(expected.shape),
    }
    instead = {cause: value for cause, value in instead.items() if not np.array_equal(value, expected)}
    got = trial.run(patches.unsqueeze, Tensor(x), *([edges] if edges != 2 else []))
    trial.expect(got, expected, dtype=dtype, instead=instead)


@pytest.mark.exercise(id="tubelets")
def test_the_number_of_a_token_is_its_place():
    """As the transformer counts: frames first, then rows, then columns."""
    t, h, w = 2, 3, 4
    tokens = np.arange(t * h * w, dtype=float).reshape(1, t, h, w, 1).repeat(8, axis=-1)
    trial = Trial("unsqueeze(x, 2), where each of 2 x 3 x 4 tubelets is full of its number")
    got = trial.run(patches.unsqueeze, Tensor(tokens))
    grid = np.array([[[[(i // 2 * h + j // 2) * w + k // 2] for k in range(8)] for j in range(6)] for i in range(4)])
    trial.expect(got, grid[None].astype(float), "the film")


@pytest.mark.exercise(id="tubelets")
def test_unsqueeze_lets_the_gradient_through():
    x = Parameter(normal((1, 2, 1, 12), 0))
    trial = Trial("unsqueeze(x), where x wants a gradient", x=x.data)
    y = trial.run(patches.unsqueeze, x)
    trial.require(getattr(y, "requires_grad", False), "no gradient flows back to x", "work with tensors, not .data")
    grad = normal((1, 4, 2, 3), 1)
    y.backward(grad)
    expected = np.zeros(x.shape)
    for i, j in np.ndindex(2, 2):
        expected[..., (2 * i + j) * 3 : (2 * i + j) * 3 + 3] = grad[:, i::2, j::2]
    trial.expect(x.grad, expected, "the gradient of x")


@pytest.mark.exercise(id="dequantise")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("made", ["divided", "nearly"])
def test_dequantise(dtype, made):
    levels = np.arange(256).reshape(2, 8, 16, 1)  # every gray value: cut off, not rounded, some of them are one less
    images = (levels / 255).astype(dtype)
    images = images if made == "divided" else images * (1 - 2 * np.finfo(dtype).eps)  # as by * (1 / 255), say
    noise = np.random.default_rng(0).uniform(0.05, 0.95, levels.shape).astype(dtype)
    trial = Trial("dequantise(images, noise)", images=images, noise=noise)
    got = trial.run(realnvp.dequantise, images, noise)
    expected = (levels + noise.astype(np.float64)) / 256
    instead = {
        "divided by 255: there are 256 values, each an interval of its own": expected * 256 / 255,
        "the images are in [0, 1]: bring them back to 0 ... 255 first": (images + noise) / 256,
        "the noise has to be as wide as one gray value": images + noise,
        "cut off, where it has to be rounded": (np.floor(images * dtype(255)) + noise) / 256,
        "255 is not 256: a gray value is round(image * 255)": images + noise / 256,
    }
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, expected)}
    trial.expect(got, expected, rtol=1e-6, atol=1e-7, dtype=dtype, instead=instead)


@pytest.mark.exercise(id="bits-per-dimension")
@pytest.mark.parametrize("dimensions", [1, 784])
def test_bits_per_dimension(dimensions):
    log_density = np.array([0.0, -3.0, 2.5, 40.0]) * dimensions**0.5
    trial = Trial(f"bits_per_dimension(log_density, {dimensions})", log_density=log_density)
    got = trial.run(realnvp.bits_per_dimension, log_density, dimensions)
    bits = [-np.log2(np.exp(np.longdouble(v) / dimensions) / 256) for v in log_density]
    expected = np.asarray(bits, float)
    nats = log_density / dimensions
    instead = {
        "nats, not bits: divide by log(2)": 8 - nats,
        "the 8 bits of a gray value's interval are missing": -nats / np.log(2),
        "the sign: a likelier image costs fewer bits": 8 + nats / np.log(2),
        "not divided by the number of dimensions": 8 - log_density / np.log(2),
        "multiplied by log(2), where it has to be divided": 8 - nats * np.log(2),
    }
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, expected)}
    trial.expect(got, expected, "the bits", instead=instead)


@pytest.mark.exercise(id="bits-per-dimension")
def test_bits_per_dimension_of_a_tensor_can_be_trained():
    log_density = Parameter(normal((3,), 0))
    trial = Trial("bits_per_dimension(log_density, 5), a tensor that wants a gradient", log_density=log_density.data)
    got = trial.run(realnvp.bits_per_dimension, log_density, 5)
    trial.require(
        getattr(got, "requires_grad", False), "no gradient flows back", "of a tensor, a tensor: +, -, * and / will do"
    )
    trial.expect(got, 8 - log_density.data / (5 * np.log(2)), "the bits")
    got.backward(np.ones(3))
    trial.expect(log_density.grad, np.full(3, -1 / (5 * np.log(2))), "the gradient")


@pytest.mark.exercise(id="bits-per-dimension")
def test_a_density_that_knows_nothing_costs_eight_bits():
    trial = Trial("bits_per_dimension(0.0, 12)")
    trial.expect(trial.run(realnvp.bits_per_dimension, 0.0, 12), 8.0, "the bits", rtol=1e-12)


@pytest.mark.exercise(id="actnorm")
def test_actnorm_stays_float32():
    x = normal((3, 2, 2, 2), 0, np.float32)
    trial = Trial("ActNorm.prepare(x, None)", "in float32", x=x)
    got = trial.run(bijectors.ActNorm(2).prepare, Tensor(x), None)
    right = (x - x.mean(axis=(0, 1, 2))) / x.std(axis=(0, 1, 2))
    trial.expect(got, right, "z", rtol=1e-3, atol=1e-4, dtype=np.float32)


class Stretch:
    """z = s x + c, whose log-determinant it says wrongly on purpose: what is said counts, and differs by image."""

    def __init__(self, dtype=np.float64):
        self.scale = Parameter(np.array([1.5], dtype))

    def forward(self, x, condition):
        z = F.reshape(x, (x.shape[0], -1)) * self.scale + condition
        return z, F.sum(x * x, axis=(1, 2, 3)) * 0.2 * F.reshape(self.scale, ())

    def inverse(self, z, condition):
        raise AssertionError("the likelihood goes from image to noise: forward")


def tiny_flow(slope):
    """A RealNVP whose dequantiser, if there is one, and whose flow are one-liners."""
    model = bare(realnvp.RealNVP)
    model.config = realnvp.RealNVPConfig(image_size=2)
    model.dimensions, model.flow = 4, Stretch()
    point = realnvp.dequantise
    model.dequantiser = None if slope is None else lambda images, noise, _: (Tensor(point(images, noise)), slope)
    return model


@pytest.mark.exercise(id="flow-likelihood")
@pytest.mark.parametrize("learned", [False, True], ids=["uniform", "learned"])
def test_log_likelihood(learned):
    images, noise = np.random.default_rng(0).random((2, 3, 2, 2, 1))
    condition, slope = Tensor(normal((3, 4), 1)), Parameter(normal((3,), 2)) if learned else None
    model, x = tiny_flow(slope), (np.rint(images * 255) + noise) / 256
    tags = ["where the dequantiser stretches, too"] if learned else []
    trial = Trial("RealNVP.log_likelihood(images, condition, noise)", *tags, images=images, noise=noise)
    got = trial.run(model.log_likelihood, images, condition, noise)
    z = 1.5 * x.reshape(3, 4) + condition.data
    squares = (x**2).sum(axis=(1, 2, 3))
    gaussian, log_det = -(z**2 + np.log(2 * np.pi)).sum(axis=1) / 2, 0.3 * squares
    inside = slope.data if learned else 0.0
    right = gaussian + log_det + inside
    instead = {
        "the sign of log_det: where the flow stretches, an image is more likely": gaussian - log_det + inside,
        "log_det is missing": gaussian + inside,
        "the slope of the dequantiser is missing": gaussian + log_det,
        "the density of the noise is missing": log_det + inside,
        "this is minus the log-likelihood": -right,
    }
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, right)}
    trial.expect(got, right, "the log-likelihood", instead=instead)
    trial.require(getattr(got, "requires_grad", False), "no gradient flows back", "work with tensors, not with .data")
    got.backward(np.ones(3))
    by_z = -(z * x.reshape(3, 4)).sum()
    instead = {"through z alone: log_det has to stay a tensor": [by_z], "z has to stay a tensor": [0.2 * squares.sum()]}
    scale = model.flow.scale
    trial.require(scale.grad is not None, "no gradient reaches the flow's parameters", "something uses .data")
    trial.expect(scale.grad, [by_z + 0.2 * squares.sum()], "the gradient of a parameter of the flow", instead=instead)
    if learned:
        trial.require(slope.grad is not None, "no gradient reaches the dequantiser", "log_slope has to stay a tensor")
        trial.expect(slope.grad, np.ones(3), "the gradient of log_slope")


@pytest.mark.exercise(id="flow-likelihood")
def test_log_likelihood_stays_float32():
    images, noise = np.random.default_rng(0).random((2, 3, 2, 2, 1), dtype=np.float32)
    condition, model = Tensor(normal((3, 4), 1, np.float32)), tiny_flow(None)
    model.flow = Stretch(np.float32)
    trial = Trial("RealNVP.log_likelihood(images, condition, noise)", "in float32", images=images, noise=noise)
    got = trial.run(model.log_likelihood, images, condition, noise)
    x = (np.rint(images * 255) + noise) / 256
    z = 1.5 * x.reshape(3, 4) + condition.data
    right = -(z**2 + np.log(2 * np.pi)).sum(axis=1) / 2 + 0.3 * (x**2).sum(axis=(1, 2, 3))
    trial.expect(got, right, "the log-likelihood", rtol=1e-4, dtype=np.float32)
