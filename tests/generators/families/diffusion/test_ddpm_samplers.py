"""The samplers with oracles in the place of the network: where the perfect guess is known, so is the result.

Caught here: a step subset that leaves out t = T or stops before the clean image; noise added at the last step; an
index that is off by one anywhere, since then the guesses belong to another noise level than the steps.
"""
import math
from functools import partial

import numpy as np
import pytest

from generators.families.diffusion import process

SAMPLERS = {
    "ancestral": {"step": process.posterior},
    "DDIM": {"step": process.ddim_step},
    "DDIM, eta 0.5": {"step": partial(process.ddim_step, eta=0.5)},
    "second order": {"step": process.ddim_step, "second_order": True},
}


class Mixture:
    """Two unequal Gaussians in the plane, and the mean of x_0 given x_t: the perfect guess, by Bayes' rule."""

    WEIGHTS = np.array([0.3, 0.7])
    CENTRES = np.array([[-1.0, 0.5], [0.6, -0.3]])
    SIGMA = 0.25

    def __init__(self, alpha_bar):
        self.alpha_bar = alpha_bar

    def predict_clean(self, x, t):
        ab = self.alpha_bar[t]
        spread = ab * self.SIGMA**2 + 1 - ab  # variance of x_t around each component's centre
        offsets = x[:, None] - math.sqrt(ab) * self.CENTRES  # (N, 2, 2)
        log_weights = np.log(self.WEIGHTS) - (offsets**2).sum(axis=2) / (2 * spread)
        weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        means = self.CENTRES + math.sqrt(ab) * self.SIGMA**2 / spread * offsets
        return (weights[..., None] * means).sum(axis=1)

    def draw(self, count, rng):
        which = rng.choice(2, count, p=self.WEIGHTS)
        return self.CENTRES[which] + self.SIGMA * rng.standard_normal((count, 2))


def run(predict_clean, x, steps, alpha_bar, sampler, seed=0):
    times = process.time_steps(len(alpha_bar) - 1, steps)
    return process.sample(predict_clean, x, times, alpha_bar, rng=np.random.default_rng(seed), **SAMPLERS[sampler])


@pytest.mark.exercise(id="ddpm-sampling-loop")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_a_data_set_of_one_image_every_sampler_returns_it(sampler):
    """The oracle says the noise that leads from the one image to x_t, as a trained network would."""
    alpha_bar = process.schedule(100)
    rng = np.random.default_rng(1)
    image = rng.uniform(-1, 1, (1, 5, 5, 1))

    def predict_clean(x, t):
        eps = (x - math.sqrt(alpha_bar[t]) * image) / math.sqrt(1 - alpha_bar[t])
        return process.clean_image(eps, x, t, alpha_bar, "noise")

    start = rng.standard_normal((2, 5, 5, 1))
    for steps in range(1, 101):
        result = run(predict_clean, start, steps, alpha_bar, sampler)
        np.testing.assert_allclose(result, np.repeat(image, 2, axis=0), rtol=0, atol=1e-6)


@pytest.mark.exercise(id="ddpm-sampling-loop")
@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [*((name, "cosine") for name in SAMPLERS), ("DDIM", "straight"), ("second order", "straight")],
)
def test_samples_of_a_mixture_have_its_moments(sampler, schedule):
    count = 5_000
    mixture = Mixture(process.schedule(1000, schedule))
    rng = np.random.default_rng(2)
    steps = 100 if sampler == "second order" else 250
    samples = run(mixture.predict_clean, rng.standard_normal((count, 2)), steps, mixture.alpha_bar, sampler)
    w, centres = Mixture.WEIGHTS, Mixture.CENTRES
    mean = w @ centres
    covariance = (w[:, None, None] * np.einsum("ki,kj->kij", centres, centres)).sum(0) - np.outer(mean, mean)
    covariance += Mixture.SIGMA**2 * np.eye(2)

    # Standard errors from the exact distribution: of the means, of the covariances (by a large draw), of the share.
    centred = mixture.draw(200_000, rng) - mean
    products = np.einsum("ni,nj->nij", centred, centred)
    mean_error = np.sqrt(np.diag(covariance) / count)
    covariance_error = products.std(axis=0) / math.sqrt(count)
    share_error = math.sqrt(w[0] * w[1] / count)

    assert (np.abs(samples.mean(axis=0) - mean) < 4 * mean_error).all()
    assert (np.abs(np.cov(samples.T) - covariance) < 4 * covariance_error).all()
    exact = mixture.draw(200_000, rng)
    assert abs(share_of_the_first(samples) - share_of_the_first(exact)) < 4 * share_error


def share_of_the_first(points):
    """The share of points that lie nearer to the first centre."""
    return np.mean(np.linalg.norm(points[:, None] - Mixture.CENTRES, axis=2).argmin(axis=1) == 0)


@pytest.mark.exercise(id="ddpm-sampling-loop")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_loop_shows_every_time_once_and_ends_with_the_last_guess_unharmed(sampler):
    mixture = Mixture(process.schedule(50))
    asked = []

    def predict_clean(x, t):
        asked.append(t)
        return mixture.predict_clean(x, t)

    start = np.random.default_rng(3).standard_normal((4, 2))
    times = process.time_steps(50, 7)
    options = SAMPLERS[sampler] | {"rng": np.random.default_rng(4)}
    pairs = list(process.reverse_process(predict_clean, start, times, mixture.alpha_bar, **options))
    assert asked == times[:-1] and len(pairs) == 8
    np.testing.assert_array_equal(pairs[0][0], start)
    np.testing.assert_allclose(pairs[-1][0], pairs[-2][1], rtol=0, atol=1e-12)  # the last guess, no noise on it
    np.testing.assert_array_equal(pairs[-1][0], pairs[-1][1])


def test_fresh_noise_is_drawn_where_eta_asks_for_it_and_nowhere_else():
    mixture = Mixture(process.schedule(50))
    start = np.random.default_rng(5).standard_normal((4, 2))
    for sampler, random in {"ancestral": True, "DDIM": False, "DDIM, eta 0.5": True, "second order": False}.items():
        first, second = (run(mixture.predict_clean, start, 10, mixture.alpha_bar, sampler, seed) for seed in (0, 1))
        assert np.array_equal(first, second) != random


def test_second_order_steps_come_closer_to_the_exact_path_than_as_many_of_first_order():
    """Catches steps that look ahead but are not taken again: those leave 0.15 of the error of first-order ones."""
    mixture = Mixture(process.schedule(1000))
    start = np.random.default_rng(6).standard_normal((500, 2))
    exact = run(mixture.predict_clean, start, 1000, mixture.alpha_bar, "second order")
    errors = {
        sampler: np.abs(run(mixture.predict_clean, start, 40, mixture.alpha_bar, sampler) - exact).mean()
        for sampler in ("DDIM", "second order")
    }
    assert errors["second order"] < 0.08 * errors["DDIM"]


def test_ten_steps_serve_gaussian_data_of_every_scale_because_they_are_close_at_both_ends():
    """Variances from 100 to 0.001, as natural images have them; here the guess and the Frechet distance are exact."""
    alpha_bar = process.schedule(1000)
    variances = 100 * np.arange(1, 317) ** -2.0
    even = np.linspace(1000, 0, 11).astype(int).tolist()

    def predict_clean(x, t):
        ab = alpha_bar[t]
        return x * math.sqrt(ab) * variances / (ab * variances + 1 - ab)

    def distance(times):
        """Sampling is linear here, so a start of ones shows each direction's factor: its standard deviation."""
        factor = process.sample(predict_clean, np.ones((1, len(variances))), times, alpha_bar, second_order=True)
        return ((np.abs(factor[0]) - np.sqrt(variances)) ** 2).sum()

    ten = distance(process.time_steps(1000, 10))
    assert ten < 0.01 * variances.sum() and ten < 0.25 * distance(even)
    assert distance(process.time_steps(1000, 50)) < 0.01 * ten


def test_inversion_finds_the_noise_that_ddim_started_from():
    mixture = Mixture(process.schedule(1000))
    start = np.random.default_rng(7).standard_normal((500, 2))
    times = process.time_steps(1000, 50)
    image = process.sample(mixture.predict_clean, start, times, mixture.alpha_bar)
    errors = [
        np.abs(process.invert(mixture.predict_clean, image, times, mixture.alpha_bar, iterations) - start).max()
        for iterations in (1, 3, 20)
    ]
    assert errors[0] < 0.3 and errors[1] < 2e-3 and errors[2] < 1e-8


@pytest.mark.parametrize("t", [100, 500, 900])
def test_the_noise_of_the_perfect_guess_is_the_score_but_for_a_factor(t):
    """grad log p(x_t) = -E[eps | x_t] / sqrt(1 - ab_t), as docs/diffusion.md has it; the gradient by differences."""
    mixture = Mixture(process.schedule(1000))
    ab = mixture.alpha_bar[t]
    x, spread = np.random.default_rng(9).standard_normal((20, 2)), ab * Mixture.SIGMA**2 + 1 - ab

    def log_density(x):
        squares = ((x[:, None] - math.sqrt(ab) * Mixture.CENTRES) ** 2).sum(axis=2)
        return np.log(np.exp(-squares / (2 * spread)) @ Mixture.WEIGHTS)

    score = np.stack([(log_density(x + e) - log_density(x - e)) / 2e-4 for e in 1e-4 * np.eye(2)], axis=1)
    eps = process.implied_noise(x, mixture.predict_clean(x, t), ab)
    np.testing.assert_allclose(score, -eps / math.sqrt(1 - ab), rtol=1e-5, atol=1e-6)


class Still:
    """A generator whose numbers are all their mean."""

    def standard_normal(self, shape):
        return np.zeros(shape)


def test_what_is_inpainted_is_drawn_from_the_conditional_distribution():
    """Three correlated Gaussian pixels, one known; guesses are exact, so what is painted is too, but for the rounds.

    The mean is off by 0.052 of a deviation, the variances by a twentieth.  Catches a step that is not taken again (0.57
    of a deviation), noise put back with another variance, pixels that are known at the end alone (the mean is then 0),
    or known without the noise of their time.
    """
    alpha_bar, place, known = process.schedule(1000), np.arange(3), np.array([True, False, False])
    covariance = 0.25 * 0.7 ** np.abs(place[:, None] - place)
    clean = np.array([0.7, np.nan, np.nan])
    slopes = covariance[1:, :1] / covariance[0, 0]
    mean, spread = 0.7 * slopes[:, 0], covariance[1:, 1:] - slopes @ covariance[:1, 1:]

    def predict_clean(x, t):
        ab = alpha_bar[t]
        return x @ np.linalg.solve(ab * covariance + (1 - ab) * np.eye(3), math.sqrt(ab) * covariance)

    def paint(start, rng):
        times = process.time_steps(1000, 200)
        return process.inpaint(predict_clean, start, times, alpha_bar, known, clean, rng, rounds=20)

    painted = paint(np.zeros((1, 3)), Still())[0]  # of a linear guess the mean of what is painted
    assert painted[0] == 0.7
    np.testing.assert_allclose(painted[1:], mean, rtol=0, atol=0.07 * math.sqrt(spread[0, 0]))
    rng = np.random.default_rng(8)
    many = paint(rng.standard_normal((1500, 3)), rng)
    np.testing.assert_allclose(np.cov(many[:, 1:].T), spread, rtol=0.2)


def test_float32_stays_float32():
    alpha_bar = process.schedule(20)
    start = np.zeros((2, 3, 3, 1), np.float32)
    for sampler in SAMPLERS:
        assert run(lambda x, t: 0.5 * x, start, 5, alpha_bar, sampler).dtype == np.float32
    assert process.invert(lambda x, t: 0.5 * x, start, [20, 10, 0], alpha_bar).dtype == np.float32
    given = np.zeros((3, 3, 1), bool), start, np.random.default_rng(0)
    assert process.inpaint(lambda x, t: 0.5 * x, start, [20, 10, 0], alpha_bar, *given).dtype == np.float32
