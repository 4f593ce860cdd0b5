"""Tensors with operators: each is the op of its name, from either side."""
import operator

import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor

rng = np.random.default_rng(0)
A, B = rng.uniform(0.5, 2, (3, 3)), rng.uniform(0.5, 2, (3, 3))


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.matmul]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
def test_binary(op):
    """Catches: a reflected operator with its operands swapped: 1 - x computed as x - 1."""
    for left, right in ((Tensor(A), Tensor(B)), (A, Tensor(B)), (Tensor(A), B)):
        result = op(left, right)
        assert isinstance(result, Tensor)
        np.testing.assert_allclose(result.data, op(A, B), rtol=1e-12)
    if op is not operator.matmul:
        np.testing.assert_allclose(op(2.0, Tensor(B)).data, op(2.0, B), rtol=1e-12)
        np.testing.assert_allclose(op(Tensor(A), 2.0).data, op(A, 2.0), rtol=1e-12)


def test_unary_and_methods():
    """Catches: a method attached to another op."""
    x = Tensor(A)
    for ours, expected in ((-x, -A), (x.exp(), np.exp(A)), (x.log(), np.log(A))):
        np.testing.assert_allclose(ours.data, expected, rtol=1e-12)


def test_shapes_that_do_not_broadcast():
    """Catches: an error that does not name both shapes."""
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(4,\)"):
        Tensor(np.ones((2, 3))) + Tensor(np.ones(4))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        F.mul(Tensor(np.ones((2, 3))), Tensor(np.ones(4)))


def test_two_precisions():
    """Catches: float32 and float64 mixed, which would quietly slow the rest of the network down by half."""
    with pytest.raises(TypeError, match="float32 and float64"):
        Tensor(np.ones(3, np.float32)) * Tensor(np.ones(3))
