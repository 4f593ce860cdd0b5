"""The GAN and the regression: their losses, whose weights move, a ring that must be found whole."""
import math
from dataclasses import replace

import numpy as np
import pytest

from datasets.captions import Names
from generators.config import ConfigError, with_text
from generators.families.gan import GAN, GANConfig
from generators.families.regression import Regression
from generators.families.vaegan import VAEGAN
from generators.family import OptimiserConfig, Shard
from generators.parts.critic import critic_loss
from generators.training import Trainer
from nn import functional as F
from nn.modules import Linear, Sequential
from nn.parallel import derive_rng
from nn.tensor import Tensor
from tests.generators.toys import build, pool, tones, toy_data
from tests.oracles.elementary import each, softplus

SMALL = {"width": 8, "features": 8, "batch_size": 16, "shard_size": 8}
DATA = toy_data(64)


def weights(module):
    return [p.data.copy() for p in module.parameters()]


def moved(before, module):
    return [not np.array_equal(a, p.data) for a, p in zip(before, module.parameters(), strict=True)]


class OnePhase(GAN):
    """A GAN of which only one of the two phases is run."""

    only = 0

    def phases(self, step):
        return super().phases(step)[self.only : self.only + 1]


@pytest.mark.parametrize("only", [0, 1])
def test_each_phase_moves_its_own_networks(only):
    """Catches a discriminator step that changes the generator, the reverse, and an embedding that no phase trains."""
    model = build(OnePhase, DATA, **SMALL)
    model.only = only
    trainer = Trainer(model, DATA, 0, 10, pool(2))
    tested, painters = (model.discriminator, model.discriminator.text), (model.generator, model.text)
    before = [weights(module) for module in (*tested, *painters)]
    for _ in range(3):
        trainer.step()
    for module, old in zip((*tested, *painters), before, strict=True):
        assert set(moved(old, module)) == {(module in tested) == (only == 0)}


def shard(false=True, kind=GAN):
    indices = np.arange(16)
    model = build(kind, DATA, **SMALL)
    for p in model.parameters():  # so that no block is the identity
        p.data += 0.1 * np.random.default_rng(p.size).standard_normal(p.shape).astype(np.float32)
    captions = DATA.captions(indices)
    lies = DATA.contradicting(indices, captions, np.random.default_rng(0)) if false else None
    encode = model.vocabulary.encode
    return model, Shard(
        DATA.images[indices].astype(np.float32) / 255, encode(captions), encode(lies) if false else None,
        DATA.labels[indices], indices, 16,
    )  # fmt: skip


def test_the_discriminator_is_taught_to_read():
    """Its loss depends on the false captions.  Catches lies that are drawn and never shown."""
    model, part = shard()
    with_lies = model.discriminator_loss(part, np.random.default_rng(0))[0].item()
    without = model.discriminator_loss(replace(part, false_tokens=None), np.random.default_rng(0))[0].item()
    true = model.discriminator_loss(replace(part, false_tokens=part.tokens), np.random.default_rng(0))[0].item()
    assert true - without == pytest.approx(math.log(2), rel=1e-3)  # a comparison of the same with itself
    assert with_lies != pytest.approx(true, abs=1e-6)


def test_gamma_weighs_the_penalty():
    """Catches a penalty that is computed and left out."""
    model, part = shard()
    loss, metrics = model.discriminator_loss(part, np.random.default_rng(0))
    model.config = replace(model.config, gamma=model.config.gamma + 2)
    heavier, _ = model.discriminator_loss(part, np.random.default_rng(0))
    assert metrics["penalty"] > 0
    assert heavier.item() - loss.item() == pytest.approx(metrics["penalty"], rel=1e-3)


@pytest.mark.parametrize("kind", [GAN, VAEGAN])
def test_the_discriminator_learns_from_part_of_a_batch(kind):
    """Catches a sum that is divided by the part's size, real pictures on another scale than painted ones, settings or
    false captions that do not arrive, and a gradient that reaches the painter."""
    model, part = shard(kind=kind)
    part, rng = replace(part, batch_size=48), np.random.default_rng(0)
    model.config = replace(model.config, lies=0.3)
    loss, metrics = model.discriminator_loss(part, np.random.default_rng(0))
    fake = model.painted(part, rng).data
    real, settings = part.images * 2 - 1, (model.config.gamma, model.config.penalty_step, model.config.lies)
    right, sums = critic_loss(model.discriminator, real, fake, part.tokens, part.false_tokens, rng, *settings)
    assert loss.item() == pytest.approx(right.item() / 48, rel=1e-5)
    assert metrics == pytest.approx({name: value / 48 for name, value in sums.items()}, rel=1e-5)
    loss.backward()
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert learning == {"discriminator"} and all(np.abs(p.grad).max() > 0 for p in model.discriminator.parameters())


def test_the_generator_learns_from_what_the_discriminator_says_of_this_caption():
    """Catches pictures, painted or real, that are scored under another caption or on another scale; a sum that is not
    divided by the size of the whole batch; a score through which no gradient flows."""
    model, part = shard()
    loss, _ = model.generator_loss(replace(part, batch_size=48), np.random.default_rng(0))
    fake = model.painted(part, np.random.default_rng(0)).data

    def score(images, tokens=part.tokens):
        return model.discriminator.score(model.discriminator.look(Tensor(images)), tokens).data.astype(float)

    real = part.images * 2 - 1
    right = each(softplus, score(real) - score(fake)).sum() / 48
    assert loss.item() == pytest.approx(right, rel=1e-4)
    silent = score(real, 0 * part.tokens), score(fake, 0 * part.tokens)
    for on_real, on_fake in ((silent[0], score(fake)), (score(real), silent[1]), silent):  # so that this can be seen
        assert each(softplus, on_real - on_fake).sum() / 48 != pytest.approx(right, rel=1e-2)
    loss.backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not np.abs(p.grad).max() > 0]
    assert idle == []  # of the discriminator's as well, through which the gradient flows


def test_the_discriminator_compares_image_and_caption():
    """Catches a score that ignores the caption or the image."""
    model, part = shard()
    seen = model.discriminator.look(Tensor(part.images * 2 - 1))
    score = model.discriminator.score(seen, part.tokens).data
    assert score.shape == (16,)
    assert np.abs(score - model.discriminator.score(seen, part.tokens[::-1]).data).max() > 1e-4
    assert score.std() > 1e-4


def test_scores_of_words_add_up():
    """Catches a discriminator that learns captions as wholes, with nothing to say of combinations that it never met."""
    model, part = shard()
    seen = model.discriminator.look(Tensor(part.images * 2 - 1))

    def score(caption):
        return model.discriminator.score(seen, model.vocabulary.encode([caption] * 16)).data

    alone = score("bold") - score(""), score("seven") - score("")
    np.testing.assert_allclose(score("bold seven") - score(""), sum(alone), atol=1e-4)
    assert all(np.abs(of).max() > 1e-2 for of in alone)


@pytest.mark.parametrize("family", [GAN, Regression])
def test_what_the_painter_is_told_adds_up(family):
    """Catches a painter that is told captions as wholes: see the test above."""
    model = build(family, DATA, **SMALL)
    told = lambda caption: model.text(model.vocabulary.encode([caption])).data  # noqa: E731
    np.testing.assert_allclose(told("bold seven"), told("bold") + told("seven"), atol=1e-5)


def test_a_gan_learns_to_obey():
    """Of dark and bright images each is painted under its own caption.  Catches a generator that is scored without
    captions: it is free to paint either."""
    data = tones()
    model = build(
        GAN, data, image_size=8, width=8, noise=4, features=4, batch_size=16, shard_size=16,
        optimiser=OptimiserConfig(muon=False, rate=5e-3, betas=(0.0, 0.99), clip_norm=10.0, warmup_steps=5),
    )  # fmt: skip
    trainer = Trainer(model, data, 0, 100, pool(1))
    for _ in range(100):
        trainer.step()
    with trainer.averaged_weights():
        painted = model.sample(["dark", "bright"] * 16, np.random.default_rng(0)).mean(axis=(1, 2, 3))
    for tone in (0, 1):
        assert np.abs(painted[tone::2] - data.images[tone::2].mean() / 255).max() < 0.15  # the two are 0.6 apart


def test_a_walk_goes_from_what_sample_paints_to_something_new(monkeypatch):
    """Catches a walk with another caption on the way, and noise that shrinks halfway, where no noise of training is."""
    model, captions, walked = build(GAN, DATA, **SMALL), ["seven", "bold two"] * 100, []
    paint = model.paint
    monkeypatch.setattr(model, "paint", lambda z, *rest: walked.append(z) or paint(z, *rest))
    frames = model.wander(captions, np.random.default_rng(0), 5)
    lengths = np.sqrt((walked[0].reshape(5, -1) ** 2).mean(axis=1))
    np.testing.assert_allclose(frames[0], model.sample(captions, np.random.default_rng(0)), atol=1e-6)
    np.testing.assert_allclose(lengths, 1, atol=0.1)
    assert frames.shape == (5, 200, 28, 28, 1) and (np.abs(np.diff(frames, axis=0)).max(axis=(2, 3, 4)) > 0).all()
    halfway = paint(walked[0].reshape(5, 200, -1)[2], captions)
    np.testing.assert_allclose(frames[2], halfway, atol=1e-6)
    with pytest.raises(ValueError, match="no noise"):
        build(GAN, DATA, **{**SMALL, "noise": 0}).wander(captions, np.random.default_rng(0), 5)


def test_without_noise_one_caption_is_one_picture():
    """And with noise it is many.  Catches noise that is drawn and not used, and noise that stays when switched off."""
    for noise, same in ((0, True), (16, False)):
        model = build(GAN, DATA, **SMALL, noise=noise)
        a, b = model.sample(["seven", "seven"], np.random.default_rng(0))
        # Two rows of one product of matrices may differ in their last bit.
        assert np.abs(a - b).max() < 1e-5 if same else np.abs(a - b).max() > 1e-3
        assert a.shape == (28, 28, 1) and 0 <= a.min() <= a.max() <= 1


class Eyes(Sequential):
    """A discriminator of points, which reads no captions."""

    def look(self, points):
        return self(points)

    def score(self, seen, tokens):
        return seen.reshape(-1)


class Ring(GAN):
    """The same losses and loop on points of the plane instead of images: eight Gaussians on a circle."""

    def __init__(self, config, rng):
        super().__init__(config, rng)
        w = 48
        self.generator = Sequential(Linear(8, w, rng), F.leaky_relu, Linear(w, w, rng), F.leaky_relu, Linear(w, 2, rng))
        self.discriminator = Eyes(Linear(2, w, rng), F.leaky_relu, Linear(w, w, rng), F.leaky_relu, Linear(w, 1, rng))

    def painted(self, shard, rng):
        return self.points(len(shard.tokens), rng)

    def points(self, count, rng):
        return self.generator(Tensor(rng.standard_normal((count, 8), np.float32)))


class RingPoints:
    """Stands for a data set: draws points (N, 2) in [0, 1], as images are; the loop makes them -1 to 1."""

    classes, vocabulary = ("",), ()
    centres = 0.5 + 0.4 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)

    def __init__(self):
        rng = np.random.default_rng(0)
        self.labels = np.arange(4000) % 8
        self.images = (255 * (self.centres[self.labels] + 0.01 * rng.standard_normal((4000, 2)))).astype(np.float32)

    def __len__(self):
        return len(self.images)

    def captions(self, indices, rng=None):
        return [""] * len(indices)


def test_a_ring_of_eight_is_found_whole():
    """Catches mode collapse: a wrong sign, a missing penalty, a generator that learns from the wrong score.

    So narrow Gaussians tempt the discriminator to become steep: without the penalty a centre is left out."""
    config = GANConfig(
        image_size=4, width=8, features=2, batch_size=128, shard_size=128,
        optimiser=OptimiserConfig(muon=False, rate=2e-2, betas=(0.0, 0.99), clip_norm=10.0, warmup_steps=10, final=0.1),
    )  # fmt: skip
    trainer = Trainer(Ring(config, derive_rng(0, "weights")), RingPoints(), 0, 800, pool(1))
    for _ in range(800):
        trainer.step()
    with trainer.averaged_weights():
        points = trainer.family.points(2000, np.random.default_rng(1)).data * 0.5 + 0.5
    distances = np.linalg.norm(points[:, None] - RingPoints.centres, axis=2)
    near = distances.min(axis=1) < 0.12  # the centres are 0.31 apart
    shares = np.bincount(distances.argmin(axis=1)[near], minlength=8) / len(points)
    assert near.mean() > 0.7
    assert 0.05 < shares.min() and shares.max() < 0.16, shares  # 1/8 each, less what lies between


def test_regression_paints_the_mean():
    """Different images under one caption: the answer tends to their mean.  Catches a loss that is not squared."""

    class Two(type(DATA)):
        def captions(self, indices, rng=None):
            return ["seven"] * len(indices)

    images = np.zeros((16, 28, 28, 1), np.uint8)
    images[::2, :14] = 255
    images[1::4, 14:] = 255
    data = Two("two", images, np.zeros(16, np.int64), ("seven",), Names(("seven",), ("seven",)))
    model = build(Regression, data, **SMALL, optimiser=OptimiserConfig(muon=False, rate=5e-3, warmup_steps=5))
    trainer = Trainer(model, data, 0, 60, pool(2))
    for _ in range(60):
        trainer.step()
    with trainer.averaged_weights():
        painted = model.sample(["seven"], np.random.default_rng(0))[0]
    assert np.abs(painted[2:12].mean() - 0.5) < 0.05 and np.abs(painted[16:26].mean() - 0.25) < 0.05


@pytest.mark.parametrize("setting", ["noise", "gamma", "penalty_step"])
def test_regression_has_no_settings_that_it_does_not_use(setting):
    """Catches the noise set to 5, for which there is no place, and weights that are accepted and never read."""
    with pytest.raises(ConfigError, match=setting):
        with_text(Regression.Config(), {setting: "5"})
