"""Losses against sums over single numbers, and at extremes."""
import math

import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor
from tests.nn.ops.judge import judge
from tests.nn.ops.run import backward, forward
from tests.oracles import elementary

rng = np.random.default_rng(0)
SHAPES = [(3,), (2, 5), (2, 2, 3, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mse(shape):
    """Catches: a sum for the mean, a mean over the batch too, a missing 2, the target's gradient without its minus."""
    prediction, target = rng.standard_normal(shape), rng.standard_normal(shape)
    judge(F.mse, [prediction, target], elementary.mse(prediction, target))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bce_with_logits(shape):
    """Catches: the sigmoid taken twice or not at all, target and logits swapped, a mean for the sum."""
    logits, target = 3 * rng.standard_normal(shape), rng.random(shape)
    judge(F.bce_with_logits, [logits, target], elementary.bce_with_logits(logits, target))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bce_with_logits_at_extremes(dtype):
    """Catches: log(0) or an overflow at +-1e4, and a small probability that is rounded to 0."""
    logits = np.array([[1e4], [-1e4], [1e4], [-1e4], [-30.0]], dtype)
    target = np.array([[1], [0], [0], [1], [0]], dtype)
    expected = [0, 0, 1e4, 1e4, math.log1p(math.exp(-30))]
    np.testing.assert_allclose(forward(F.bce_with_logits, [logits, target])[0], expected, rtol=1e-6, atol=1e-37)
    (dx, _) = backward(F.bce_with_logits, [logits, target], [np.ones(5, dtype)])
    np.testing.assert_allclose(dx.ravel(), [0, 0, 1, -1, 1 / (1 + math.exp(30))], rtol=1e-6, atol=1e-37)


def test_cross_entropy():
    """Catches: the probability of another label, the one-hot not subtracted, the gradient divided by the batch."""
    logits, labels = rng.standard_normal((4, 5)), np.array([0, 4, 2, 2])
    judge(lambda x: F.cross_entropy(x, labels), [logits], elementary.cross_entropy(logits, labels))
    judge(lambda x: F.cross_entropy(x, np.array([0])), [logits[:1, :1]], np.zeros(1))
    assert F.cross_entropy(logits[:0], []).shape == (0,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_at_extremes(dtype):
    """Catches: log(0) and overflow at +-1e4."""
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [-1e4, -1e4, -1e4]], dtype)
    labels = np.array([0, 1, 2])
    np.testing.assert_allclose(forward(F.cross_entropy, [logits, labels])[0], [0, 2e4, math.log(3)], rtol=1e-6)
    (dx, _) = backward(F.cross_entropy, [logits, labels], [np.ones(3, dtype)])
    np.testing.assert_allclose(dx, [[0, 0, 0], [1, -1, 0], [1 / 3, 1 / 3, -2 / 3]], rtol=1e-6)


def test_cross_entropy_does_not_see_a_shift():
    """Catches: a maximum subtracted in one place and not in the other."""
    logits, labels = rng.standard_normal((4, 5)), np.array([0, 4, 2, 2])
    shifted = logits + rng.standard_normal((4, 1)) * 100
    one, other = (forward(F.cross_entropy, [x, labels])[0] for x in (logits, shifted))
    np.testing.assert_allclose(one, other, rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gaussian_kl(shape):
    """Catches: the variance taken for its logarithm, a sign, the factor 1/2, the -1 forgotten."""
    mean, log_var = rng.standard_normal(shape), rng.standard_normal(shape)
    judge(F.gaussian_kl, [mean, log_var], elementary.gaussian_kl(mean, log_var))


def test_gaussian_kl_of_equal_and_nearly_equal():
    """Catches: e^v - 1 - v computed with cancellation, which makes a small KL negative or 0 in float32."""
    zero, small = np.zeros((1, 1), np.float32), np.full((1, 1), 1e-3, np.float32)
    assert forward(F.gaussian_kl, [zero, zero])[0] == 0
    np.testing.assert_allclose(forward(F.gaussian_kl, [zero, small])[0], 0.25e-6, rtol=1e-3)


@pytest.mark.parametrize("loss", [F.mse, F.bce_with_logits, F.gaussian_kl])
def test_shapes_must_be_equal(loss):
    """Catches: (N, 1) against (N,), which would broadcast to (N, N) and train on nonsense."""
    with pytest.raises(ValueError, match="one shape"):
        loss(Tensor(np.ones((3, 1))), Tensor(np.ones(3)))


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (np.array([0, 3]), IndexError),
        (np.array([0, -1]), IndexError),
        (np.array([0]), ValueError),
        (np.array([[0], [1]]), ValueError),
        (np.array([0.0, 1.0]), TypeError),
    ],
    ids=str,
)
def test_labels_that_do_not_fit(labels, error):
    """Catches: a label of -1 that quietly means the last class; labels that broadcast."""
    with pytest.raises(error, match="cross_entropy"):
        F.cross_entropy(Tensor(np.ones((2, 3))), labels)
