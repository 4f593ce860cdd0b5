"""Judges the exercise on the backward pass: the walk through the graph, from the loss to the leaves."""

import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Function, Tensor
from tests.exercises.test_autograd import BROADCAST, IGNORED
from tests.exercises.trial import Trial, normal
from tests.oracles.broadcasting import reduced

SHARED = "where a tensor is used more than once"


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
