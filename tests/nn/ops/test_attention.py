"""Attention against one query at a time."""
import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor
from tests.nn.ops.judge import judge
from tests.nn.ops.run import backward, forward
from tests.oracles.attention import attention

rng = np.random.default_rng(0)


SHAPES = [(1, 1, 1, 1, 1, 1), (2, 2, 3, 3, 4, 4), (1, 2, 2, 5, 3, 2), (2, 1, 4, 1, 2, 3)]  # n, heads, Tq, Tk, d, dv


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention(shape):
    """Catches: softmax over the queries, the scale of 1/d or none, heads mixed, the scale missing from one gradient."""
    n, heads, queries, keys, d, dv = shape
    q, k, v = (rng.standard_normal((n, heads, *s)) for s in ((queries, d), (keys, d), (keys, dv)))
    judge(F.scaled_dot_product_attention, [q, k, v], attention(q, k, v))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores(dtype):
    """Catches: an exp that overflows; scores of +-1e4 are a hard choice of one key, with no gradient to q and k."""
    q = np.array([100.0, -100.0], dtype).reshape(1, 1, 2, 1)
    k, v = np.array([100.0, -100.0], dtype).reshape(1, 1, 2, 1), np.array([3.0, 5.0], dtype).reshape(1, 1, 2, 1)
    assert forward(F.scaled_dot_product_attention, [q, k, v])[0].ravel().tolist() == [3, 5]
    dq, dk, dv = backward(F.scaled_dot_product_attention, [q, k, v], [np.ones((1, 1, 2, 1), dtype)])
    assert not dq.any() and not dk.any() and dv.ravel().tolist() == [1, 1]


def test_a_shift_of_the_scores_changes_nothing():
    """Catches: a softmax that is not normalised: adding one vector to all keys adds one number to a query's scores."""
    q, k, v = (rng.standard_normal((2, 2, 3, 4)) for _ in range(3))
    moved = k + rng.standard_normal((2, 2, 1, 4))
    one, other = (forward(F.scaled_dot_product_attention, [q, keys, v])[0] for keys in (k, moved))
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_shapes_that_do_not_fit():
    """Catches: heads or lengths that broadcast silently."""
    x = Tensor(np.ones((2, 2, 3, 4)))
    for q, k, v in ((x, x, x[:, :1]), (x, x[:, :, :2], x), (x[0], x[0], x[0]), (x, x[..., :2], x)):
        with pytest.raises(ValueError, match="needs q"):
            F.scaled_dot_product_attention(q, k, v)
