"""Embedding and dropout."""
import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor
from tests.nn.ops.judge import judge
from tests.nn.ops.run import backward, forward
from tests.oracles.elementary import embedding

rng = np.random.default_rng(0)


@pytest.mark.parametrize("indices", [np.array(2), np.array([0, 3, 3, 3, 1]), np.array([[1, 1], [0, 4]])], ids=str)
def test_embedding(indices):
    """Catches: a word that occurs twice whose gradient counts once; rows mixed up."""
    weight = rng.standard_normal((5, 3))
    judge(lambda w: F.embedding(w, indices), [weight], embedding(weight, indices))


def test_no_words():
    """Catches: a gradient that fails where there is nothing to look up."""
    weight = rng.standard_normal((5, 3))
    empty = np.zeros((2, 0), np.int64)
    assert forward(F.embedding, [weight, empty])[0].shape == (2, 0, 3)
    assert not backward(F.embedding, [weight, empty], [np.zeros((2, 0, 3))])[0].any()


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_out_of_range(index):
    """Catches: an index of -1 that quietly means the last word."""
    with pytest.raises(IndexError, match="5 rows"):
        F.embedding(Tensor(np.ones((5, 3))), np.array([0, index]))


def test_indices_must_be_integers():
    """Catches: 1.7 that quietly means word 1."""
    with pytest.raises(TypeError, match="integer"):
        F.embedding(Tensor(np.ones((5, 3))), np.array([0.0]))


def test_dropout_keeps_the_mean():
    """Catches: p taken for the probability of keeping; survivors not scaled up."""
    y = F.dropout(Tensor(np.ones((100, 100))), 0.8, np.random.default_rng(0)).data
    assert 0.18 < np.count_nonzero(y) / y.size < 0.22
    np.testing.assert_allclose(y[y != 0], 5)


def test_dropout_uses_the_same_mask_both_ways():
    """Catches: a new mask in the backward pass; a backward without the scale."""
    x = np.ones((20, 20))
    function = lambda x: F.dropout(x, 0.5, np.random.default_rng(1))  # noqa: E731
    np.testing.assert_array_equal(backward(function, [x], [x])[0], forward(function, [x])[0])


def test_dropout_is_the_same_in_both_dtypes():
    """Catches: random numbers drawn in the dtype of x, so that a float64 check is of another mask."""
    single, double = (Tensor(np.ones(50, dtype)) for dtype in (np.float32, np.float64))
    masks = [F.dropout(x, 0.5, np.random.default_rng(3)).data != 0 for x in (single, double)]
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_dropout_of_everything(p):
    """Catches: p = 1, which divides by zero."""
    with pytest.raises(ValueError, match="probability"):
        F.dropout(Tensor(np.ones(3)), p, rng)
