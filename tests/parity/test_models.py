"""Whole models against their PyTorch twins: the loss, every gradient, and samples, from the same random numbers."""
from dataclasses import replace

import numpy as np
import pytest

import datasets
from generators.family import Shard
from generators.registry import FAMILIES, build, family

torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")

from bench import models  # noqa: E402
from bench.peers import check  # noqa: E402
from bench.peers.layers import twin  # noqa: E402
from bench.peers.training import TwinTrainer  # noqa: E402

SMALL = {name: {**FAMILIES[name].tiny, **models.width_settings(name, 16)} for name in models.WITH_TWIN}


def small(name, seed=0, **changes):
    """A small model with no weight at zero, five images and their captions, true and false."""
    dataset = datasets.load(FAMILIES[name].data, limit=40)
    images = dataset.images[:][..., 4:24, 4:24, :]  # 20x20: no size that a default has
    colours = [np.roll(images, colour, axis=0) for colour in range(changes.get("channels", 1))]
    dataset = replace(dataset, images=np.concatenate(colours, axis=-1))
    config = family(name).Config(vocabulary=dataset.vocabulary, image_size=20, batch_size=5, **SMALL[name] | changes)
    rng = np.random.default_rng(seed)
    model, indices = build(name, config, rng), np.arange(5)
    captions = dataset.captions(indices, rng)
    images, tokens = dataset.images[indices] / np.float32(255), model.vocabulary.encode(captions)
    false = model.vocabulary.encode(dataset.contradicting(indices, captions, rng))
    model.prepare(images, tokens, rng)
    check.shake(model, rng)
    return model, Shard(images, tokens, false, dataset.labels[indices], indices, 5), captions, dataset


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in SMALL),
        ("realnvp", {"widths": (16, 24), "steps": (2, 1), "depth": 3}),
        ("realnvp", {"dequantisation": "uniform"}),
        ("realnvp", {"sketches": 3, "channels": 2}),
        ("ddpm", {"prediction": "noise"}),
        ("ddpm", {"prediction": "image"}),
        ("ddpm", {"squeezed": True, "widths": (16, 24), "training_times": "middle"}),
        ("dit", {"depth": 2, "heads": 4}),
        ("dit", {"channels": 2, "patch": 2}),
        ("video", {"depth": 2, "widths": (16, 24), "training_times": "middle"}),
        ("video", {"prediction": "v"}),
        ("video", {"across_time": False, "channels": 2, "noise_factor": 1.5}),
        ("vaegan", {"channels": 2}),
    ],
)
def test_model(name, changes):
    """Catches: a network, a loss or a sampler whose parts are each right and put together wrongly.

    What is wrong is so for all weights; but where an input of a leaky ReLU is 0 within rounding the two may be on
    different sides of its kink, which a critic's penalty, a difference of two passes, makes large: others are drawn.
    """
    for seed in range(3):
        model, shard, captions, _ = small(name, seed, **changes)
        agreement = check.compare(model, shard, captions)
        assert agreement.gradients >= len(model.parameters())
        if agreement.holds:
            return
    raise AssertionError(str(agreement))


def test_a_twin_says_what_it_cannot_be():
    """Catches: a twin that would learn v where ours learns the velocity, and so be compared with something else."""
    with pytest.raises(ValueError, match="velocity"):
        twin(small("ddpm", prediction="velocity")[0])


def test_check_sees_a_difference(monkeypatch):
    """Catches: a comparison that would pass whatever the networks do."""
    model, shard, captions, _ = small("vae")
    monkeypatch.setattr("generators.families.vae.reparameterise", lambda mean, log_var, noise: mean + noise)
    assert not check.compare(model, shard, captions).holds


@pytest.mark.parametrize("name", SMALL)
def test_twin_learns_as_ours_does(name):
    """Catches: a twin that is timed without updating all weights or their averages, and so does less work than ours."""
    model, _, _, dataset = small(name)
    trainer = TwinTrainer(model, dataset, 0, 10, "eager")
    before = {key: p.detach().clone() for key, (p, _) in trainer.family.pairs().items()}
    averages = [average.clone() for phase in trainer.averages for average in phase]
    for _ in range(2):
        assert np.isfinite(trainer.step())
    for key, (parameter, _) in trainer.family.pairs().items():
        assert not torch.equal(parameter, before[key]), key
    after = [average for phase in trainer.averages for average in phase]
    assert not any(torch.equal(a, b) for a, b in zip(averages, after, strict=True))


def test_layouts_turn_back():
    """Catches: gradients compared in another order than the weights were copied in."""
    model, _, _, _ = small("gan")
    pairs = twin(model).pairs()
    for name, parameter in model.named_parameters():
        theirs, layout = pairs[name]
        assert np.array_equal(layout.to_ours(theirs, parameter.shape), parameter.data), name
