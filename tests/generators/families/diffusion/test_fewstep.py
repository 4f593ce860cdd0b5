"""Diffusion in few steps: the picture of one step is the denoiser's guess, and each step learns on what it finds."""
from dataclasses import replace

import numpy as np
import pytest

from generators.families.diffusion import process
from generators.families.diffusion.ddpm import DDPM
from generators.families.diffusion.fewstep import FewStep
from generators.family import OptimiserConfig, Shard
from generators.training import Trainer
from nn.parallel import Threads
from nn.tensor import Tensor
from tests.generators.families.test_gan import moved, weights
from tests.generators.toys import build, pool, tones, toy_data

TINY = {"widths": (8, 8), "blocks": 1, "heads": 2, "features": 8, "time_steps": 12, "batch_size": 8, "shard_size": 4,
        "image_size": 8}
STUDENT = TINY | {"critic_width": 8}
DATA = toy_data(64)
DATA = replace(DATA, images=DATA.images[:, 2:26:3, 2:26:3])  # every third pixel: 8x8
CAPTIONS = ["two", "a bold seven", "nine"]


def shaken(kind, settings):
    """A small model with no weight where it began; the same for both kinds, where they have the same names."""
    model = build(kind, DATA, **settings)
    for name, p in model.named_parameters():
        p.data += 0.1 * np.random.default_rng(sum(map(ord, name))).standard_normal(p.shape).astype(np.float32)
    return model


@pytest.mark.parametrize("steps", [1, 3])
def test_the_first_picture_is_the_guess_at_the_highest_noise_and_so_a_sampler_of_one_step(steps):
    """Catches: a guess at another time, one that is guided, clipped or scaled, noise added to the finished picture."""
    model, teacher = shaken(FewStep, STUDENT | {"steps": steps}), shaken(DDPM, TINY)
    noise, tokens = model.noise(3, np.random.default_rng(0)), model.vocabulary.encode(CAPTIONS)
    picture = model.picture(noise, tokens, model.times(steps)[:1], None).data
    output = model.network(Tensor(noise), np.full(3, 12), model.text(tokens)).data
    np.testing.assert_array_equal(picture, process.clean_image(output, noise, np.full(3, 12), model.alpha_bar, "v"))
    one = model.sample(CAPTIONS, np.random.default_rng(0), Threads(1), steps=1)
    np.testing.assert_allclose(one, np.clip(picture / 2 + 0.5, 0, 1), atol=1e-6)
    np.testing.assert_allclose(one, teacher.sample(CAPTIONS, np.random.default_rng(0), Threads(1), steps=1), atol=1e-6)


def test_a_later_step_learns_on_what_the_earlier_ones_made(monkeypatch):
    """By hand: their picture under fresh noise of the next level.  Catches: real images in its place, the old noise
    kept, a level that is off by one, a gradient through all steps, steps of which some are never trained."""
    model = shaken(FewStep, STUDENT | {"steps": 3})
    tokens, times = model.vocabulary.encode(CAPTIONS), model.times(3)
    assert len(times) == 4 and times[0] == 12
    seen, guess = [], model.guess
    monkeypatch.setattr(model, "guess", lambda x, t, tokens: seen.append((x, t)) or guess(x, t, tokens))
    noise = model.noise(3, np.random.default_rng(0))
    last = model.picture(noise, tokens, times[:3], np.random.default_rng(1))
    rng, x = np.random.default_rng(1), noise
    for (given, at), t, s in zip(seen, times, times[1:], strict=False):
        assert at == t
        np.testing.assert_allclose(given, x, atol=1e-5)
        eps = rng.standard_normal(x.shape).astype(np.float32)
        x = process.q_sample(guess(given, t, tokens).data, np.full(3, s), eps, model.alpha_bar)
    model.network = None  # whose gradient of the earlier steps would be asked for
    last.sum().backward()

    model, seen = shaken(FewStep, STUDENT | {"steps": 3}), []
    guess = model.guess
    monkeypatch.setattr(model, "guess", lambda x, t, tokens: seen.append(t) or guess(x, t, tokens))
    part = Shard(DATA.images[:3] / np.float32(255), tokens, None, DATA.labels[:3], np.arange(3), 3)
    counts = []
    for i in range(60):
        seen.clear()
        assert np.abs(model.painted(part, np.random.default_rng(i)).data).max() == 1  # cut off there
        assert seen == times[: len(seen)]
        counts.append(len(seen))
    assert min(counts.count(k) for k in (1, 2, 3)) > 8 and max(counts) == 3


class OnePhase(FewStep):
    only = 0

    def phases(self, step):
        return super().phases(step)[self.only : self.only + 1]


@pytest.mark.parametrize("only", [0, 1])
def test_each_phase_moves_its_own_networks(only):
    """Catches: a critic that moves the student, the reverse, and a part that nobody trains."""
    model = build(OnePhase, DATA, **STUDENT, steps=2)
    model.only = only
    trainer = Trainer(model, DATA, 0, 10, pool())
    modules = (model.discriminator, model.text, model.network)
    before = [weights(module) for module in modules]
    for _ in range(4):
        trainer.step()
    for module, old in zip(modules, before, strict=True):
        assert set(moved(old, module)) == {(module is model.discriminator) == (only == 0)}


def test_it_learns_to_obey_in_one_step():
    """From scratch, as a GAN.  Catches: a student that is scored without captions, or on another scale than real."""
    data, quick = tones(), OptimiserConfig(muon=False, rate=5e-3, betas=(0.0, 0.99), clip_norm=10.0, warmup_steps=5)
    model = build(FewStep, data, **STUDENT, ema_decay=0.9, optimiser=quick, critic_optimiser=quick)
    trainer = Trainer(model, data, 1, 200, pool())  # with seeds 0 and 3 rounding alone decides between 0.05 and 0.16
    for _ in range(150):
        trainer.step()
    with trainer.averaged_weights():
        painted = model.sample(["dark", "bright"] * 16, np.random.default_rng(0)).mean(axis=(1, 2, 3))
    for tone in (0, 1):
        assert np.abs(painted[tone::2] - data.images[tone::2].mean() / 255).max() < 0.15


@pytest.mark.parametrize("wrong", [{"prediction": "noise"}, {"steps": 3, "time_steps": 2}])
def test_a_config_that_cannot_work_is_refused_in_a_sentence(wrong):
    with pytest.raises(ValueError, match="prediction must not be 'noise'|steps must be"):
        build(FewStep, DATA, **(STUDENT | wrong))
