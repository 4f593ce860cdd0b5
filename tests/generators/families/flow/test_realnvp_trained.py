"""RealNVP in use: a small flow, trained for a few steps in float32."""

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import datasets
from datasets.captions import Names
from datasets.dataset import Dataset
from generators.families.flow.bijectors import CaptionAffine, Composition
from generators.families.flow.conditioning import NoisePrior
from generators.families.flow.realnvp import (
    RealNVP,
    RealNVPConfig,
    dequantise,
    uniform_noise,
)
from generators.family import OptimiserConfig
from generators.training import Trainer
from nn.parallel import Threads
from nn.tensor import Tensor
from tests.generators.families.flow.test_realnvp import TINY, WORDS, random_model


@cache
def trained():
    dataset = datasets.load("digits", "train", limit=256)
    config = RealNVPConfig(
        vocabulary=dataset.vocabulary, steps=(1, 1), widths=(16, 16), depth=1, features=16, batch_size=64,
        sketches=2, optimiser=OptimiserConfig(rate=3e-2, warmup_steps=10),
    )  # fmt: skip
    trainer = Trainer(RealNVP(config, np.random.default_rng(0)), dataset, 0, 40, Threads(2))
    losses = [trainer.step()["bits_per_dimension"] for _ in range(40)]
    return trainer.family, dataset, losses


def some(dataset, count):
    return dataset.images[:count].astype(np.float32) / 255, dataset.captions(np.arange(count))


def test_training_lowers_the_bits():
    _, _, losses = trained()
    assert losses[0] < 12 and np.mean(losses[-5:]) < losses[0] - 1


def test_after_training_the_inverse_holds_to_1e_4_in_float32_and_images_come_back_exactly():
    model, dataset, _ = trained()
    images, captions = some(dataset, 32)
    condition = model.conditioning(model.vocabulary.encode(captions))
    x = dequantise(images, uniform_noise(images.shape, np.random.default_rng(0)))
    z, _ = model.flow.forward(Tensor(x), condition)
    assert z.dtype == np.float32
    np.testing.assert_allclose(model.flow.inverse(z, condition).data, x, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(model.reconstruct(images, captions, Threads(2)), images)


def test_after_training_noise_comes_back_to_1e_4_in_float32():
    """Catches: layers that lose digits on the way from noise.  Only the logit may: x tells no more (see `Logit`)."""
    model, dataset, _ = trained()
    images, captions = some(dataset, 32)
    condition = model.conditioning(model.vocabulary.encode(captions))
    logit, *links = model.flow.links
    behind, rng = Composition(*links), np.random.default_rng(1)
    for temperature in (0.4, 1.0):
        z = Tensor(np.float32(temperature * rng.standard_normal((32, 784))))
        v = behind.inverse(z, condition)
        np.testing.assert_allclose(behind.forward(v, condition)[0].data, z.data, rtol=0, atol=1e-4)
    within = Tensor(np.linspace(-9, 5, 1000, dtype=np.float32))  # 1 - x is 0.007 or more
    np.testing.assert_allclose(
        logit.forward(logit.inverse(within.reshape(1, -1), None), None)[0].data[0], within.data, rtol=1e-4, atol=1e-5
    )


def test_samples_are_8_bit_images_that_depend_on_the_seed_the_caption_and_the_temperature():
    model, _, _ = trained()

    def draw(captions=("seven", "seven"), seed=0, **options):
        return model.sample(list(captions), np.random.default_rng(seed), **options)

    images = draw()
    assert images.shape == (2, 28, 28, 1) and images.dtype == np.float32
    np.testing.assert_array_equal(np.rint(images * 255) / np.float32(255), images)
    assert 0 <= images.min() and images.max() <= 1
    np.testing.assert_array_equal(draw(threads=Threads(1)), images)
    assert (images[0] != images[1]).any() and (draw(seed=1) != images).any()
    assert (draw(["zero", "zero"]) != images).any()
    still = draw(temperature=0.0)
    np.testing.assert_array_equal(still[0], still[1])
    np.testing.assert_array_equal(draw(guidance=0.0), draw(["", ""], guidance=1.0))
    assert (draw(guidance=1.0) != images).any()


def test_temperature_and_sketches_suit_the_images_and_the_temperature_is_what_samples_have():
    model, dataset, _ = trained()
    gray = replace(dataset, images=np.random.default_rng(0).integers(0, 256, (256, 28, 28, 1)).astype(np.uint8))
    other = RealNVP.suited(replace(model.config, temperature=0.5, sketches=3), gray)
    assert (other.temperature, other.sketches) == (1, 0)
    config = RealNVP.suited(replace(model.config, sketches=0), dataset)
    assert 0 < config.temperature < 1 and config.sketches > 1

    def draw(**options):
        return model.sample(["seven"], np.random.default_rng(0), **options)

    expected = draw(temperature=config.temperature)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "config", config)
        np.testing.assert_array_equal(draw(), expected)
    assert (draw() != expected).any()


def test_interpolation_begins_and_ends_at_the_images():
    model, dataset, _ = trained()
    images, _ = some(dataset, 4)
    frames = model.interpolate(images[:2], images[2:], ["", ""], 5, Threads(2))
    assert frames.shape == (5, 2, 28, 28, 1)
    np.testing.assert_array_equal(frames[0], images[:2])
    np.testing.assert_array_equal(frames[-1], images[2:])
    assert (frames[2] != frames[0]).any()


def test_edits_change_the_image_and_no_edit_does_not():
    model, dataset, _ = trained()
    images, captions = some(dataset, 4)
    for guidance in (1.0, 2.0, None):
        np.testing.assert_array_equal(model.edit(images, captions, captions, guidance=guidance), images)
        mixed = model.edit(images, captions, [*captions[:2], "zero", "zero"], guidance=guidance)
        np.testing.assert_array_equal(mixed[:2], images[:2])
        assert (mixed[2:] != images[2:]).any()
    zeros = ["zero"] * 4
    edited = [model.edit(images, captions, zeros, guidance=guidance) for guidance in (1.0, 2.0, None)]
    assert all((a != b).any() for a, b in itertools.combinations([images, *edited], 2))
    read = model.encode(images, captions, guidance=model.reading_guidance)
    np.testing.assert_array_equal(model.decode(read, zeros, guidance=model.config.edit_guidance), edited[2])


def test_likelihood_figures_name_one_draw_and_eight():
    model, dataset, _ = trained()
    test = replace(dataset, images=dataset.images[:64], labels=dataset.labels[:64])
    figures = model.likelihood_figures(test, seed=0)
    assert figures["bits_per_dimension_8"] <= figures["bits_per_dimension"] < 8


def test_likelihood_figures_are_means_over_all_test_images_under_their_fullest_captions():
    """Catches other numbers of draws, captions as training draws them, the images of the last block left out or
    counted for more than the others."""
    model, images = random_model(TINY), np.random.default_rng(0).integers(0, 256, (620, 8, 8, 1), np.uint8)
    test, asked = Dataset("test", images, np.arange(620) % 3, WORDS, Names(WORDS, WORDS)), []

    def bits(images, captions, rng, samples=1, threads=None):
        asked.append((captions, rng.random()))
        return samples * images.mean(axis=(1, 2, 3))

    model.bits = bits
    mean = images.mean() / 255
    expected = {"bits_per_dimension": mean, "bits_per_dimension_8": 8 * mean}
    assert model.likelihood_figures(test, seed=0) == pytest.approx(expected)
    assert sum((captions for captions, _ in asked), []) == 2 * test.captions(np.arange(620))
    assert len({drawn for _, drawn in asked}) == len(asked)  # no block has the noise of another


def test_guidance_0_is_silence_and_1_the_caption_and_beyond_on_the_same_line():
    """In a flow of one layer, z = (x - mean) exp(-log_scale), whose mean can be read off.  Catches: the two answers
    exchanged, w for 1 + w."""
    rng = np.random.default_rng(3)
    model, still = random_model(TINY, 3), Tensor(np.zeros((2, 6)))
    prior = NoisePrior(TINY.features, 6, rng).astype(np.float64)
    prior.weight.data[...] = rng.standard_normal(prior.weight.shape)
    model.flow = CaptionAffine(prior)

    def mean(captions, guidance):
        return model.flow.inverse(still, model.guided(model.vocabulary.encode(captions), guidance)).data

    said, silent = ["seven", "thin"], ["", ""]
    np.testing.assert_allclose(mean(said, 0), mean(silent, 1), rtol=1e-12)
    np.testing.assert_allclose(mean(said, 1 + 1e-9), mean(said, 1), rtol=1e-6)
    np.testing.assert_allclose(mean(said, 2) - mean(said, 1), mean(said, 1) - mean(silent, 1), rtol=1e-9)
    assert np.abs(mean(said, 2) - mean(said, 1)).min() > 1e-6
