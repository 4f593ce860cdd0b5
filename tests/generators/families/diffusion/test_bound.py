"""The bound on the likelihood: Gaussian images and exact guesses, for which every term is known."""
import math
from types import SimpleNamespace

import numpy as np
import pytest

import datasets
from generators.families.diffusion import bound, process
from generators.parts.text import Vocabulary
from nn.parallel import Threads, derive_rng
from nn.tensor import Tensor
from tests.generators.families.diffusion.test_ddpm import model

DEVIATION = 0.3


def oracle(steps, kind):
    """A model whose guess is the mean of x_0 given x_t, if pixels are independent Gaussians."""
    alpha_bar = process.schedule(steps)

    def network(x, t, caption):
        ab = alpha_bar[t].reshape(-1, 1, 1, 1)
        x0 = x.data * np.sqrt(ab) * DEVIATION**2 / (ab * DEVIATION**2 + 1 - ab)
        eps = (x.data - np.sqrt(ab) * x0) / np.sqrt(1 - ab)
        return Tensor(eps if kind == "noise" else np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0)

    return SimpleNamespace(
        alpha_bar=alpha_bar, network=network, config=SimpleNamespace(prediction=kind), text=lambda tokens: tokens,
        vocabulary=Vocabulary(("a",), ""),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["noise", "v"])
@pytest.mark.parametrize("steps", [12, 100])
def test_of_gaussian_images_and_perfect_guesses_the_bound_is_known(steps, kind):
    """Catches times off by one, a sum over T instead of T - 1 terms, halves, variances for precisions, nats for bits,
    and a figure below the true entropy, which is no bound."""
    rng, count = np.random.default_rng(0), 1200
    levels = np.rint(255 * (0.5 + 0.5 * DEVIATION * rng.standard_normal((count, 8, 8, 1))))
    images = levels.clip(0, 255) / np.float32(255)
    found = bound.bits_bound(oracle(steps, kind), images, [""] * count, rng, Threads(1))
    assert found.shape == (count,)

    ab = process.schedule(steps)[1:]
    snr, level = ab / (1 - ab), 2 / 255
    error = DEVIATION**2 / (1 + DEVIATION**2 * snr)  # of the perfect guess
    nats = 0.5 * ((snr[:-1] - snr[1:]) * error[1:]).sum()
    nats += 0.5 * math.log(2 * math.pi / snr[0]) - math.log(level) + 0.5 * snr[0] * error[0]
    nats += 0.5 * (ab[-1] * DEVIATION**2 - ab[-1] - math.log1p(-ab[-1]))
    assert found.mean() == pytest.approx(nats / math.log(2), rel=0.01)
    assert found.mean() > math.log2(DEVIATION * math.sqrt(2 * math.pi * math.e) / level)


def test_figures_are_means_over_all_test_images_whatever_the_threads():
    made, test = model(image_size=28), datasets.load("digits", "test", 6)
    made.vocabulary = Vocabulary(test.language.vocabulary, test.language.name)
    made.text = lambda tokens: Tensor(np.zeros((len(tokens), made.config.features), np.float32))
    one, two = (made.likelihood_figures(test, 0, Threads(count)) for count in (1, 2))
    assert one == two and 0 < one["bits_per_dimension_bound"] < math.inf  # guesses are far off
    captions, rng = test.captions(range(6)), derive_rng(0, "bound")
    bits = bound.bits_bound(made, test.images / np.float32(255), captions, rng, Threads(1))
    assert one == {"bits_per_dimension_bound": pytest.approx(bits.mean())}
