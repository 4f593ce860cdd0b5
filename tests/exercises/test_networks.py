"""Judges the exercises on networks: parameters and their start, activations, losses, optimisers."""

import numpy as np
import pytest

from nn import init
from nn.modules import Module, Sequential
from nn.muon import POLYNOMIALS, polar
from nn.ops.activation import LogSoftmax, Relu
from nn.ops.loss import CrossEntropy
from nn.optim import EMA, Adam, Momentum
from nn.tensor import Parameter, Tensor
from tests.exercises.trial import Trial, context, normal
from tests.oracles import elementary

IGNORED = "the incoming gradient is ignored: this is what a gradient of ones would give"
EXTREME = "only at extreme values"  # reads: "wrong only ..."


class Layer(Module):
    def __init__(self, inputs, outputs, bias=True):
        self.weight = Parameter(np.zeros((inputs, outputs), np.float32))
        self.bias = Parameter(np.zeros(outputs, np.float32)) if bias else None


class Tree(Module):
    """Modules in modules, a list, a shared parameter, a buffer, and things that are no parameters."""

    def __init__(self):
        self.zebra = Parameter(np.zeros(1, np.float32))
        self.blocks = [Layer(1, 2), Parameter(np.ones(2, np.float32)), Layer(2, 1, bias=False)]
        self.name, self.size, self.nothing = "tree", 3, None
        self.running, self.constant = np.zeros(4), Tensor(np.zeros(2, np.float32))
        self.inner = Sequential(Layer(1, 1), Sequential(self.blocks[0], np.tanh))
        self.alpha = Parameter(np.zeros(3, np.float32))
        self.again = self.zebra


TREE = [
    "zebra",
    "blocks.0.weight",
    "blocks.0.bias",
    "blocks.1",
    "blocks.2.weight",
    "inner.layers.0.weight",
    "inner.layers.0.bias",
    "alpha",
]


@pytest.mark.exercise(id="parameters")
@pytest.mark.parametrize("kind", ["one_layer", "layers_in_a_list", "tree"])
def test_named_parameters(kind):
    module, names = {
        "one_layer": (Layer(2, 3), ["weight", "bias"]),
        "layers_in_a_list": (
            Sequential(Layer(2, 3), Layer(3, 1, bias=False)),
            ["layers.0.weight", "layers.0.bias", "layers.1.weight"],
        ),
        "tree": (Tree(), TREE),
    }[kind]
    trial = Trial("module.named_parameters()", "where modules are nested" if kind != "one_layer" else "on one layer")
    got = trial.run(module.named_parameters)
    pairs = isinstance(got, list) and all(isinstance(p, tuple) and len(p) == 2 for p in got)
    trial.require(pairs, f"a {type(got).__name__} came back", "a list of pairs (name, parameter) is wanted")
    mine = [name for name, _ in got]
    cause = ""
    if sorted(mine) == sorted(names):
        cause = "the right ones in another order: it is that of definition, depth first"
    elif len(mine) > len(names) and set(mine) >= set(names):
        cause = "a parameter that is shared appears twice, or something is listed that is no parameter"
    trial.require(mine == names, f"the names are {mine}; expected {names}", cause)
    for name, parameter in got:
        found = module
        for part in name.split("."):
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        trial.require(parameter is found, f"{name} does not come with its own parameter")


@pytest.mark.exercise(id="he-initialisation")
@pytest.mark.parametrize("shape, fan_in", [((400, 300), 400), ((3, 3, 40, 200), 360), ((1, 5, 100, 100), 500)], ids=str)
def test_he(shape, fan_in):
    trial = Trial(f"he({shape}, rng)", "with convolution kernels" if len(shape) > 2 else "with matrices")
    got = trial.run(init.he, shape, np.random.default_rng(0))
    trial.require(isinstance(got, np.ndarray) and got.shape == shape, f"an array of shape {shape} is wanted")
    trial.require(got.dtype == np.float32, f"the dtype is {got.dtype}", "weights are float32: .astype, or dtype=")
    std, right = float(got.std()), np.sqrt(2 / fan_in)
    causes = {
        np.sqrt(1 / fan_in): "the factor 2 is missing: variance 2 / fan_in",
        np.sqrt(2 / shape[-1]): "fan_out is taken for fan_in",
        2 / fan_in: "the variance is taken for the deviation",
        np.sqrt(2 / shape[-2]): "the window of the kernel is not counted in fan_in",
    }
    cause = next((c for value, c in causes.items() if abs(std / value - 1) < 0.03), "")
    trial.require(
        abs(std / right - 1) < 0.03, f"the deviation is {std:.4g}, not sqrt(2 / {fan_in}) = {right:.4g}", cause
    )
    trial.require(abs(got.mean()) < 5 * right / np.sqrt(got.size), f"the mean is {got.mean():.3g}, not 0")
    rows = got.reshape(-1, shape[-1])
    trial.require(
        np.ptp(rows[:, 0]) > 0 and np.ptp(rows[0]) > 0, "rows or columns are the same", "draw the whole shape"
    )
    share = np.mean(np.abs(got) > 2 * right)
    cause = "uniform numbers; normal numbers are wanted" if share == 0 else ""
    trial.require(0.03 < share < 0.06, f"{share:.1%} lie beyond two deviations; of normal numbers it is 4.6%", cause)


@pytest.mark.exercise(id="he-initialisation")
def test_he_draws_from_the_rng_it_is_given():
    trial = Trial("he((20, 20), rng), twice")
    rng = np.random.default_rng(1)
    first, second = trial.run(init.he, (20, 20), rng), trial.run(init.he, (20, 20), rng)
    again = trial.run(init.he, (20, 20), np.random.default_rng(1))
    trial.require(not np.array_equal(first, second), "two draws from one rng are the same", "a generator of your own")
    trial.require(
        np.array_equal(first, again), "the same seed gives other numbers", "numbers that do not come from rng"
    )


@pytest.mark.exercise(id="relu-backward")
@pytest.mark.parametrize("shape", [(6,), (2, 3, 4)], ids=str)
def test_relu_backward(shape):
    x, grad = normal(shape, 0), normal(shape, 1)
    ctx = context(Relu, (True,))
    Relu.forward(ctx, x)
    trial = Trial("Relu.backward(ctx, grad)", x=x, grad=grad)
    expected = np.array([g if v > 0 else 0.0 for v, g in zip(x.flat, grad.flat, strict=True)]).reshape(shape)
    instead = {
        IGNORED: (x > 0) * 1.0,
        "the gradient is stopped where x is positive, and passed where it is negative": grad * (x < 0),
        "this is relu of the gradient; what counts is the sign of x": np.maximum(grad, 0),
    }
    trial.expect(trial.run(Relu.backward, ctx, grad), expected, "the gradient of x", instead=instead)


@pytest.mark.exercise(id="relu-backward")
def test_relu_backward_at_zero():
    x, grad = np.array([-1.0, 0.0, 2.0]), normal((3,), 1)
    ctx = context(Relu, (True,))
    Relu.forward(ctx, x)
    trial = Trial("Relu.backward(ctx, grad)", "where x is exactly 0", x=x, grad=grad)
    trial.expect(trial.run(Relu.backward, ctx, grad), [0, 0, grad[2]], "the gradient of x")


SOFT = [
    ((4,), -1, 0.0),
    ((3, 4), -1, 0.0),
    ((3, 4), 0, 0.0),
    ((2, 3, 4), 1, 0.0),
    ((3, 4), -1, 1e4),
    ((3, 4), -1, -1e4),
]


def epsilons(e, x, axis):
    """What an epsilon inside the logarithm would give: cause -> log-softmax of x, e being exp(x - max)."""
    total, cause = (
        e.sum(axis, keepdims=True),
        "an epsilon inside the logarithm: the sum is at least 1, nothing is needed",
    )
    return {f"{cause} ({eps:.0e})": np.log(e) - np.log(total + eps) for eps in (1e-3, 1e-5, 1e-6, 1e-7, 1e-8)}


def rows_of(function, x, axis):
    return np.apply_along_axis(function, axis, x)


@pytest.mark.exercise(id="log-softmax")
@pytest.mark.parametrize("shape, axis, shift", SOFT, ids=str)
def test_log_softmax(shape, axis, shift):
    x = normal(shape, 0) * 3 + shift
    trial = Trial(f"LogSoftmax.forward(ctx, x, axis={axis})", *([EXTREME] if shift else []), x=x)
    ctx = context(LogSoftmax, (True,))
    got = trial.run(LogSoftmax.forward, ctx, x, axis=axis)
    expected = rows_of(elementary.log_softmax, x, axis)
    others = {
        f"along axis {other} instead of {axis}": rows_of(elementary.log_softmax, x, other)
        for other in range(x.ndim)
        if other != axis % x.ndim
    }
    instead = {"this is softmax, without the logarithm": np.exp(expected), **others}
    trial.expect(got, expected, instead={**instead, **epsilons(np.exp(x - x.max(axis, keepdims=True)), x, axis)})
    (y,) = trial.expect_saved(ctx, "y")
    trial.expect(y, expected, "what ctx.save() was given", instead={"x is saved; backward reads y: ctx.save(y)": x})
    kept = getattr(ctx, "axis", None)
    good = isinstance(kept, int | np.integer) and kept % x.ndim == axis % x.ndim
    trial.require(good, f"ctx.axis is {kept}; the axis is {axis}", "backward reads it: ctx.axis = axis")


@pytest.mark.exercise(id="log-softmax")
def test_log_softmax_of_far_apart_values():
    x = np.array([[0.0, -1e4, 1e4], [-800.0, 0.0, 800.0]])
    trial = Trial("LogSoftmax.forward(ctx, x, axis=-1)", EXTREME, x=x)
    got = trial.run(LogSoftmax.forward, context(LogSoftmax, (True,)), x, axis=-1)
    trial.expect(got, rows_of(elementary.log_softmax, x, -1))


@pytest.mark.exercise(id="log-softmax-backward")
@pytest.mark.parametrize("shape, axis, shift", SOFT[:4], ids=str)
def test_log_softmax_backward(shape, axis, shift):
    x, grad = normal(shape, 0), normal(shape, 1)
    ctx = context(LogSoftmax, (True,))
    ctx.save(rows_of(elementary.log_softmax, x, axis))
    ctx.axis = axis
    trial = Trial(f"LogSoftmax.backward(ctx, grad), along axis {axis}", x=x, grad=grad)
    p = np.exp(rows_of(elementary.log_softmax, x, axis))
    jacobian_ones = np.ones_like(x) - p * shape[axis]
    expected = grad - p * grad.sum(axis=axis, keepdims=True)
    instead = {
        IGNORED: jacobian_ones,
        "only the diagonal of the Jacobian: each x_k moves its whole row": grad * (1 - p),
        "the softmax is forgotten: exp(y)": grad - np.log(p) * grad.sum(axis=axis, keepdims=True),
    }
    trial.expect(trial.run(LogSoftmax.backward, ctx, grad), expected, "the gradient of x", instead=instead)


@pytest.mark.exercise(id="cross-entropy")
@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4], ids=["small", "large", "negative"])
def test_cross_entropy(shift):
    logits, labels = normal((4, 6), 0) * 2 + shift, np.array([3, 0, 4, 0])  # the classes 1, 2 and 5 are absent
    trial = Trial(
        "CrossEntropy.forward(ctx, logits, labels)", *([EXTREME] if shift else []), logits=logits, labels=labels
    )
    got = trial.run(CrossEntropy.forward, context(CrossEntropy, (True, False)), logits, labels)
    expected = elementary.cross_entropy(logits, labels)
    instead = {"this is the probability of each label, not minus its logarithm": np.exp(-expected)}
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    few = np.log(e[:, : labels.max() + 1].sum(axis=1)) + logits.max(axis=1) - logits[np.arange(4), labels]
    instead["the classes after the largest label are left out: there are as many as logits has columns"] = few
    instead |= {cause: -y[np.arange(4), labels] for cause, y in epsilons(e, logits, 1).items()}
    if np.ndim(got) == 0:
        trial.require(
            False,
            "one number came back; one loss for each example is wanted, shape (4,)",
            "the mean is the caller's to take",
        )
    trial.expect(got, expected, "the loss", instead=instead)


@pytest.mark.exercise(id="cross-entropy")
def test_cross_entropy_of_far_apart_logits_and_what_backward_finds():
    logits, labels = np.array([[0.0, 900.0, -900.0], [1.0, 2.0, 3.0]]), np.array([2, 0])
    ctx = context(CrossEntropy, (True, False))
    trial = Trial("CrossEntropy.forward(ctx, logits, labels)", EXTREME, logits=logits, labels=labels)
    trial.expect(
        trial.run(CrossEntropy.forward, ctx, logits, labels), elementary.cross_entropy(logits, labels), "the loss"
    )
    grad = np.array([2.0, 3.0])
    trial = Trial(
        "CrossEntropy.backward(ctx, grad), on what your forward has left in ctx", logits=logits, labels=labels
    )
    p = np.exp([elementary.log_softmax(row) for row in logits])
    expected = grad[:, None] * (p - np.eye(3)[labels])
    trial.expect_saved(ctx, "p, rows, labels")
    trial.expect(trial.run(CrossEntropy.backward, ctx, grad)[0], expected, "the gradient of the logits", atol=1e-8)


def steps(optimiser, values, rates, scale, dtype):
    """Run the learner's optimiser, checking at each step that the array itself is what changes."""
    trial = None
    for step, rate in enumerate(rates):
        gradient = normal(values.shape, 10 + step, dtype)
        call = f"{type(optimiser).__name__}.step(gradient, rate={rate}, scale={scale}), call {step + 1}"
        tags = [] if step == 0 else ["after the first step"]
        trial = Trial(call, *tags, values=values, gradient=gradient, mutable=("values",))
        trial.run(optimiser.step, gradient, rate, scale)
        trial.require(
            optimiser.values is values, "optimiser.values is another array now", "write into it: -= or [...] ="
        )
        cause = "the caller's gradient is kept; its array is written anew at every step: copy it"
        kept = any(np.shares_memory(array, gradient) for array in optimiser.state().values())
        trial.require(not kept, "what the optimiser remembers is the array that it was given", cause)
        yield trial, gradient, rate


@pytest.mark.exercise(id="momentum")
@pytest.mark.parametrize("momentum, scale", [(0.9, 1.0), (0.5, 0.25), (0.0, 2.0)])
def test_momentum(momentum, scale):
    values = normal((4,), 0)
    expected, velocity = values.copy(), np.zeros(4)
    for trial, gradient, rate in steps(Momentum(values, momentum), values, [0.1, 0.3, 0.1], scale, np.float64):
        damped = expected - rate * (momentum * velocity + (1 - momentum) * scale * gradient)
        plain = expected - rate * scale * gradient
        velocity = momentum * velocity + scale * gradient
        instead = {
            "`scale` is not used": expected - rate * (velocity + (1 - scale) * gradient),
            "the gradient is not to be multiplied by 1 - momentum": damped,
            "the velocity does not last from step to step": plain,
        }
        expected = expected - rate * velocity
        instead = {cause: array for cause, array in instead.items() if not np.allclose(array, expected)}
        trial.expect(values, expected, "values", instead=instead)


@pytest.mark.exercise(id="adam")
@pytest.mark.parametrize(
    "betas, epsilon, scale", [((0.9, 0.999), 1e-8, 1.0), ((0.5, 0.8), 0.1, 1.0), ((0.8, 0.9), 1e-3, 0.1)], ids=str
)
def test_adam(betas, epsilon, scale):
    values = normal((4,), 0)
    expected, m, v = values.copy(), np.zeros(4), np.zeros(4)
    b1, b2 = betas
    optimiser = Adam(values, betas, epsilon)
    for t, (trial, gradient, rate) in enumerate(
        steps(optimiser, values, [0.1, 0.3, 0.1, 0.2], scale, np.float64), start=1
    ):
        g = scale * gradient
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        corrected, root = m / (1 - b1**t), np.sqrt(v / (1 - b2**t))
        instead = {
            "the moments are not corrected for starting at zero": expected - rate * m / (np.sqrt(v) + epsilon),
            "epsilon belongs outside of the root": expected - rate * corrected / np.sqrt(root**2 + epsilon),
            "the root is missing": expected - rate * corrected / (root**2 + epsilon),
            "t is off by one in the correction": expected
            - rate * m / (1 - b1 ** (t + 1)) / (np.sqrt(v / (1 - b2 ** (t + 1))) + epsilon),
            "the sign of the step: it goes against the gradient": expected + rate * corrected / (root + epsilon),
        }
        expected = expected - rate * corrected / (root + epsilon)
        trial.expect(values, expected, "values", instead=instead)
    trial.require(int(optimiser.count) == 4, f"optimiser.count is {int(optimiser.count)} after 4 steps")
    trial.expect(optimiser.state()["m"], m, "the first moment in state()")
    trial.expect(optimiser.state()["v"], v, "the second moment in state()")


@pytest.mark.exercise(id="ema")
@pytest.mark.parametrize("decay", [0.999, 0.2], ids=["warming_up", "warm"])
def test_ema(decay):
    values = normal((3,), 0)
    average = EMA(values, decay)
    own, expected = average.average, values.copy()
    for n in range(4):
        values += normal((3,), 20 + n)
        d = min(decay, (1 + n) / (10 + n))
        tags = ["after the first update"] if n else []
        trial = Trial(f"EMA.update(), decay={decay}, call {n + 1}", *tags, values=values, average=expected)
        trial.run(average.update)
        trial.require(average.average is own, "ema.average is another array now", "write into it: [...] =")
        instead = {
            "the decay has no warm-up: current_decay()": decay * expected + (1 - decay) * values,
            "the two weights are exchanged": (1 - d) * expected + d * values,
            "the average is not used, only the new values": values.copy(),
        }
        expected = d * expected + (1 - d) * values
        trial.expect(own, expected, "the average", instead=instead)
        trial.require(int(average.count) == n + 1, f"ema.count is {int(average.count)} after {n + 1} updates")


@pytest.mark.exercise(id="polar")
@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (1, 4), (4, 1)], ids=str)
@pytest.mark.parametrize("least", [0.0025, 1.0])
@pytest.mark.parametrize("size", [1.0, 1.5, 1e-4, 1e4])
def test_polar(shape, least, size):
    u, _, vt = np.linalg.svd(normal(shape, 0), full_matrices=False)
    s = np.geomspace(1, least, len(vt))
    matrix = size * (u * s) @ vt
    trial = Trial("polar(matrix)", *["for a matrix that is higher than wide"] * (shape[0] > shape[1]), matrix=matrix)
    got = trial.run(polar, matrix)
    # In the matrix's own axes a right answer is diagonal; how near to 1 its lengths come is left open.
    lengths = np.ones(len(s))
    if np.shape(got) == shape and np.isfinite(got).all():
        lengths = np.clip(np.abs(np.diag(u.T @ np.asarray(got) @ vt.T)), 0.6, 1.4)
    expected = (u * lengths) @ vt

    def rounds(s, count):
        for a, b, c in POLYNOMIALS[:count]:
            s = a * s + b * s**3 + c * s**5
        return (u * s) @ vt

    def after(count):
        """So many rounds on a matrix divided by one norm or another: whichever is nearer to what was got."""
        guesses = [rounds(s / (s**power).sum() ** (1 / power), count) for power in (2, 4)]
        return min(guesses, key=lambda guess: np.abs(got - guess).max()) if np.shape(got) == shape else guesses[0]

    with np.errstate(all="ignore"):
        instead = {
            "the singular values are as they were: only the norm is divided out": after(0),
            "nothing has happened to the matrix": matrix,
            "the matrix was not divided by its norm first": rounds(size * s, len(POLYNOMIALS)),
            **{
                f"after {count} of {len(POLYNOMIALS)} rounds: each brings the singular values nearer to 1": after(count)
                for count in range(1, len(POLYNOMIALS))
            },
            "the sign is flipped: the step must point along the matrix": -expected,
        }
    instead = {cause: array for cause, array in instead.items() if not np.allclose(array, expected)}
    trial.expect(got, expected, "U V^T, roughly (singular values from 0.6 to 1.4)", atol=1e-6, instead=instead)
    trial = Trial("polar(zeros)", matrix=np.zeros(shape))
    trial.expect(trial.run(polar, np.zeros(shape)), np.zeros(shape), "the result for a matrix of zeros")
