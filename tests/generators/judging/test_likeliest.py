"""Which caption a generator finds likeliest."""
import numpy as np
import pytest

import datasets
import generators
from generators import pretrained, registry
from generators.families.diffusion.ddpm import DDPM
from generators.judging.likeliest import probabilities


class Gaussian(DDPM):
    """The exact denoiser of images whose pixels are N(mean, 1), the caption being the mean, and T = 1000."""

    def __init__(self):
        self.vocabulary = self
        self.config = DDPM.Config()

    def encode(self, captions):
        return np.array([float(caption) for caption in captions])

    def denoiser(self, tokens, guidance, clip):
        assert guidance == 1 and not clip
        mean = tokens.reshape(-1, 1, 1, 1)

        def predict_clean(x_t, t):
            signal, variance = np.sqrt(self.alpha_bar[t]), 1 - self.alpha_bar[t]
            return (mean + x_t * signal / variance) / (1 + signal**2 / variance)

        return predict_clean


def test_diffusions_error_is_a_log_likelihood():
    """Of Gaussians it is known.  Catches a wrong sign or weight, and noise that differs from caption to caption."""
    means = [-0.5, 0.0, 0.5]  # of images from -1 to 1
    image = np.random.default_rng(0).normal(0.3, 1, (28, 28, 1)).astype(np.float32)
    found = Gaussian().weigh(image * 0.5 + 0.5, [str(mean) for mean in means])
    exact = np.array([-0.5 * np.sum((image - mean) ** 2) for mean in means])
    np.testing.assert_allclose(found - found[1], exact - exact[1], rtol=0.2, atol=5)


@pytest.mark.parametrize("name", [name for name in registry.able("weigh") if name in pretrained.names()])
def test_the_models_that_come_along_read_digits(name):
    """Catches a caption that is ignored, or taken for another.  By chance it would be 1 of 10."""
    digits, model = datasets.load("digits", "test", 6), generators.load(name)
    images = digits.images / np.float32(255)
    shares = [probabilities(model, image, digits.classes) for image in images]
    assert np.mean(np.argmax(shares, axis=1) == digits.labels) >= 0.6
    np.testing.assert_allclose(np.sum(shares, axis=1), 1)
