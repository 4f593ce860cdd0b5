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
from tests.oracles.game import play


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


def test_the_score_is_one_number_for_the_picture_and_one_for_the_match():
    """r.f + f.(W c + b) / sqrt(F).  Catches: a match of other pictures' captions, or of another length than r.f."""
    rng = np.random.default_rng(0)
    critic = Discriminator((8, 8, 1), 8, 4, 3, rng)
    features = rng.standard_normal((2, critic.FEATURES)).astype(np.float32)
    tokens = np.array([[1], [2]])
    captions = critic.text(tokens).data @ critic.caption.weight.data + critic.caption.bias.data
    expected = (features * (critic.real.weight.data[:, 0] + captions / math.sqrt(critic.FEATURES))).sum(axis=1)
    np.testing.assert_allclose(critic.score(Tensor(features), tokens).data, expected, rtol=1e-4)


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


def test_false_captions_move_the_fixed_point_off_the_data():
    """The docstring's figures, with exact expectations.

    Catches: a claim that the game converges to the data whatever the critic is asked."""
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
