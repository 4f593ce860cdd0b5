"""Work is cut into parts: a batch and a sample into shards, an evaluation into chunks.  Each part has noise of its own.

Catches one generator for all parts, or several in the same state: what is learnt or measured then rests on far fewer
draws than it seems to, and a sample is the same few pictures again and again.
"""
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from generators import registry
from generators.families.vae import importance_weighted_bound
from generators.judging import evaluate
from generators.runs import Run
from generators.training import Trainer, plain_steps
from nn import parallel
from tests.generators.toys import Toy, build, of_images, pool, shaken, toy_data

DATA, CAPTIONS = toy_data(), ["two"] * 6
WITHOUT_NOISE = {"regression"}


class Listener(Toy):
    """Notes what is drawn for each shard in each phase."""

    def __init__(self, config, rng):
        super().__init__(config, rng)
        self.drawn = []

    def loss(self, shard, rng):
        self.drawn.append(rng.random(8))
        return super().loss(shard, rng)


def plain_training():
    model = build(Listener, DATA)
    assert len(list(plain_steps(model, DATA, 3, 2))) == 2
    return model.drawn


def training():
    trainer = Trainer(build(Listener, DATA), DATA, 3, 2, pool())
    trainer.step()
    trainer.step()
    return trainer.family.drawn


def losses_of_test_images():
    trainer = Trainer(build(Listener, DATA), DATA, 3, 2, pool())
    plan = SimpleNamespace(config=trainer.family.config, seed=3)
    Run.held_out(SimpleNamespace(test=DATA, model=trainer.family, trainer=trainer, plan=plan, _held_out=[]))
    return trainer.family.drawn


def chunks():
    family = SimpleNamespace(name="noise", sample=lambda captions, rng, threads: rng.random((len(captions), 4, 4, 1)))
    return evaluate.draw(family, CAPTIONS, 0) / 255


def tiny(name):
    return shaken(build(registry.family(name), DATA, **registry.FAMILIES[name].tiny))


def sample(name, equal_start=False, verb="sample", *given, **options):
    """Pictures of one caption.  equal_start: of diffusion, to see the noise that is added later by itself."""
    model = tiny(name)
    if equal_start:
        model.noise = lambda count, rng: np.zeros((count, *model.image_shape), np.float32)
    return getattr(model, verb)(*given, captions=CAPTIONS, rng=np.random.default_rng(0), threads=pool(3), **options)


def bound():
    return importance_weighted_bound(tiny("vae"), np.zeros((6, 28, 28, 1), np.float32), CAPTIONS, 1, 0, pool())


LEFT = np.arange(28) < np.full((28, 1), 14)  # (28, 28)
WAYS = {
    "plain training": plain_training, "training": training, "losses of test images": losses_of_test_images,
    "evaluation": chunks, "importance weights": bound,
    **{f"samples of {name}": partial(sample, name) for name in of_images(registry.able("sample"))
       if name not in WITHOUT_NOISE},
    "ancestral steps": partial(sample, "ddpm", True, steps=3, eta=1.0),
    "later looks": partial(sample, "fewstep", True, steps=2),
    "inpainting": partial(sample, "ddpm", True, "inpaint", np.zeros((6, 28, 28, 1), np.float32), LEFT, steps=2),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_no_two_parts_have_the_same_noise(way, monkeypatch):
    monkeypatch.setattr(parallel, "default_threads", lambda: 3)  # so that six examples are three shards
    monkeypatch.setattr(evaluate, "CHUNK", 2)
    monkeypatch.setitem(registry.FAMILIES, "toy", registry.Row("tests.generators.toys:Toy", "a toy", {}))
    drawn = np.array(WAYS[way]())
    drawn = drawn.reshape(len(drawn), -1)
    apart = np.abs(drawn[:, None] - drawn).max(axis=2) + np.eye(len(drawn))
    assert len(drawn) >= 6 and apart.min() > 1e-3  # rows of one product may differ in their last bits
