"""The VAE: its formulas against exact answers, its bound against integrals, and that it learns."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.families import vae
from generators.families.vae import (
    VAE,
    VAEConfig,
    bernoulli_log_likelihood,
    binarise,
    importance_weighted_bound,
    logistic_log_likelihood,
    reparameterise,
)
from generators.family import OptimiserConfig, Shard
from generators.training import Trainer
from nn import functional as F
from nn.tensor import Tensor
from tests.generators.toys import build, pool, toy_data

SMALL = {"width": 8, "latent": 3, "features": 8, "batch_size": 20, "shard_size": 8}
DATA = toy_data(100)


def small(**settings):
    return build(VAE, DATA, **(SMALL | settings))


def test_reparameterise():
    """Catches exp(log_var) taken for the standard deviation, and the gradient to log_var cut."""
    rng = np.random.default_rng(0)
    mean, log_var = (Tensor(rng.standard_normal((4, 3)), requires_grad=True) for _ in range(2))
    noise = rng.standard_normal((4, 3))
    z = reparameterise(mean, log_var, noise)
    np.testing.assert_allclose(z.data, mean.data + np.sqrt(np.exp(log_var.data)) * noise)
    F.sum(z).backward()
    np.testing.assert_allclose(mean.grad, np.ones((4, 3)))
    np.testing.assert_allclose(log_var.grad, 0.5 * np.exp(log_var.data / 2) * noise)


def test_bernoulli_probabilities_sum_to_one():
    """Over all 16 binary images of 2x2 pixels.  Catches a mean over pixels, and a flipped sign."""
    logits = np.random.default_rng(0).standard_normal((1, 2, 2, 1))
    images = np.array([[(i >> bit) & 1 for bit in range(4)] for i in range(16)], float).reshape(16, 2, 2, 1)
    log_p = bernoulli_log_likelihood(Tensor(np.repeat(logits, 16, axis=0)), images).data
    assert np.exp(log_p).sum() == pytest.approx(1)


@given(st.floats(-0.3, 1.3), st.floats(-7, 1))
def test_logistic_probabilities_sum_to_one(mean, log_scale):
    """Over all 256 gray values of one pixel.  Catches the tails of 0 and 1 left out or given twice."""
    outputs = Tensor(np.repeat(np.array([[[[mean, log_scale]]]]), 256, axis=0))
    values = (np.arange(256) / 255).reshape(256, 1, 1, 1)
    assert np.exp(logistic_log_likelihood(outputs, values).data).sum() == pytest.approx(1, abs=1e-6)


def test_logistic_stays_finite_far_out():
    """Catches log(0) for a gray value that the decoder thinks impossible."""
    for log_scale in (-7.0, -200.0):  # exp(200) is beyond float32
        outputs = Tensor(np.array([[[[0.0, log_scale]]], [[[1.0, log_scale]]]], np.float32), requires_grad=True)
        log_p = logistic_log_likelihood(outputs, np.array([[[[1.0]]], [[[0.5]]]], np.float32))
        F.sum(log_p).backward()
        assert np.isfinite(log_p.data).all() and np.isfinite(outputs.grad).all()


def test_binarise_keeps_the_mean():
    """Catches a fixed threshold."""
    images = np.full((1, 100, 100, 1), 0.3, np.float32)
    drawn = binarise(images, np.random.default_rng(0))
    assert set(np.unique(drawn)) == {0, 1} and abs(drawn.mean() - 0.3) < 0.02


def shard(count=8):
    indices = np.arange(count)
    model = small()
    tokens = model.vocabulary.encode(DATA.captions(indices))
    images = DATA.images[indices].astype(np.float32) / 255
    return model, Shard(images, tokens, None, DATA.labels[indices], indices, count)


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_the_loss_is_reconstruction_plus_beta_kl(likelihood):
    """Catches a KL weight that is accepted and never used, and a sum that is not divided by the batch."""
    _, part = shard()
    for beta in (0.0, 1.0, 4.0):
        model = small(beta=beta, likelihood=likelihood)
        loss, metrics = model.loss(part, np.random.default_rng(1))
        assert metrics["kl"] > 0
        assert loss.item() == pytest.approx(metrics["reconstruction"] + beta * metrics["kl"], rel=1e-5)


def test_losses_of_shards_add_up():
    """Catches a loss divided by the shard's size."""
    model, part = shard()
    binary = (part.images > 0.5).astype(np.float32)  # so that binarising changes nothing
    halves = [
        Shard(binary[s], part.tokens[s], None, part.labels[s], part.indices[s], 8) for s in (slice(0, 4), slice(4, 8))
    ]
    kl = sum(model.loss(half, np.random.default_rng(1))[1]["kl"] for half in halves)
    mean, log_var = model.encoder(binary, model.text(part.tokens))
    whole = 0.5 * np.sum(mean.data**2 + np.exp(log_var.data) - 1 - log_var.data) / 8
    assert kl == pytest.approx(whole, rel=1e-4)


class Exact(VAE):
    """A VAE whose likelihood can be integrated: one pixel, p(x=1|z) = sigmoid(2 z), and a rough q(z|x)."""

    def __init__(self):
        super().__init__(VAEConfig(latent=1, image_size=4, features=2), np.random.default_rng(0))
        log_var = Tensor(np.full((1, 1), -0.3, np.float32))
        self.encoder = lambda images, caption: (Tensor(images.reshape(-1, 1) * 0.5), log_var)
        self.decoder = lambda z, caption: (z * 2.0).reshape(-1, 1, 1, 1)


def test_the_bound_rises_to_the_true_likelihood():
    """p(x=1) = E sigmoid(2z) = 1/2 by symmetry.  Catches p(z) or q(z|x) left out, a sign, a sum for a mean."""
    model, image = Exact(), np.ones((1, 1, 1, 1), np.float32)
    truth = math.log(0.5)
    one = np.mean([importance_weighted_bound(model, image, [""], 1, seed)[0] for seed in range(300)])
    ten = np.mean([importance_weighted_bound(model, image, [""], 10, seed)[0] for seed in range(100)])
    many = importance_weighted_bound(model, image, [""], 20_000, 0)[0]
    assert many == pytest.approx(truth, abs=0.02)
    assert one < ten - 0.01 and ten < truth + 0.02


def test_it_learns_and_paints():
    """A few dozen steps on a hundred digits: the bound rises, samples depend on caption and noise."""
    trainer = Trainer(small(optimiser=OptimiserConfig(rate=5e-3, warmup_steps=5)), DATA, 0, 60, pool(2))
    losses = [trainer.step()["loss"] for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    model = trainer.family
    a, b = model.sample(["seven", "seven"], np.random.default_rng(0))
    assert a.shape == (28, 28, 1) and a.min() >= 0 and a.max() <= 1 and np.abs(a - b).max() > 0
    again = model.sample(["seven", "seven"], np.random.default_rng(0), threads=pool(2))
    np.testing.assert_array_equal(again[0], a)
    z = np.random.default_rng(0).standard_normal((2, model.config.latent), np.float32)
    cooler = model.sample(["seven", "seven"], np.random.default_rng(0), temperature=0.5)
    np.testing.assert_allclose(cooler, model.decode(z / 2, ["seven", "seven"]), atol=1e-6)


def test_every_caption_has_a_prior_of_its_own():
    """What the encoder takes out of w by the caption the decoder puts back.

    Catches: a shift or scale that only one of them knows, or a variance that keeps the place's scale.
    """
    model = small().astype(np.float64)
    z, images = Tensor(np.random.default_rng(0).standard_normal((3, 3))), DATA.images[:3] / 255.0
    caption = model.text(np.array([[1], [2], [1]]))
    painted, (mean, log_var) = model.decoder(z, caption).data, [t.data for t in model.encoder(images, caption)]
    bias = model.encoder.prior.bias
    assert bias is model.decoder.prior.bias
    shift, raw = np.array([0.5, -1.0, 2.0]), np.array([0.3, -0.2, 0.7])
    bias.data[...] = np.concatenate([shift, raw])
    log_scale = 5 * np.tanh(raw / 5)
    moved = Tensor((z.data - shift) * np.exp(-log_scale))
    np.testing.assert_allclose(model.decoder(moved, caption).data, painted, rtol=1e-9, atol=1e-9)
    new_mean, new_log_var = (t.data for t in model.encoder(images, caption))
    np.testing.assert_allclose(new_mean, (mean - shift) * np.exp(-log_scale), rtol=1e-9, atol=1e-9)
    unbounded = 10 * np.arctanh(log_var / 10) - 2 * log_scale
    np.testing.assert_allclose(new_log_var, 10 * np.tanh(unbounded / 10), rtol=1e-9, atol=1e-9)


def test_ways_through_the_noise():
    """Interpolation ends at the reconstructions; an edit to the same caption is one too."""
    model = small()
    for p in model.parameters():
        p.data += 0.05 * np.random.default_rng(p.size).standard_normal(p.shape).astype(np.float32)
    images, captions = DATA.images[:4].astype(np.float32) / 255, DATA.captions(np.arange(4))
    rebuilt = model.reconstruct(images, captions)
    walk = model.interpolate(images[:2], images[2:], captions[:2], 5)
    assert walk.shape == (5, 2, 28, 28, 1)
    np.testing.assert_allclose(walk[0], rebuilt[:2], atol=1e-5)
    np.testing.assert_allclose(model.edit(images, captions, captions), rebuilt, atol=1e-5)


def test_the_likelihood_suits_the_images():
    """Ink on paper is nearly binary; photographs are gray."""

    class Gray:
        images = np.random.default_rng(0).integers(0, 256, (10, 28, 28, 1)).astype(np.uint8)

    assert VAE.suited(VAEConfig(), DATA).likelihood == "bernoulli"
    assert VAE.suited(VAEConfig(), Gray).likelihood == "logistic"


def test_configs_that_cannot_be():
    with pytest.raises(ValueError, match="vae: .*multiple of 4; given 30"):
        VAE(VAEConfig(image_size=30), np.random.default_rng(0))
    with pytest.raises(ValueError, match="'logistic'; given 'poisson'"):
        VAEConfig(likelihood="poisson")


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_the_likelihood_is_that_of_the_fullest_captions(likelihood, monkeypatch):
    """Catches: empty or mixed captions, another number of draws than was asked for, other images than the first; gray
    ones asked of a model of binary ones, or other binary ones of each model."""
    asked, gray = [], DATA.images[:3] / np.float32(255)
    monkeypatch.setattr(vae, "importance_weighted_bound", lambda *a: asked.append(a) or np.array([-200.0]))
    for seed in (0, 1):
        small(seed=seed, likelihood=likelihood).likelihood_figures(DATA, seed, count=3, k=7)
    (_, images, captions, k, *_), (_, again, *_) = asked
    assert captions == DATA.captions(np.arange(3)) and k == 7
    np.testing.assert_array_equal(again, images)
    if likelihood == "logistic":
        np.testing.assert_allclose(images, gray, atol=1e-6)
    else:
        assert set(np.unique(images)) == {0, 1} and (images == gray)[np.isin(gray, (0, 1))].all()


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_likelihood_figures(likelihood):
    """Binary images in nats; gray ones also in bits per dimension, of which an untrained model needs 8 or so."""
    figures = small(likelihood=likelihood).likelihood_figures(DATA, 0, count=3, k=2)
    assert figures["nats"] < -100
    if likelihood == "logistic":
        assert figures["bits_per_dimension"] == pytest.approx(-figures["nats"] / (784 * math.log(2)))
