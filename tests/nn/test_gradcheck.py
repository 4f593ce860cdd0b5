"""The checker of gradients, given right and wrong ones."""
import numpy as np
import pytest

from nn import functional as F
from nn.differences import numerical_derivative
from nn.tensor import Function, Parameter, Tensor
from tests.nn.gradcheck import GradientError, gradcheck


def rng():
    return np.random.default_rng(0)


X = np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])


def op(forward, backward):
    """A function of one array, made of these two on arrays: y = forward(x), dx = backward(x, dy)."""

    class Made(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save(x)
            return forward(x)

        @staticmethod
        def backward(ctx, grad):
            return backward(ctx.saved[0], grad)

    return Made.apply


def test_numerical_derivative():
    """Catches: a one-sided or second-order difference, whose error is far above the tolerance of 1e-6."""
    v = rng().standard_normal(X.shape)
    np.testing.assert_allclose(numerical_derivative(np.sin, X, v), np.cos(X) * v, rtol=1e-10)
    np.testing.assert_allclose(numerical_derivative(lambda x: x**5, X, v), 5 * X**4 * v, rtol=1e-9)


def test_right_gradients_pass():
    """Catches: a checker so strict that rounding fails it; an error reported larger than it is."""
    cube = op(lambda x: x**3, lambda x, grad: 3 * x**2 * grad)
    assert 0 <= gradcheck(cube, [X], rng()) < 1e-9
    assert gradcheck(lambda a, b: a / (1 + b * b), [X, X[0]], rng()) < 1e-9
    assert gradcheck(lambda x: F.split(F.exp(x), 3, 1), [X], rng()) < 1e-9
    assert gradcheck(lambda x: (x - x).sum(), [X], rng()) < 1e-6  # a derivative that is exactly 0


WRONG = {
    "a factor": (lambda x: x**2, lambda x, grad: x * grad),
    "a sign": (lambda x: -x, lambda x, grad: grad),
    "one part in 1e5": (lambda x: x**2, lambda x, grad: 2.00002 * x * grad),
    "nothing": (lambda x: x**2, lambda x, grad: np.zeros_like(x)),
    "no softmax gradient, right for a cotangent of ones": (
        lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True),
        lambda x, grad: np.zeros_like(x),
    ),
    "the incoming gradient ignored": (lambda x: x**2, lambda x, grad: 2 * x),
    "NaN": (lambda x: x**2, lambda x, grad: np.full_like(x, np.nan)),
    "one entry of six": (lambda x: x**2, lambda x, grad: 2 * x * grad * (1 + (np.arange(6) == 4).reshape(2, 3))),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_fail(name):
    """Catches: a checker that lets a wrong gradient pass."""
    with pytest.raises(GradientError):
        gradcheck(op(*WRONG[name]), [X], rng())


def test_the_message_names_the_first_wrong_entry():
    """Catches: a message that says only that something is wrong, or counts indices in another order."""
    with pytest.raises(GradientError) as error:
        gradcheck(op(*WRONG["one entry of six"]), [X], rng())
    text = str(error.value)
    assert "output 0 at (1, 1)" in text and "input 0 at (1, 1)" in text
    assert "backward says 1.2" in text and "differentiation 0.6" in text and "ratio 2" in text
    assert "1 of 36 entries" in text


def test_the_message_names_the_input():
    """Catches: inputs counted without those that are not checked."""
    wrong = op(lambda x: x**2, lambda x, grad: x * grad)
    with pytest.raises(GradientError, match="input 2 at"):
        gradcheck(lambda a, indices, b: a[indices] + wrong(b), [X, np.array([0, 1]), X], rng())


def test_a_backward_that_is_not_linear():
    """Catches: a gradient that is right for single ones and wrong for everything else."""
    with pytest.raises(GradientError, match="not linear"):
        gradcheck(op(lambda x: x.copy(), lambda x, grad: grad * np.abs(grad)), [X], rng())


def test_changes_in_place_are_found():
    """Catches: an op that works in place on its input or on the gradient that it was given."""

    def shift(x):
        x += 1e-9
        return x.copy()

    def scale(x, grad):
        grad *= 2
        return grad / 2

    with pytest.raises(GradientError, match="changed in place|two results"):
        gradcheck(op(shift, lambda x, grad: grad), [X.copy()], rng())
    with pytest.raises(GradientError, match="incoming gradient 0 was changed"):
        gradcheck(op(lambda x: x.copy(), scale), [X], rng())


def test_a_function_of_chance():
    """Catches: a dropout with a fresh mask at each call, which no derivative can be compared with."""
    chance = rng()
    with pytest.raises(GradientError, match="two results"):
        gradcheck(lambda x: F.dropout(x, 0.5, chance), [X], rng())


def test_float32_is_refused():
    """Catches: a check in float32, where differences are all rounding."""
    with pytest.raises(TypeError, match="float32"):
        gradcheck(F.exp, [X.astype(np.float32)], rng())
    with pytest.raises(TypeError, match="no float64"):
        gradcheck(lambda i: i, [np.array([1])], rng())


def test_parameters_are_checked_in_place():
    """Catches: a parameter left at a shifted value, or with a gradient, after the check; a parameter never checked."""
    weight = Parameter(np.array([1.0, 2.0, 3.0]))
    before = weight.data
    gradcheck(lambda x, w: x * weight, [X, weight], rng())
    assert weight.data is before and before.tolist() == [1, 2, 3] and weight.grad is None
    wrong = op(lambda x: x**2, lambda x, grad: x * grad)
    with pytest.raises(GradientError, match="input 1"):
        gradcheck(lambda x, w: x * wrong(weight), [X, weight], rng())


def test_a_constant_tensor_is_left_alone():
    """Catches: a tensor without requires_grad counted among the inputs to check."""
    constant = Tensor(np.array([1.0, 2.0, 3.0]))
    assert gradcheck(lambda x, c: x * c, [X, constant], rng()) < 1e-9
