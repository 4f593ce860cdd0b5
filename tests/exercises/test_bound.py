"""Judges the exercise on the importance-weighted bound: by known likelihoods, and by weights that are given."""

from types import SimpleNamespace

import numpy as np
import pytest

from generators.families import vae
from nn import functional as F
from nn.tensor import Tensor
from tests.exercises.trial import Trial, normal
from tests.oracles import gaussian


class Line:
    """x = z + c + noise: a VAE whose likelihood is known.  z ~ N(0, 1), x | z ~ N(z + c, 1), q(z|x) as the test says.

    As many latents as pixels, each pixel by itself; the caption "a" is c = 0, "b" is 1, and so on.
    """

    class vocabulary:
        encode = staticmethod(lambda captions: np.array([[ord(text) - ord("a")] for text in captions], np.int64))

    def __init__(self, mean, log_var, latent=1):
        self.mean, self.log_var = mean, log_var
        self.config = SimpleNamespace(latent=latent, features=1)

    def text(self, tokens):
        return Tensor(np.float32(tokens))

    def encoder(self, images, caption):
        x = images.reshape(len(images), -1) - caption.data
        return Tensor(np.float32(self.mean(x))), Tensor(np.full_like(x, self.log_var))

    def decoder(self, z, caption):
        return F.reshape(z + caption, (len(z.data), 1, -1, 1))

    def log_likelihood(self, outputs, images):
        error = outputs - Tensor(np.float32(images))
        return F.sum(error * error * -0.5 - 0.5 * float(np.log(2 * np.pi)), axis=(1, 2, 3))


class Scripted(Line):
    """A VAE whose q(z|x) is p(z), and whose weights come from a list: the bound is their mean, whatever was drawn."""

    def __init__(self, logs):
        super().__init__(lambda x: 0 * x, 0.0, 2)
        self.logs, self.asked = logs, [0] * len(logs)

    def decoder(self, z, caption):
        return F.reshape(z, (len(z.data), 1, 2, 1)) * 0.0

    def log_likelihood(self, outputs, images):
        several = []
        for image in np.broadcast_to(images, outputs.shape):
            which = int(image.flat[0])
            several.append(self.logs[which][self.asked[which] % len(self.logs[which])])
            self.asked[which] += 1
        return Tensor(np.float32(several))


@pytest.mark.exercise(id="importance-weighted-bound")
@pytest.mark.parametrize("k", [1, 3, 100])
@pytest.mark.parametrize("latent", [1, 3])
def test_bound_is_exact_where_the_encoder_is(k, latent):
    x = np.linspace(-2, 2, 5 * latent, dtype=np.float32).reshape(5, latent)
    call = f"importance_weighted_bound(model, images, captions, k={k}, seed=0), q(z|x) = p(z|x), {latent} latents"
    trial = Trial(call, *["with several latents"] * (latent > 1), keeps=False, x=x)
    model = Line(lambda x: x / 2, np.log(0.5), latent)
    images = (x + np.float32([[0], [2], [1], [0], [1]])).reshape(5, 1, latent, 1)
    got = trial.run(vae.importance_weighted_bound, model, images, list("acbab"), k, 0)
    right = gaussian.log_density(x, 0, 2).sum(axis=1)
    instead = {
        "the caption of the first image for them all": gaussian.log_density(images[:, 0, :, 0], 0, 2).sum(axis=1),
        "the mean of the weights, 1/k of their sum: log k is to be taken away": right + np.log(k),
        "log q(z|x) also has -log_var / 2 for each latent": right - latent * np.log(0.5) / 2,
    }
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, right)}
    trial.expect(got, right, "the bound", rtol=1e-4, atol=1e-4, instead=instead)


@pytest.mark.exercise(id="importance-weighted-bound")
@pytest.mark.parametrize("size", [1.0, 3000.0], ids=["ordinary", "extreme"])
def test_bound_is_the_mean_of_all_weights(size):
    k, about = 150, np.array([0, 0.2, -1]) * size
    logs = [normal((k,), seed) * 3 + level for seed, level in enumerate(about)]
    images = np.zeros((3, 1, 2, 1), np.float32) + np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)
    trial = Trial(
        f"importance_weighted_bound(model, images, captions, k={k}, seed=0), log-weights about {about}",
        *["at extreme values: an exp that overflows, or a log of zero"] * (size > 1), keeps=False,
    )  # fmt: skip
    got = trial.call_it(vae.importance_weighted_bound, (Scripted(logs), images, ["a"] * 3, k, 0), {})

    def mean_of(values):
        return np.logaddexp.reduce(values) - np.log(len(values))

    def by_chunks(length):
        parts = range(0, k, length)
        return np.array([np.mean([mean_of(w[i : i + length]) for i in parts]) for w in logs])

    instead = {"the mean of the logarithms, not the logarithm of the mean": np.array([w.mean() for w in logs])}
    instead["the largest weight alone; the mean of all is wanted"] = np.array([w.max() for w in logs])
    several = "the mean of the bounds of several chunks; the weights of all draws want one mean"
    instead |= {f"{several} ({n} each)": by_chunks(n) for n in (10, 16, 25, 32, 50, 64, 75, 100, 128)}
    right = np.array([mean_of(w) for w in logs])
    trial.expect(got, right, "the bound", rtol=1e-5, atol=1e-3, instead=instead)


@pytest.mark.exercise(id="importance-weighted-bound")
def test_bound_by_its_seed():
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(-1, 1, 1, 1)
    model = Line(lambda x: x / 2 + 1, np.log(2.0))
    trial = Trial("importance_weighted_bound(model, images, captions, k=2, seed), with one seed and with another")
    first, again, other = (
        np.array(trial.call_it(vae.importance_weighted_bound, (model, x, ["a"] * 6, 2, seed), {})) for seed in (3, 3, 4)
    )
    trial.require(np.array_equal(first, again), "the same seed gives other bounds", "noise that is not from the seed")
    trial.require(not np.array_equal(first, other), "another seed gives the same bounds", "the seed is not used")


@pytest.mark.exercise(id="importance-weighted-bound")
@pytest.mark.parametrize("k, tolerance", [(1, 0.15), (2000, 0.07)])
def test_bound_with_an_encoder_that_is_not_exact(k, tolerance):
    # With k = 1 the mean over many pixels is the ELBO; with many draws the bound is close to log p(x).
    count, latent = (200, 8) if k == 1 else (4, 1)
    x = np.repeat(np.float32([[-1.0], [2.0]]), count // 2, axis=0).repeat(latent, axis=1)
    model = Line(lambda x: x / 2 + 0.6, np.log(0.8), latent)
    call = f"importance_weighted_bound(model, images, captions, k={k}, seed=1), q(z|x) = N(x/2 + 0.6, 0.8)"
    trial = Trial(call, "with one draw" if k == 1 else "with many draws")
    got = trial.call_it(vae.importance_weighted_bound, (model, x.reshape(-1, 1, latent, 1), ["a"] * count, k, 1), {})
    trial.require(np.shape(got) == (count,), f"the shape is {np.shape(got)}; one bound for each image is wanted")
    trial.require(k > 1 or np.ptp(got[: count // 2]) > 1e-3, "the same noise for every image", "each wants its own")
    exact = gaussian.log_density(np.array([-1.0, 2.0]), 0, 2)
    elbo = exact - gaussian.kl(0.6, 0.8, 0.0, 0.5)
    instead = {"the mean of the logarithms, not the logarithm of the mean: this is the ELBO": elbo} if k > 1 else {}
    means = np.asarray(got, float).reshape(2, -1).mean(axis=1) / latent
    close = {cause: means for cause, value in instead.items() if np.allclose(means, value, atol=0.05)}
    trial.expect(means, elbo if k == 1 else exact, "the bound", rtol=0, atol=tolerance, instead=close)
