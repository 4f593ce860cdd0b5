"""Judges the exercises on autograd: numerical derivatives, vector-Jacobian products, and the order of the graph."""

import numpy as np
import pytest

from nn import functional as F
from nn.differences import numerical_derivative
from nn.ops.elementwise import Exp, Mul
from nn.ops.matmul import MatMul
from nn.ops.reduce import Mean, Sum
from nn.tensor import Tensor, topological_order, unbroadcast
from tests.exercises.trial import Trial, context, normal
from tests.oracles.broadcasting import reduced
from tests.oracles.numeric import vjp

BROADCAST = "where an axis was broadcast"
IGNORED = "the incoming gradient is ignored: this is what a gradient of ones would give"


@pytest.mark.exercise(id="numerical-gradient")
@pytest.mark.parametrize("shape", [(3,), (2, 3)], ids=["vector", "matrix"])
def test_numerical_derivative_of_a_cubic(shape):
    x, v, a = normal(shape, 0), normal(shape, 1), normal(shape, 2)
    trial = Trial("numerical_derivative(f, x, direction), f(x) = a x^3 + x", keeps=False, x=x, direction=v)
    got = trial.run(numerical_derivative, lambda x: a * x**3 + x, x, v)
    slope = 3 * a * x**2 + 1
    instead = {"the direction is ignored: this is the derivative along a direction of ones": slope}
    trial.expect(got, slope * v, rtol=1e-7, atol=1e-8, instead=instead)


@pytest.mark.exercise(id="numerical-gradient")
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_numerical_derivative_from_one_space_to_another(size):
    x, v, m = normal((4,), 3) * size, normal((4,), 4), normal((2, 4), 5)
    call = "numerical_derivative(f, x, direction), f(x) = sin(M x), from 4 numbers to 2"
    trial = Trial(call, keeps=False, x=x, direction=v)
    got = trial.run(numerical_derivative, lambda x: np.sin(m @ x), x, v)
    trial.expect(got, np.cos(m @ x) * (m @ v), rtol=1e-6, atol=1e-8)


@pytest.mark.exercise(id="numerical-gradient")
def test_numerical_derivative_of_a_function_that_keeps_what_it_is_given():
    x, v, kept = normal((3,), 0), normal((3,), 1), []
    trial = Trial("numerical_derivative(f, x, direction), where f keeps its argument", keeps=False, x=x, direction=v)

    def f(x):
        kept.append((x, x.copy()))
        return x**2

    trial.expect(trial.run(numerical_derivative, f, x, v), 2 * x * v, rtol=1e-7, atol=1e-8)
    same = all(np.array_equal(now, was) for now, was in kept)
    trial.require(same, "an array that f was given has changed since", "give f a new array each time: x + h * v")


@pytest.mark.exercise(id="unbroadcast")
@pytest.mark.parametrize(
    "shape, to, tags",
    [
        ((2, 3), (2, 3), []),
        ((2, 3), (3,), ["where an axis was added in front"]),
        ((4, 2, 3), (3,), ["where an axis was added in front"]),
        ((2, 3), (2, 1), ["where an axis of length 1 was stretched"]),
        ((2, 3), (1, 1), ["where an axis of length 1 was stretched"]),
        ((4, 2, 3), (1, 3), ["where axes were added and stretched"]),
        ((4, 1, 3), (4, 1, 1), ["where an axis of length 1 was stretched"]),
        ((4, 2, 3), (), ["where everything came from one number"]),
        ((1, 1, 3), (3,), ["where an axis was added in front"]),
    ],
    ids=str,
)
def test_unbroadcast(shape, to, tags):
    grad = normal(shape, 6)
    trial = Trial(f"unbroadcast(grad, {to})", *tags, grad=grad)
    trial.expect(trial.run(unbroadcast, grad, to), reduced(grad, to))


def pulled_back(op, inputs, tags=(), needs=None):
    """Judge op.backward by numerical differentiation of what op.forward should compute."""
    names = "ab" if len(inputs) == 2 else "x"
    formulas = {Mul: np.multiply, Exp: np.exp, MatMul: np.matmul}
    needs = needs or (True,) * len(inputs)
    ctx = context(op, needs)
    y = op.forward(ctx, *inputs)
    grad = normal(y.shape, 9)
    named = dict(zip(names, inputs, strict=True))
    trial = Trial(f"{op.__name__}.backward(ctx, grad)", *tags, **named, grad=grad)
    got = trial.run(op.backward, ctx, grad)
    got = got if isinstance(got, tuple) else (got,)
    trial.require(len(got) == len(inputs), f"{len(got)} gradients were returned for {len(inputs)} inputs")

    def forward(*arrays):
        return (formulas[op](*arrays),)

    expected = vjp(forward, inputs, [grad])
    with_ones = vjp(forward, inputs, [np.ones_like(grad)])
    for name, need, mine, right, ones, x in zip(names, needs, got, expected, with_ones, inputs, strict=True):
        if need:
            whole = isinstance(mine, np.ndarray) and mine.shape == y.shape
            mine = reduced(mine, x.shape) if whole else mine  # the engine would sum it back
            instead = {IGNORED: ones, **exchanged(name, names, expected)}
            trial.expect(mine, right, f"the gradient of {name}", rtol=1e-6, atol=1e-7, instead=instead)


def exchanged(name, names, gradients):
    """The gradients of the other inputs, by what to say of whoever returned them for this one."""
    others = {n: g for n, g in zip(names, gradients, strict=True) if n != name and g is not None}
    return {f"this is the gradient of {n}: the two are exchanged": g for n, g in others.items()}


@pytest.mark.exercise(id="mul-backward")
@pytest.mark.parametrize(
    "shapes, tags", [([(2, 3), (2, 3)], []), ([(2, 3), (3,)], [BROADCAST]), ([(2, 1), (1, 3)], [BROADCAST])], ids=str
)
def test_mul_backward(shapes, tags):
    pulled_back(Mul, [normal(shape, seed) for seed, shape in enumerate(shapes)], tags=tags)


@pytest.mark.exercise(id="mul-backward")
@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["b_is_a_constant", "a_is_a_constant"])
def test_mul_backward_with_a_constant(needs):
    pulled_back(Mul, [normal((2, 3), 0), normal((2, 3), 1)], tags=["where one factor is a constant"], needs=needs)


@pytest.mark.exercise(id="exp-backward")
@pytest.mark.parametrize("shape", [(5,), (2, 3)], ids=str)
def test_exp_backward(shape):
    pulled_back(Exp, [normal(shape, 0)])


@pytest.mark.exercise(id="sum-backward")
@pytest.mark.parametrize("keepdims", [False, True], ids=["dropped", "kept"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (1, -1)], ids=str)
def test_sum_backward(axis, keepdims):
    x = normal((2, 3, 4), 0)
    ctx = context(Sum, (True,))
    grad = normal(Sum.forward(ctx, x, axis=axis, keepdims=keepdims).shape, 1)
    tags = [] if keepdims or axis in (None, 0) else ["where an axis other than the first is dropped"]
    trial = Trial(f"Sum.backward(ctx, grad), of x.sum(axis={axis}, keepdims={keepdims})", *tags, x=x, grad=grad)
    got = trial.run(Sum.backward, ctx, grad)
    axes = tuple(range(3)) if axis is None else axis
    expected = np.zeros_like(x) + (grad if keepdims else np.expand_dims(grad, axes))
    trial.expect(got, expected, instead={IGNORED: np.ones_like(x)})


@pytest.mark.exercise(id="sum-backward")
def test_mean_backward_shares_it():
    x = normal((2, 3), 0)
    ctx = context(Mean, (True,))
    grad = normal(Mean.forward(ctx, x, axis=0, keepdims=False).shape, 1)
    trial = Trial("Mean.backward(ctx, grad), of x.mean(axis=0)", x=x, grad=grad)
    trial.expect(trial.run(Mean.backward, ctx, grad), np.zeros_like(x) + grad / 2)


@pytest.mark.exercise(id="matmul-backward")
@pytest.mark.parametrize(
    "shapes, tags",
    [
        ([(2, 3), (3, 4)], []),
        ([(3, 3), (3, 3)], []),
        ([(5, 2, 3), (5, 3, 4)], ["with a stack of matrices"]),
        ([(5, 2, 3), (3, 4)], ["with one matrix for a whole stack"]),
        ([(2, 3), (5, 3, 4)], ["with one matrix for a whole stack"]),
        ([(2, 1, 2, 3), (5, 3, 2)], ["with one matrix for a whole stack"]),
    ],
    ids=str,
)
def test_matmul_backward(shapes, tags):
    a, b = (normal(shape, seed) for seed, shape in enumerate(shapes))
    tags = [*tags, "where b is a stack of matrices"] if b.ndim > 2 else tags
    ctx = context(MatMul, (True, True))
    y = MatMul.forward(ctx, a, b)
    grad = normal(y.shape, 2)
    trial = Trial("MatMul.backward(ctx, grad)", *tags, a=a, b=b, grad=grad)
    got = trial.run(MatMul.backward, ctx, grad)
    trial.require(isinstance(got, tuple) and len(got) == 2, "two gradients are wanted, that of a and that of b")
    expected = vjp(lambda a, b: (a @ b,), [a, b], [grad])
    with_ones = vjp(lambda a, b: (a @ b,), [a, b], [np.ones_like(grad)])
    for name, mine, right, ones, x in zip("ab", got, expected, with_ones, (a, b), strict=True):
        if isinstance(mine, np.ndarray) and mine.ndim == grad.ndim and mine.shape[-2:] == x.shape[-2:]:
            mine = reduced(mine, x.shape)  # a gradient for each matrix of the stack: the engine would sum them
        instead = {IGNORED: ones, **exchanged(name, "ab", expected)}
        trial.expect(mine, right, f"the gradient of {name}", atol=1e-7, instead=instead)


@pytest.mark.exercise(id="matmul-backward")
@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["b_is_a_constant", "a_is_a_constant"])
def test_matmul_backward_with_a_constant(needs):
    pulled_back(MatMul, [normal((2, 3), 0), normal((3, 4), 1)], tags=["where one factor is a constant"], needs=needs)


def graph(kind):
    """The node at the end of a small graph, made with the library's own operators."""
    x, y = Tensor(normal((2,), 0), requires_grad=True), Tensor(normal((2,), 1), requires_grad=True)
    if kind == "chain":
        z = F.exp(F.exp(F.exp(x)))
    elif kind == "diamond":
        a = F.exp(x)
        z = F.mul(F.exp(a), F.neg(a))
    elif kind == "skip":  # reached by a short way and by a long one
        a = F.exp(x)
        b = F.neg(F.exp(F.neg(a)))
        z = F.add(F.mul(b, a), F.mul(a, y))
    elif kind == "with itself":  # whose last step has a short way and a long one, in both orders
        a = F.exp(x)
        b = F.mul(a, F.exp(a))
        z = F.mul(F.mul(F.neg(b), b), b)
    elif kind == "constant":
        z = F.mul(F.exp(Tensor(normal((2,), 2))), F.exp(x))
    else:  # twice the same input
        a = F.exp(x)
        z = F.mul(a, a)
    return z.node


def parents(node):
    return [t.node for t in node.inputs if isinstance(t, Tensor) and t.node is not None]


def judge_order(trial, order, root):
    trial.require(isinstance(order, list), f"a list of nodes is wanted, not a {type(order).__name__}")
    everything, todo = {root}, [root]
    while todo:
        for parent in parents(todo.pop()):
            if parent not in everything:
                everything.add(parent)
                todo.append(parent)
    trial.require(len(set(order)) == len(order), "a node is in the list twice", "it is not marked as seen in time")
    missing = everything - set(order)
    trial.require(not missing, f"{len(missing)} of {len(everything)} nodes are missing from the list")
    trial.require(set(order) == everything, "there are nodes in the list that the last one does not depend on")
    place = {node: i for i, node in enumerate(order)}
    early = [node for node in order if any(place[p] > place[node] for p in parents(node))]
    reverse = all(place[p] > place[node] for node in order for p in parents(node))
    cause = "the list is in reverse" if reverse else "a node is added before all of its inputs are"
    names = ", ".join(type(node).__name__ for node in early[:3])
    trial.require(not early, f"a node stands before one of its own inputs: {names}", cause)


@pytest.mark.exercise(id="topological-order")
@pytest.mark.parametrize("kind", ["chain", "twice", "diamond", "skip", "with itself", "constant"])
def test_topological_order(kind):
    root = graph(kind)
    trial = Trial(f"topological_order(node), of a graph with the shape: {kind}")
    judge_order(trial, trial.run(topological_order, root), root)


@pytest.mark.exercise(id="topological-order")
def test_topological_order_of_a_deep_graph():
    x = Tensor(np.ones(1), requires_grad=True)
    for _ in range(10_000):
        x = F.neg(x)
    trial = Trial("topological_order(node), of a chain of 10,000 nodes", "on a deep graph")
    try:
        order = trial.run(topological_order, x.node)
    except RecursionError:
        order = None
    trial.require(order is not None, "RecursionError", "recursion is too deep for this; keep a stack in a list")
    judge_order(trial, order, x.node)
