"""The VAE with a critic: who learns what from whom.  What it shares with `VAE` and `GAN` is tested there."""
from dataclasses import replace

import numpy as np
import pytest

from generators.families.vaegan import VAEGAN
from generators.family import Family, OptimiserConfig, Shard
from generators.parts.critic import relativistic_generator_loss
from generators.training import Trainer
from nn.tensor import Tensor
from tests.generators.families.test_gan import moved, weights
from tests.generators.toys import build, pool, tones, toy_data

SMALL = {"width": 8, "latent": 3, "features": 8, "batch_size": 16, "shard_size": 8}
DATA = toy_data(64)


def shard(model, batch_size=8):
    indices = np.arange(8)
    captions = DATA.captions(indices)
    lies = DATA.contradicting(indices, captions, np.random.default_rng(0))
    encode = model.vocabulary.encode
    images = DATA.images[indices].astype(np.float32) / 255
    return Shard(images, encode(captions), encode(lies), DATA.labels[indices], indices, batch_size)


def shaken(**settings):
    """A small model with no weight at zero."""
    model = build(VAEGAN, DATA, **(SMALL | settings))
    for p in model.parameters():
        p.data += 0.1 * np.random.default_rng(p.size).standard_normal(p.shape).astype(np.float32)
    return model


def gradients(model, loss):
    """Largest entry of the gradient of each part of the painters."""
    loss.backward()
    parts = {"text": model.text, "encoder": model.encoder, "decoder": model.decoder}
    prior = {id(p) for p in model.encoder.prior.parameters()}  # which encoder and decoder share
    return {
        name: max(0 if p.grad is None else float(np.abs(p.grad).max()) for p in part.parameters() if id(p) not in prior)
        for name, part in parts.items()
    }


def read(model, part, noise):
    """Mean, log-variance and a draw of what the encoder reads off the first images, by hand."""
    count = len(noise)
    mean, log_var = model.encoder(part.images[:count], model.text(part.tokens[:count]))
    mean, log_var = mean.data.astype(np.float64), log_var.data.astype(np.float64)
    return mean, log_var, (mean + np.exp(log_var / 2) * noise).astype(np.float32)


def paint(model, z, tokens):
    return np.tanh(model.decoder(Tensor(z), model.text(tokens)).data)


def test_the_loss_is_closeness_and_what_the_critic_says():
    """By hand, from the same draws.  Catches: a mean over pixels, a KL without its weight, an original whose scale is
    not the painter's, pictures judged under others' captions, a sum divided by the shard instead of the batch."""
    model = shaken(closeness=0.3)
    part = shard(model, batch_size=24)
    loss, metrics = model.loss(part, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    noise, random = (rng.standard_normal((count, 3), dtype=np.float32) for count in (8, 4))
    mean, log_var, z = read(model, part, noise)
    back, new = paint(model, z, part.tokens), paint(model, random, part.tokens[4:])
    distance = 0.5 * np.square(back - (2 * part.images - 1), dtype=np.float64).sum()
    kl = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum()
    critic = model.discriminator
    real, fake = (
        critic.score(critic.look(Tensor(x)), part.tokens)
        for x in (part.images * 2 - 1, np.concatenate([back[:4], new]))
    )
    unconvinced = relativistic_generator_loss(real, fake).data.sum()
    assert metrics["distance"] == pytest.approx(distance / 24, rel=1e-4)
    assert metrics["kl"] == pytest.approx(kl / 24, rel=1e-4)
    assert metrics["unconvinced"] == pytest.approx(unconvinced / 24, rel=1e-4)
    assert loss.item() == pytest.approx((0.3 * (distance + kl) + unconvinced) / 24, rel=1e-4)


def test_the_critic_is_shown_both_kinds():
    """What comes back and what is new, each under its caption.  Catches: a critic that sees only one kind, and lets the
    other be a blur; the mean of what was read instead of a draw."""
    model = shaken()
    part = shard(model)
    shown = model.painted(part, np.random.default_rng(2)).data
    rng = np.random.default_rng(2)
    noise, random = (rng.standard_normal((4, 3), dtype=np.float32) for _ in range(2))
    z = read(model, part, noise)[2]
    np.testing.assert_allclose(shown, paint(model, np.concatenate([z, random]), part.tokens), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_shards(count):
    """The last shard of a batch can be one image.  Catches: half of one image, which is none."""
    model = shaken()
    part = shard(model)
    few = Shard(part.images[:count], part.tokens[:count], part.false_tokens[:count], part.labels[:count],
                part.indices[:count], count)  # fmt: skip
    assert model.painted(few, np.random.default_rng(0)).shape == (count, 28, 28, 1)
    for phase in model.phases(0):
        assert np.isfinite(phase.loss(few, np.random.default_rng(0))[0].item())


def test_all_painters_learn_from_the_critic():
    """Catches: pictures through which no gradient comes back, and what is read off images cut from it."""
    model = shaken(closeness=0.0)
    loss, _ = model.loss(shard(model), np.random.default_rng(0))
    assert min(gradients(model, loss).values()) > 0


def test_the_critic_judges_what_is_sampled():
    """Catches: pictures on two scales, one for the critic and one for people."""
    model, captions = shaken(), DATA.captions(np.arange(8))
    z = np.random.default_rng(3).standard_normal((8, 3), dtype=np.float32)
    shown = model.paint(Tensor(z), model.text(model.vocabulary.encode(captions))).data
    np.testing.assert_allclose(shown / 2 + 0.5, model.sample(captions, np.random.default_rng(3)), atol=1e-6)
    assert shown.min() < -0.2 and shown.max() > 0.2  # not the [0, 1] of pictures for people


class OnePhase(VAEGAN):
    """Of which only one of the two phases is run."""

    only = 0

    def phases(self, step):
        return super().phases(step)[self.only : self.only + 1]


@pytest.mark.parametrize("only", [0, 1])
def test_each_phase_moves_its_own_networks(only):
    """Catches: a critic that helps the painters, painters that soften the critic, a network that nobody trains."""
    model = build(OnePhase, DATA, **SMALL)
    model.only = only
    trainer = Trainer(model, DATA, 0, 10, pool(2))
    modules = (model.discriminator, model.text, model.encoder, model.decoder)
    before = [weights(module) for module in modules]
    for _ in range(3):
        trainer.step()
    for module, old in zip(modules, before, strict=True):
        assert set(moved(old, module)) == {(module is model.discriminator) == (only == 0)}


def test_both_phases_train_all_there_is():
    """Catches: a parameter in two phases or in none, and the shared prior twice."""
    model = build(VAEGAN, DATA, **SMALL)
    trained = [id(p) for phase in model.phases(0) for p in phase.parameters]
    assert sorted(trained) == sorted(id(p) for p in model.parameters())


def test_it_learns_to_obey_and_to_come_back():
    """Dark and bright images, of which one half is black; which half, no caption says.  Catches: an encoder that learns
    nothing, a critic or a decoder that does not listen to the caption, a painter that has one answer for each."""
    images = tones().images.copy()
    upper = np.random.default_rng(1).random(len(images)) < 0.5
    images[upper, :4], images[~upper, 4:] = 0, 0
    data = replace(tones(), images=images)
    model = build(
        VAEGAN, data, image_size=8, width=8, latent=4, features=4, batch_size=16, shard_size=16, closeness=0.1,
        ema_decay=0.98,
        optimiser=OptimiserConfig(muon=False, rate=5e-3, betas=(0.0, 0.99), clip_norm=10.0, warmup_steps=5),
    )  # fmt: skip
    trainer = Trainer(model, data, 0, 200, pool(1))
    for _ in range(200):
        trainer.step()
    captions, images = data.captions(np.arange(32)), data.images[:32].astype(np.float32) / 255
    lean = lambda x: (x[:, 4:] - x[:, :4]).mean(axis=(1, 2, 3))  # noqa: E731
    with trainer.averaged_weights():
        painted = model.sample(captions, np.random.default_rng(0))
        rebuilt = model.reconstruct(images, captions)
    tone = images.mean(axis=(1, 2, 3))
    assert np.abs(painted.mean(axis=(1, 2, 3)) - tone).max() < 0.15  # the two are 0.3 apart
    assert (np.sign(lean(rebuilt)) == np.sign(lean(images))).all()
    assert 4 <= (lean(painted) > 0).sum() <= 28


def test_it_claims_no_likelihood():
    """Its Gaussian of width 1 is a measure of distance, not a model of images: such nats would mean nothing.  By them
    the weights that come along read 13 of 40 digits, and the VAE's own all."""
    assert VAEGAN.likelihood_figures is Family.likelihood_figures
