"""Judges the exercises on autograd: numerical derivatives, vector-Jacobian products, and the walk through the graph."""

import numpy as np
import pytest

from nn import functional as F
from nn.gradcheck import numerical_derivative
from nn.ops.elementwise import Exp, Mul
from nn.ops.matmul import MatMul
from nn.ops.reduce import Mean, Sum
from nn.tensor import Function, Tensor, topological_order, unbroadcast
from tests.exercises.trial import Trial, context, normal
from tests.oracles.broadcasting import reduced
from tests.oracles.numeric import vjp

BROADCAST = "where an axis was broadcast"
SHARED = "where a tensor is used more than once"
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


class Watched(Function):
    """y = 3 x, counting how often its backward is called."""

    calls = 0

    @staticmethod
    def forward(ctx, x):
        return 3 * x

    @staticmethod
    def backward(ctx, grad):
        Watched.calls += 1
        return 3 * grad


class Both(Function):
    """(2 x, 5 x): a function with two outputs."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x, 5 * x

    @staticmethod
    def backward(ctx, first, second):
        return 2 * first + 5 * second


def leaf(shape, seed):
    return Tensor(normal(shape, seed), requires_grad=True)


@pytest.mark.exercise(id="backward")
def test_backward_through_a_chain():
    x, grad = leaf((2, 3), 0), normal((2, 3), 1)
    y = F.exp(F.mul(x, 2.0))
    trial = Trial("y.backward(grad), y = exp(2 x)", x=x.data, grad=grad)
    trial.run(y.backward, grad)
    trial.expect(x.grad, grad * 2 * np.exp(2 * x.data), "x.grad", instead={IGNORED: 2 * np.exp(2 * x.data)})


@pytest.mark.exercise(id="backward")
def test_backward_of_one_number_needs_no_gradient():
    x = leaf((3,), 0)
    trial = Trial("y.backward(), y = (x * x).sum()", x=x.data)
    trial.run(F.sum(F.mul(x, x)).backward)
    trial.expect(x.grad, 2 * x.data, "x.grad", instead={"only one of two uses of x is counted": x.data})
    trial.require(x.grad.dtype == np.float64, f"x is float64, but x.grad is {x.grad.dtype}")


@pytest.mark.exercise(id="backward")
def test_backward_through_a_diamond_goes_through_each_node_once():
    x = leaf((2,), 0)
    Watched.calls = 0
    a = Watched.apply(x)
    y = F.sum(F.add(F.exp(a), F.mul(a, a)))
    trial = Trial("y.backward(), y = (exp(a) + a * a).sum() with a = 3 x", SHARED, x=x.data)
    trial.run(y.backward)
    a = 3 * x.data
    expected = 3 * (np.exp(a) + 2 * a)
    instead = {
        "only the last use of a counts: gradients have to be added": 3 * a,
        "only the first use of a counts: gradients have to be added": 3 * np.exp(a),
    }
    trial.expect(x.grad, expected, "x.grad", instead=instead)
    trial.require(Watched.calls == 1, f"the backward of a's node ran {Watched.calls} times; it should run once")


@pytest.mark.exercise(id="backward")
def test_backward_by_a_short_and_a_long_way():
    x = leaf((2,), 0)
    a = F.exp(x)
    b = F.neg(F.exp(F.neg(a)))
    y = F.sum(F.add(b, F.mul(a, 2.0)))
    trial = Trial("y.backward(), y = (-exp(-a) + 2 a).sum(), a = exp(x)", SHARED, x=x.data)
    trial.run(y.backward)
    a = np.exp(x.data)
    trial.expect(x.grad, a * (np.exp(-a) + 2), "x.grad")


@pytest.mark.exercise(id="backward")
@pytest.mark.parametrize("shape", [(3,), (2, 1), ()], ids=str)
def test_backward_sums_over_broadcast_axes(shape):
    x, b, grad = leaf((2, 3), 0), leaf(shape, 1), normal((2, 3), 2)
    trial = Trial("y.backward(grad), y = x + 2 b", BROADCAST, x=x.data, b=b.data, grad=grad)
    trial.run(F.add(x, F.mul(b, 2.0)).backward, grad)
    trial.expect(x.grad, grad, "x.grad")
    trial.expect(b.grad, 2 * reduced(grad, shape), "b.grad")


@pytest.mark.exercise(id="backward")
def test_backward_twice_adds_up():
    x = leaf((3,), 0)
    trial = Trial("y.backward(g); z.backward(g), y = 2 x and z = 5 x", "where backward is called twice", x=x.data)
    grad = normal((3,), 1)
    trial.run(F.mul(x, 2.0).backward, grad)
    first = None if x.grad is None else x.grad.copy()
    trial.expect(first, 2 * grad, "x.grad after the first")
    trial.run(F.mul(x, 5.0).backward, grad)
    trial.expect(x.grad, 7 * grad, "x.grad", instead={"the second gradient replaces the first": 5 * grad})


@pytest.mark.exercise(id="backward")
def test_backward_of_a_leaf_and_no_shared_arrays():
    x, y, grad = leaf((3,), 0), leaf((3,), 1), normal((3,), 2)
    trial = Trial("(x + y).backward(grad); x.backward(grad)", "where gradients must not share memory", grad=grad)
    trial.run(F.add(x, y).backward, grad)
    trial.run(x.backward, grad)
    trial.expect(x.grad, 2 * grad, "x.grad")
    trial.expect(y.grad, grad, "y.grad", instead={"x.grad and y.grad are the same array": 2 * grad})


@pytest.mark.exercise(id="backward")
def test_backward_through_a_node_with_two_outputs():
    x, grad = leaf((2,), 0), normal((2,), 1)
    first, second = Both.apply(x)
    trial = Trial("(exp(p) - q).backward(grad), (p, q) = (2 x, 5 x)", "with two outputs", x=x.data, grad=grad)
    trial.run(F.sub(F.exp(first), second).backward, grad)
    trial.expect(x.grad, grad * (2 * np.exp(2 * x.data) - 5), "x.grad")
    x.grad = None
    _, second = Both.apply(x)
    trial.run(second.backward, grad)
    trial.expect(x.grad, 5 * grad, "x.grad where one output is unused")


@pytest.mark.exercise(id="backward")
def test_backward_leaves_constants_alone_and_frees_the_graph():
    x, constant = leaf((2,), 0), Tensor(normal((2,), 1))
    product = F.mul(x, constant)
    y = F.sum(F.mul(product, 2.0))
    trial = Trial("y.backward(), y = (2 c x).sum() with a constant c", x=x.data, c=constant.data)
    trial.run(y.backward)
    trial.expect(x.grad, 2 * constant.data, "x.grad")
    trial.require(constant.grad is None, "the constant c got a gradient")
    for node, which in ((product.node, "nodes"), (y.node, "last node")):
        trial.require(node.inputs is None, f"the graph is still there: its {which} holds arrays", "no node.free()")


@pytest.mark.exercise(id="backward")
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
def test_backward_in_float32_of_one_number(shape):
    x = Tensor(normal((3,), 0, np.float32), requires_grad=True)
    y = F.reshape(F.sum(F.mul(x, x)), shape)
    trial = Trial("y.backward(), y = (x * x).sum()", "in float32", x=x.data)
    trial.run(y.backward)
    trial.expect(x.grad, 2 * x.data, "x.grad", rtol=1e-5, dtype=np.float32)
    trial.require(y.data.dtype == np.float32 and y.shape == shape, "y itself was changed")


@pytest.mark.exercise(id="backward")
def test_backward_of_a_tensor_and_what_it_is_made_of():
    x, grad = leaf((2,), 0), normal((2,), 1)
    a = F.exp(x)
    trial = Trial("(a * exp(a)).backward(grad), a = exp(x)", SHARED, x=x.data, grad=grad)
    trial.run(F.mul(a, F.exp(a)).backward, grad)
    trial.expect(x.grad, grad * np.exp(a.data) * a.data * (1 + a.data), "x.grad")


@pytest.mark.exercise(id="backward")
@pytest.mark.parametrize(
    "error, y, arguments, why",
    [
        (ValueError, lambda x: F.mul(x, 2.0), [], "not a single number, and no gradient is given"),
        (
            ValueError,
            lambda x: F.mul(x, 2.0),
            [np.ones((1, 3))],
            "a gradient of shape (1, 3) for a tensor of shape (3,)",
        ),
        (ValueError, lambda x: F.sum(x), [np.ones(1)], "a gradient of shape (1,) for a tensor of shape ()"),
        (RuntimeError, lambda x: Tensor(np.ones(3)), [np.ones(3)], "depends on nothing that wants a gradient"),
    ],
    ids=["no_gradient", "wrong_shape", "one_too_many_axes", "constant"],
)
def test_backward_refuses(error, y, arguments, why):
    trial = Trial("y.backward(...)", "where an error is right")
    try:
        y(leaf((3,), 0)).backward(*arguments)
        raised = None
    except NotImplementedError:
        raise
    except Exception as caught:
        raised = caught
    found = "nothing was raised" if raised is None else f"{type(raised).__name__} was raised"
    trial.require(isinstance(raised, error), f"{why}: {found}, {error.__name__} is right")
