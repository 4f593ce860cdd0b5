"""Judges the exercises on the VAE, against closed forms and plain NumPy; its networks are replaced by tiny ones."""

import numpy as np
import pytest

from generators.families import vae
from generators.family import Shard
from nn import functional as F
from nn.ops.loss import BCEWithLogits, GaussianKL
from nn.tensor import Tensor
from tests.exercises.chance import expect_from_rng, expect_normals
from tests.exercises.trial import Trial, bare, context, normal
from tests.oracles import elementary


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


class Watched:
    """An encoder and a decoder that keep what they were shown: q(z|x) = N(x A, exp(x B)), and logits 2 z + c."""

    def __init__(self, of_mean, of_log_var):
        self.of_mean, self.of_log_var, self.images, self.z = of_mean, of_log_var, [], []

    def encode(self, images, caption):
        flat = np.asarray(getattr(images, "data", images)).reshape(len(images), 4)
        self.images.append(flat)
        return Tensor(flat @ self.of_mean), Tensor(flat @ self.of_log_var)

    def decode(self, z, caption):
        self.z.append(np.array(z.data))
        return F.reshape(z, (len(z.data), 2, 2, 1)) * 2.0 + F.reshape(caption, (-1, 1, 1, 1))

    def noise(self, trial, count):
        """(the images that were encoded, the noise in z), one row for each."""
        for what, seen in (("images were encoded", self.images), ("z were decoded", self.z)):
            found = sum(len(part) for part in seen)
            trial.require(found == count, f"{found} {what}; the shard has {count}")
        images, z = np.concatenate(self.images), np.concatenate(self.z)
        trial.require(z.dtype == np.float32, f"z is {z.dtype}", "the noise is float64: dtype=np.float32, or .astype")
        return images, (z - images @ self.of_mean) / np.exp(images @ self.of_log_var / 2)


def tiny_vae(beta, of_mean, of_log_var, likelihood="bernoulli"):
    """A VAE whose encoder says what the test wants, and whose decoder writes z over four pixels."""
    model = bare(vae.VAE)
    model.config = vae.VAEConfig(
        image_size=2, channels=1, vocabulary=("a",), latent=4, features=1, beta=beta, likelihood=likelihood
    )
    model.watched = Watched(of_mean, of_log_var)
    model.text = lambda tokens: Tensor(np.float32(tokens))
    model.encoder, model.decoder = model.watched.encode, model.watched.decode
    return model


def tiny_shard(images, size=None):
    tokens = np.array([[1], [0], [2]])[np.arange(len(images)) % 3]
    return Shard(images, tokens, None, np.zeros(len(images), int), np.arange(len(images)), size or len(images))


OF_MEAN, OF_LOG_VAR = normal((4, 4), 0, np.float32), normal((4, 4), 1, np.float32) * np.float32(0.3)


@pytest.mark.exercise(id="elbo")
@pytest.mark.parametrize("beta, size", [(1.0, 3), (4.0, 3), (1.0, 12)], ids=["beta_1", "beta_4", "part_of_a_batch"])
def test_elbo(beta, size):
    judge_elbo(beta, size, gray=False)


def judge_elbo(beta, size, gray):
    shades = np.float32([0.1, 0.4, 0.7, 0.9]) if gray else np.float32([0, 1, 0, 1])
    images = np.resize(shades, 12)[np.random.default_rng(2).permutation(12)].reshape(3, 2, 2, 1)
    shard = tiny_shard(images, size)
    tags = (["with another beta"] if beta != 1 else []) + (["where the shard is a part of a batch"] if size > 3 else [])
    tags += ["where the images are gray and have to be binarised"] if gray else []
    call = f"VAE.loss(shard, rng), beta = {beta}, batch_size = {size}"
    trial = Trial(call, *tags, images=images, tokens=shard.tokens)
    model = tiny_vae(beta, OF_MEAN, OF_LOG_VAR)
    loss = trial.expect_loss_and_metrics(trial.run(model.loss, shard, np.random.default_rng(0)))
    flat, noise = model.watched.noise(trial, 3)
    cause = "binarise(images, rng), for a Bernoulli likelihood"
    trial.require(np.isin(flat, (0, 1)).all(), "the encoder is shown gray images", cause)
    ink = flat.reshape(images.shape)
    mean, log_var, z = flat @ OF_MEAN, flat @ OF_LOG_VAR, np.concatenate(model.watched.z)
    said = shard.tokens.reshape(3, 1, 1, 1)
    logits, kl = 2 * z.reshape(3, 2, 2, 1) + said, elementary.gaussian_kl(mean, log_var)
    error = elementary.bce_with_logits(logits, ink)
    of_gray = elementary.bce_with_logits(logits, images)
    instead = {
        "beta is not used": (error + kl).sum() / size,
        "the KL term has the wrong sign": (error - beta * kl).sum() / size,
        "the KL term is missing": error.sum() / size,
        "the reconstruction has the wrong sign: the loss is minus the ELBO": (beta * kl - error).sum() / size,
        "beta belongs to the KL term, not to the reconstruction": (beta * error + kl).sum() / size,
        "beta belongs to the KL term alone": beta * (error + kl).sum() / size,
        "the sum over pixels is wanted, not the mean": (error / 4 + beta * kl).sum() / size,
        "the decoder is not told the captions":
            (elementary.bce_with_logits(logits - said, ink) + beta * kl).sum() / size,
        "this is the ELBO itself; the loss is minus that": -(error + beta * kl).sum() / size,
        "divide by shard.batch_size, not by the length of the shard": (error + beta * kl).sum() / 3,
        "the sum over examples is not divided by shard.batch_size": (error + beta * kl).sum(),
        "the error is that of the gray images; the encoder was shown binary ones": (of_gray + beta * kl).sum() / size,
        "the first image only": (error + beta * kl)[0] / size,
    }
    right = (error + beta * kl).sum() / size
    instead = {cause: value for cause, value in instead.items() if abs(value - right) > 1e-3}
    trial.expect(loss, right, "the loss", rtol=1e-4, atol=1e-4, dtype=np.float32, instead=instead)
    trial.require(np.abs(noise).max() > 1e-3, "z is the mean", "no noise is drawn")


@pytest.mark.exercise(id="elbo")
def test_elbo_binarises_once():
    """The images that the encoder saw are those whose error counts, however gray: seen in one of many pixels."""
    images = np.full((40, 2, 2, 1), 0.5, np.float32)
    model, shard = tiny_vae(0.0, OF_MEAN, OF_LOG_VAR), tiny_shard(images)
    trial = Trial("VAE.loss(shard, rng), beta = 0", "where the images are gray and have to be binarised")
    loss = trial.expect_loss_and_metrics(trial.run(model.loss, shard, np.random.default_rng(0)))
    flat, _ = model.watched.noise(trial, 40)
    trial.require(np.isin(flat, (0, 1)).all(), "the encoder is shown gray images", "binarise once, before the encoder")
    logits = 2 * np.concatenate(model.watched.z).reshape(40, 2, 2, 1) + shard.tokens.reshape(40, 1, 1, 1)
    right = elementary.bce_with_logits(logits, flat.reshape(images.shape)).mean()
    got = float(np.asarray(getattr(loss, "data", loss)))
    cause = "the images are binarised twice: draw them once, for the encoder and for the error"
    close = abs(got - right) < 1e-3 * abs(right)
    trial.require(close, f"the loss is {got:.4f}; of the images that were encoded it is {right:.4f}", cause)


@pytest.mark.exercise(id="elbo")
def test_elbo_of_images_that_are_binarised():
    judge_elbo(1.0, 3, gray=True)


@pytest.mark.exercise(id="elbo")
def test_elbo_draws_from_rng_and_for_each_image():
    images = np.tile(np.float32([0.1, 0.4, 0.7, 0.9]), 400).reshape(400, 2, 2, 1)
    trial = Trial("VAE.loss(shard, rng), 400 images")

    def draw(rng, count=400):
        model = tiny_vae(1.0, OF_MEAN, OF_LOG_VAR)
        trial.run(model.loss, tiny_shard(images[:count]), rng)
        return np.concatenate(model.watched.noise(trial, count), axis=1)

    found = draw(np.random.default_rng(0))
    expect_normals(trial, found[:, 4:])
    for pixel, shade in enumerate((0.1, 0.4, 0.7, 0.9)):
        share = found[:, pixel].mean()
        cause = "1 - image: the comparison the wrong way round" if abs(share - 1 + shade) < 0.1 else ""
        cause = "each pixel by chance, not by rounding" if share in (0, 1) else cause
        told = f"of a pixel of gray value {shade} {share:.0%} were binarised to 1"
        trial.require(abs(share - shade) < 5 * (shade * (1 - shade) / 400) ** 0.5, told, cause)
    expect_from_rng(trial, lambda rng: draw(rng, 10)[:, 4:])
    expect_from_rng(trial, lambda rng: draw(rng, 10)[:, :4])


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
    images = (np.random.default_rng(2).integers(0, 256, (3, 2, 2, 1)) / 255).astype(np.float32)
    model, shard = tiny_vae(1.0, OF_MEAN, OF_LOG_VAR, "logistic"), tiny_shard(images)

    def decode(z, caption):
        model.watched.z.append(np.array(z.data))
        means, scales = F.reshape(z, (-1, 2, 2, 1)) * 0.2, F.reshape(z + caption, (-1, 2, 2, 1)) * 0.1
        return F.concat([means, scales], axis=3)

    model.decoder = decode
    trial = Trial("VAE.loss(shard, rng)", 'where the likelihood is "logistic", of gray images', images=images)
    loss = trial.expect_loss_and_metrics(trial.run(model.loss, shard, np.random.default_rng(0)))
    shown, _ = model.watched.noise(trial, 3)
    cause = "only a Bernoulli likelihood wants binary images"
    trial.expect(shown, images.reshape(3, 4), "what the encoder is shown", instead={cause: np.round(shown)})
    z = np.concatenate(model.watched.z)
    outputs = np.concatenate([(z * 0.2).reshape(3, 2, 2, 1), ((z + shard.tokens) * 0.1).reshape(3, 2, 2, 1)], axis=3)
    kl = elementary.gaussian_kl(shown @ OF_MEAN, shown @ OF_LOG_VAR)
    right = (kl - logistic_log_likelihood(outputs, images)).sum() / 3
    trial.expect(loss, right, "the loss", rtol=1e-3, atol=1e-3)


@pytest.mark.exercise(id="elbo")
def test_elbo_can_be_trained():
    """Its gradient, in closed form: through the KL, and through z, too, which a detached draw would cut."""
    mean, log_var = Tensor(normal((1, 4), 0, np.float32), True), Tensor(normal((1, 4), 1, np.float32), True)
    model = tiny_vae(1.0, OF_MEAN, OF_LOG_VAR)
    model.encoder = lambda images, caption: (mean, log_var)
    shard = Shard(np.ones((1, 2, 2, 1), np.float32), np.zeros((1, 1), int), None, np.zeros(1, int), np.arange(1), 1)
    trial = Trial("VAE.loss(shard, rng), where the encoder wants a gradient", mean=mean.data, log_var=log_var.data)
    loss = trial.expect_loss_and_metrics(trial.run(model.loss, shard, np.random.default_rng(0)))
    trial.require(getattr(loss, "requires_grad", False), "no gradient flows back", "something uses .data")
    loss.backward()
    z, sigma = model.watched.z[0].astype(float), np.exp(log_var.data.astype(float) / 2)
    by_z = 2 * (1 / (1 + np.exp(-2 * z)) - 1)  # of the error of logits 2 z, all pixels ink
    by_kl = {"mean": mean.data, "log_var": (sigma**2 - 1) / 2}
    by_both = {"mean": by_z + by_kl["mean"], "log_var": by_z * (z - mean.data) / 2 + by_kl["log_var"]}
    for name, tensor in (("mean", mean), ("log_var", log_var)):
        instead = {
            "through the KL alone; it has to flow through z, too: no .data in the draw": by_kl[name],
            "z is drawn with the variance in the place of the deviation: exp(log_var / 2)":
                2 * by_both[name] - by_kl[name] if name == "log_var" else by_kl[name],
        }  # fmt: skip
        trial.expect(tensor.grad, by_both[name], f"the gradient of {name}", rtol=1e-4, atol=1e-5, instead=instead)
