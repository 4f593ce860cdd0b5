"""Judges the exercises on the VAE, against closed forms and plain NumPy; its networks are replaced by tiny ones."""

import numpy as np
import pytest

from generators.families import vae
from generators.family import Shard
from nn import functional as F
from nn.ops.loss import BCEWithLogits, GaussianKL
from nn.tensor import Tensor
from tests.exercises.trial import SameNoise, Trial, bare, context, normal
from tests.oracles import elementary, gaussian


@pytest.mark.exercise(id="reparameterise")
def test_reparameterise():
    mean, log_var, noise = normal((2, 3), 0), normal((2, 3), 1) * 2, normal((2, 3), 2)
    trial = Trial("reparameterise(mean, log_var, noise)", mean=mean, log_var=log_var, noise=noise)
    got = trial.run(vae.reparameterise, Tensor(mean), Tensor(log_var), noise)
    sigma = np.exp(log_var / 2)
    instead = {
        "the variance is taken for the standard deviation: exp(log_var / 2)": mean + np.exp(log_var) * noise,
        "log_var is taken for the standard deviation": mean + log_var * noise,
        "the noise is left out": mean,
        "the standard deviation is inverted: a sign in the exponent": mean + noise / sigma,
    }
    trial.expect(got, mean + sigma * noise, "z", instead=instead)


@pytest.mark.exercise(id="reparameterise")
@pytest.mark.parametrize("which", ["mean", "log_var"])
def test_reparameterise_lets_the_gradient_through(which):
    mean, log_var = Tensor(normal((2, 3), 0), which == "mean"), Tensor(normal((2, 3), 1), which == "log_var")
    trial = Trial(f"reparameterise(mean, log_var, noise), where {which} wants a gradient")
    got = trial.run(vae.reparameterise, mean, log_var, normal((2, 3), 2))
    trial.require(
        getattr(got, "requires_grad", False), f"no gradient flows back to {which}", "work with tensors, not with .data"
    )


@pytest.mark.exercise(id="gaussian-kl")
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 2)], ids=str)
def test_gaussian_kl(shape):
    mean, log_var = normal(shape, 0), normal(shape, 1)
    ctx = context(GaussianKL, (True, True))
    trial = Trial("GaussianKL.forward(ctx, mean, log_var)", mean=mean, log_var=log_var)
    got = trial.run(GaussianKL.forward, ctx, mean, log_var)
    if np.shape(got) == () and shape != ():
        trial.require(False, f"one number came back; one for each example is wanted, shape ({shape[0]},)")
    expected = elementary.gaussian_kl(mean, log_var)
    rows = (mean**2 + np.exp(2 * log_var) - 1 - 2 * log_var).reshape(shape[0], -1).sum(1) / 2
    instead = {
        "log_var is taken for the logarithm of the standard deviation": rows,
        "the half is missing": 2 * expected,
        "log_var has the wrong sign": expected + log_var.reshape(shape[0], -1).sum(1),
    }
    trial.expect(got, expected, "the KL", instead=instead)
    grad = normal(shape[:1], 2)
    trial = Trial("GaussianKL.backward(ctx, grad), on what your forward has left in ctx", mean=mean, log_var=log_var)
    wide = grad.reshape(-1, *[1] * (len(shape) - 1))
    d_mean, d_log_var = trial.run(GaussianKL.backward, ctx, grad)
    trial.expect(d_mean, wide * mean, "the gradient of mean")
    trial.expect(d_log_var, wide * (np.exp(log_var) - 1) / 2, "the gradient of log_var")


@pytest.mark.exercise(id="gaussian-kl")
def test_gaussian_kl_between_equals_is_zero():
    zero = np.zeros((2, 3))
    trial = Trial("GaussianKL.forward(ctx, zeros, zeros)", mean=zero, log_var=zero)
    got = trial.run(GaussianKL.forward, context(GaussianKL, (True, True)), zero, zero)
    trial.expect(got, np.zeros(2), "the KL")


@pytest.mark.exercise(id="bce-with-logits")
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 2, 1)], ids=str)
@pytest.mark.parametrize("size", [1.0, 500.0], ids=["ordinary", "extreme"])
def test_bce_with_logits(shape, size):
    logits, target = normal(shape, 0) * size, np.random.default_rng(1).random(shape)
    tags = ["at extreme values"] if size > 1 else []
    ctx = context(BCEWithLogits, (True, True))
    trial = Trial("BCEWithLogits.forward(ctx, logits, target)", *tags, logits=logits, target=target)
    got = trial.run(BCEWithLogits.forward, ctx, logits, target)
    expected = elementary.bce_with_logits(logits, target)
    each = np.log1p(np.exp(-np.abs(logits))) + np.maximum(logits, 0)
    rest = tuple(range(1, len(shape)))
    instead = {
        "the mean over an example, where the sum is wanted": expected / logits[0].size,
        "this is the log-likelihood; its negative is wanted": -expected,
        "black and white are exchanged": (each - logits * (1 - target)).sum(rest),
        "the target is left out": each.sum(rest),
    }
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, expected)}
    trial.expect(got, expected, "the loss", dtype=np.float64, instead=instead)
    grad = normal(shape[:1], 2)
    wide = grad.reshape(-1, *[1] * (len(shape) - 1))
    call = "BCEWithLogits.backward(ctx, grad), on what your forward has left in ctx"
    trial = Trial(call, *tags, logits=logits, target=target)
    d_logits, d_target = trial.run(BCEWithLogits.backward, ctx, grad)
    sigmoid = np.exp(-np.logaddexp(0, -logits))
    trial.expect(d_logits, wide * (sigmoid - target), "the gradient of logits")
    trial.expect(d_target, -wide * logits, "the gradient of target")


@pytest.mark.exercise(id="bce-with-logits")
def test_bce_with_logits_stays_float32():
    logits, target = np.float32([[-100, 3], [0, 100]]), np.float32([[0, 1], [0.5, 1]])
    trial = Trial("BCEWithLogits.forward(ctx, logits, target)", "in float32", logits=logits, target=target)
    got = trial.run(BCEWithLogits.forward, context(BCEWithLogits, (True, False)), logits, target)
    trial.expect(got, elementary.bce_with_logits(logits, target), "the loss", rtol=1e-5, atol=1e-6, dtype=np.float32)


def tiny_vae(beta, mean, log_var, likelihood="bernoulli"):
    """A VAE whose encoder says what the test wants, and whose decoder writes z over four pixels."""
    model = bare(vae.VAE)
    model.config = vae.VAEConfig(
        image_size=2, channels=1, vocabulary=("a",), latent=4, features=1, beta=beta, likelihood=likelihood
    )
    model.text = lambda tokens: Tensor(np.float32(tokens))
    model.encoder = lambda images, caption: (
        Tensor(images.reshape(len(images), 4) @ mean),
        Tensor(images.reshape(len(images), 4) @ log_var),
    )
    model.decoder = lambda z, caption: F.reshape(z, (len(z.data), 2, 2, 1)) * 2.0 + F.reshape(caption, (-1, 1, 1, 1))
    return model


@pytest.mark.exercise(id="elbo")
@pytest.mark.parametrize(
    "beta, size, gray",
    [(1.0, 3, False), (4.0, 3, False), (1.0, 12, False), (1.0, 3, True)],
    ids=["beta_1", "beta_4", "part_of_a_batch", "gray_images"],
)
def test_elbo(beta, size, gray):
    of_mean, of_log_var = normal((4, 4), 0, np.float32), normal((4, 4), 1, np.float32)
    shades = np.float32([0.1, 0.4, 0.7, 0.9]) if gray else np.float32([0, 1, 0, 1])
    images = np.resize(shades, 12)[np.random.default_rng(2).permutation(12)].reshape(3, 2, 2, 1)
    tokens = np.array([[1], [0], [2]])
    shard = Shard(images, tokens, None, np.zeros(3, int), np.arange(3), size)
    tags = (["with another beta"] if beta != 1 else []) + (["where the shard is a part of a batch"] if size > 3 else [])
    tags += ["where the images are gray and have to be binarised"] if gray else []
    trial = Trial(f"VAE.loss(shard, rng), beta = {beta}, batch_size = {size}", *tags, images=images, tokens=tokens)
    rng = SameNoise()
    loss = trial.expect_loss_and_metrics(trial.run(tiny_vae(beta, of_mean, of_log_var).loss, shard, rng))
    images = (SameNoise().random(images.shape) < images).astype(np.float32)  # binarised
    mean, log_var = images.reshape(3, 4) @ of_mean, images.reshape(3, 4) @ of_log_var
    z = mean + np.exp(log_var / 2) * SameNoise().standard_normal(mean.shape)
    logits = 2 * z.reshape(3, 2, 2, 1) + tokens.reshape(3, 1, 1, 1)
    error, kl = elementary.bce_with_logits(logits, images), elementary.gaussian_kl(mean, log_var)
    flat = elementary.bce_with_logits(2 * mean.reshape(logits.shape) + tokens.reshape(3, 1, 1, 1), images)
    instead = {
        "beta is not used": (error + kl).sum() / size,
        "the KL term has the wrong sign": (error - beta * kl).sum() / size,
        "the KL term is missing": error.sum() / size,
        "the reconstruction has the wrong sign: the loss is minus the ELBO": (beta * kl - error).sum() / size,
        "beta belongs to the KL term, not to the reconstruction": (beta * error + kl).sum() / size,
        "this is the ELBO itself; the loss is minus that": -(error + beta * kl).sum() / size,
        "divide by shard.batch_size, not by the length of the shard": (error + beta * kl).sum() / 3,
        "the sum over examples is not divided by shard.batch_size": (error + beta * kl).sum(),
        "z is the mean: no noise is drawn": (flat + beta * kl).sum() / size,
    }
    right = (error + beta * kl).sum() / size
    instead = {cause: value for cause, value in instead.items() if abs(value - right) > 1e-3}
    trial.expect(loss, right, "the loss", rtol=1e-4, atol=1e-4, instead=instead)
    rng.expect_normals(trial, 12)


def logistic_log_likelihood(outputs, images):
    """Of 8-bit images under a logistic distribution, by the difference of two sigmoids, in float64."""
    mean, log_scale = np.split(outputs.astype(float), 2, axis=-1)

    def below(x):
        return np.exp(-np.logaddexp(0, -(x - mean) / np.exp(log_scale)))

    low = np.where(images > 0, below(images - 0.5 / 255), 0)
    high = np.where(images < 1, below(images + 0.5 / 255), 1)
    return np.log(high - low).sum(axis=(1, 2, 3))


@pytest.mark.exercise(id="elbo")
def test_elbo_of_gray_images():
    of_mean, of_log_var = normal((4, 4), 0, np.float32), normal((4, 4), 1, np.float32)
    images = (np.random.default_rng(2).integers(0, 256, (3, 2, 2, 1)) / 255).astype(np.float32)
    tokens = np.array([[1], [0], [2]])
    model = tiny_vae(1.0, of_mean, of_log_var, "logistic")
    model.decoder = lambda z, caption: F.concat(
        [F.reshape(z, (-1, 2, 2, 1)) * 0.2, F.reshape(z + caption, (-1, 2, 2, 1)) * 0.1], axis=3
    )
    trial = Trial("VAE.loss(shard, rng)", 'where the likelihood is "logistic", of gray images', images=images)
    shard = Shard(images, tokens, None, np.zeros(3, int), np.arange(3), 3)
    loss = trial.expect_loss_and_metrics(trial.run(model.loss, shard, SameNoise()))

    def minus_elbo(images):
        mean, log_var = images.reshape(3, 4) @ of_mean, images.reshape(3, 4) @ of_log_var
        z = mean + np.exp(log_var / 2) * SameNoise().standard_normal(mean.shape)
        outputs = np.concatenate([(z * 0.2).reshape(3, 2, 2, 1), ((z + tokens) * 0.1).reshape(3, 2, 2, 1)], axis=3)
        return (elementary.gaussian_kl(mean, log_var) - logistic_log_likelihood(outputs, images)).sum() / 3

    binary = (SameNoise().random(images.shape) < images).astype(np.float32)
    instead = {"only a Bernoulli likelihood wants binary images": minus_elbo(binary)}
    trial.expect(loss, minus_elbo(images), "the loss", rtol=1e-3, atol=1e-3, instead=instead)


@pytest.mark.exercise(id="elbo")
def test_elbo_can_be_trained():
    """Its gradient, in closed form: through the KL, and through z, too, which a detached draw would cut."""
    mean, log_var = Tensor(normal((1, 4), 0, np.float32), True), Tensor(normal((1, 4), 1, np.float32), True)
    model = tiny_vae(1.0, mean.data, log_var.data)
    model.encoder = lambda images, caption: (mean, log_var)
    shard = Shard(np.ones((1, 2, 2, 1), np.float32), np.zeros((1, 1), int), None, np.zeros(1, int), np.arange(1), 1)
    trial = Trial("VAE.loss(shard, rng), where the encoder wants a gradient", mean=mean.data, log_var=log_var.data)
    loss = trial.expect_loss_and_metrics(trial.run(model.loss, shard, SameNoise()))
    trial.require(getattr(loss, "requires_grad", False), "no gradient flows back", "something uses .data")
    loss.backward()
    noise, sigma = SameNoise().standard_normal((1, 4)), np.exp(log_var.data.astype(float) / 2)
    by_z = 2 * (1 / (1 + np.exp(-2 * (mean.data + sigma * noise))) - 1)  # of the error of logits 2 z, all pixels ink
    by_kl = {"mean": mean.data, "log_var": (sigma**2 - 1) / 2}
    by_both = {"mean": by_z + by_kl["mean"], "log_var": by_z * sigma * noise / 2 + by_kl["log_var"]}
    for name, tensor in (("mean", mean), ("log_var", log_var)):
        instead = {"through the KL alone; it has to flow through z, too: no .data in the draw": by_kl[name]}
        trial.expect(tensor.grad, by_both[name], f"the gradient of {name}", rtol=1e-4, atol=1e-5, instead=instead)


class Line:
    """x = z + noise: a VAE whose likelihood is known.  z ~ N(0, 1), x | z ~ N(z, 1), and q(z|x) as the test says."""

    class config:
        latent, features = 1, 1

    class vocabulary:
        encode = staticmethod(lambda captions: np.ones((len(captions), 1), np.int64))

    def __init__(self, mean, log_var):
        self.mean, self.log_var = mean, log_var

    def text(self, tokens):
        return Tensor(np.float32(tokens))

    def encoder(self, images, caption):
        x = images.reshape(len(images), 1)
        return Tensor(np.float32(self.mean(x))), Tensor(np.full_like(x, self.log_var))

    def decoder(self, z, caption):
        return F.reshape(z, (-1, 1, 1, 1))

    def log_likelihood(self, outputs, images):
        error = (outputs - Tensor(np.float32(images))).reshape(-1)
        return error * error * -0.5 - 0.5 * float(np.log(2 * np.pi))


@pytest.mark.exercise(id="importance-weighted-bound")
@pytest.mark.parametrize("k", [1, 3, 100])
def test_bound_is_exact_where_the_encoder_is(k):
    x = np.linspace(-2, 2, 5, dtype=np.float32)
    trial = Trial(f"importance_weighted_bound(model, images, captions, k={k}, seed=0), q(z|x) = p(z|x)", x=x)
    model = Line(lambda x: x / 2, np.log(0.5))
    got = trial.run(vae.importance_weighted_bound, model, x.reshape(-1, 1, 1, 1), ["a"] * 5, k, 0)
    trial.expect(got, gaussian.log_density(x, 0, 2), "the bound", rtol=1e-4, atol=1e-4)


@pytest.mark.exercise(id="importance-weighted-bound")
@pytest.mark.parametrize("k, tolerance", [(1, 0.15), (4000, 0.05)])
def test_bound_with_an_encoder_that_is_not_exact(k, tolerance):
    # With k = 1 the mean over many images is the ELBO; with many draws the bound is close to log p(x).
    count = 1600 if k == 1 else 4
    x = np.repeat(np.float32([[-1.0], [2.0]]), count // 2, axis=0)
    model = Line(lambda x: x / 2 + 0.6, np.log(0.8))
    call = f"importance_weighted_bound(model, images, captions, k={k}, seed=1), q(z|x) = N(x/2 + 0.6, 0.8)"
    trial = Trial(call, "with one draw" if k == 1 else "with many draws")
    got = trial.run(vae.importance_weighted_bound, model, x.reshape(-1, 1, 1, 1), ["a"] * count, k, 1)
    trial.require(np.shape(got) == (count,), f"the shape is {np.shape(got)}; one bound for each image is wanted")
    exact = gaussian.log_density(np.array([-1.0, 2.0]), 0, 2)
    elbo = exact - gaussian.kl(0.6, 0.8, 0.0, 0.5)
    instead = {"the mean of the logarithms, not the logarithm of the mean: this is the ELBO": elbo} if k > 1 else {}
    means = np.asarray(got, float).reshape(2, -1).mean(axis=1)
    close = {cause: means for cause, value in instead.items() if np.allclose(means, value, atol=0.05)}
    trial.expect(means, elbo if k == 1 else exact, "the bound", rtol=0, atol=tolerance, instead=close)
