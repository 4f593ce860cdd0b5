"""The game with the critic: its losses, on arrays."""
import math

import numpy as np
import pytest

from generators.parts.critic import (
    Discriminator,
    critic_loss,
    finite_difference_penalty,
    painter_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)
from nn.tensor import Tensor


def test_the_two_losses_are_one_comparison_with_two_winners():
    """Catches a flipped sign in either, and a saturating form: softplus' is the sigmoid of the lead."""
    real, fake = np.array([2.0, -1.0, 0.0]), np.array([-1.0, 1.0, 0.0])
    d = relativistic_discriminator_loss(Tensor(real), Tensor(fake)).data
    g = relativistic_generator_loss(Tensor(real), Tensor(fake)).data
    np.testing.assert_allclose(d, np.log1p(np.exp(fake - real)))
    np.testing.assert_allclose(g, np.log1p(np.exp(real - fake)))
    assert d[0] < d[2] < d[1] and g[2] == pytest.approx(math.log(2))


def test_the_penalty_estimates_the_squared_gradient():
    """For D(x) = w.x the expectation is |w|^2 exactly.  Catches a missing 1/s^2, and the length unsquared."""
    rng = np.random.default_rng(0)
    w, x, s = rng.standard_normal(6), rng.standard_normal((20_000, 6)), 0.1
    beside = x + s * rng.standard_normal(x.shape)
    penalty = finite_difference_penalty(Tensor(x @ w), Tensor(beside @ w), s).data
    standard_error = penalty.std() / math.sqrt(len(penalty))
    assert abs(penalty.mean() - w @ w) < 4 * standard_error


def test_where_painted_pictures_are_the_real_ones_nothing_is_left_to_learn():
    """Log 2 a pair, for either side, and no gradient for the critic.  Catches: sides that are compared on different
    scales or under different captions; a mean for a sum.  And captions that lie move the critic even here."""
    rng = np.random.default_rng(0)
    critic = Discriminator((8, 8, 1), 8, 4, 3, rng)
    for parameter in critic.parameters():
        parameter.data += 0.1 * rng.standard_normal(parameter.shape).astype(np.float32)
    pictures = rng.uniform(-1, 1, (5, 8, 8, 1)).astype(np.float32)
    tokens, lies = np.array([[1], [2], [1], [2], [1]]), np.array([[2], [1], [2], [1], [2]])

    def largest_gradient(false_tokens):
        loss, _ = critic_loss(critic, pictures, pictures, tokens, false_tokens, rng, gamma=0.0, step=0.1)
        loss.backward()
        gradients = [parameter.grad for parameter in critic.parameters()]
        for parameter in critic.parameters():
            parameter.grad = None
        return loss.item(), max(float(np.abs(gradient).max()) for gradient in gradients)

    value, slope = largest_gradient(None)
    assert value == pytest.approx(5 * math.log(2), rel=1e-5) and slope < 1e-5
    assert painter_loss(critic, pictures, Tensor(pictures), tokens).item() == pytest.approx(5 * math.log(2), rel=1e-5)
    assert largest_gradient(lies)[1] > 1e-2


def play(lies: float, gamma: float = 0.05, rounds: int = 2500) -> tuple[float, float]:
    """The game of `parts/critic.py` with exact expectations: mean and width of the painter where it settles.

    Data: N(0.7, 1) under one caption and its mirror image under the other.  The painter is a Gaussian, the critic a
    table of scores on a grid, with the exact gradient penalty; its scores under the other caption are the mirror image.
    """
    x = np.linspace(-4.5, 4.5, 49)

    def gauss(mean, width):
        p = np.exp(-0.5 * ((x - mean) / width) ** 2)
        return p / p.sum()

    def sigmoid(t):
        return 1 / (1 + np.exp(-t))

    p, scores, first, second = gauss(0.7, 1.0), np.zeros(49), np.zeros(49), np.zeros(49)
    mean, width, step = 0.7, 1.0, x[1] - x[0]
    for _ in range(rounds):
        q = gauss(mean, width)
        for _ in range(2):  # the critic, by Adam: it is to be at its best before the painter moves
            pull = sigmoid(scores[None, :] - scores[:, None]) * p[:, None] * q[None, :]  # (real, painted)
            gradient = pull.sum(axis=0) - pull.sum(axis=1)
            lied = lies * sigmoid(scores[::-1] - scores) * p
            gradient += lied[::-1] - lied
            steepness = gamma * 0.5 * ((p + q)[1:] + (p + q)[:-1]) * np.diff(scores) / step**2
            gradient[1:] += steepness
            gradient[:-1] -= steepness
            first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
            scores = scores - 0.03 * first / (np.sqrt(second) + 1e-6)
        loss = (np.logaddexp(0, scores[:, None] - scores[None, :]) * p[:, None]).sum(axis=0)  # of painting each x
        z, loss = (x - mean) / width, loss - (q * loss).sum()
        mean -= 0.1 * (q * loss * z / width).sum()
        width *= math.exp(-0.1 * (q * loss * (z * z - 1)).sum())
    return mean, width


def test_false_captions_move_the_fixed_point_off_the_data():
    """The docstring's figures.  Catches: a claim that the game converges to the data whatever the critic is asked."""
    assert play(lies=0) == pytest.approx((0.7, 1.0), abs=0.005)
    assert play(lies=0.1) == pytest.approx((0.81, 0.92), abs=0.02)
    assert play(lies=1) == pytest.approx((0.97, 0.72), abs=0.02)


def test_the_contest_with_false_captions_is_weighed():
    """Catches: a weight that is accepted and never used, or that weighs the contest with painted pictures, too."""
    rng = np.random.default_rng(0)
    critic = Discriminator((8, 8, 1), 8, 4, 3, rng)
    real, fake = rng.uniform(-1, 1, (2, 5, 8, 8, 1)).astype(np.float32)
    tokens, false = np.array([[1], [2], [1], [2], [1]]), np.array([[2], [1], [2], [1], [2]])

    def loss(false_tokens, lies):
        return critic_loss(critic, real, fake, tokens, false_tokens, rng, 0.0, 0.1, lies)[0].item()

    without, whole = loss(None, 1.0), loss(false, 1.0)
    assert loss(false, 0.25) == pytest.approx(without + 0.25 * (whole - without), rel=1e-5) and whole > without
