"""The judge: a classifier of classes or attributes, on toy images (`squares.py`)."""

import dataclasses
from dataclasses import asdict

import numpy as np
import pytest

from datasets.captions import HANDWRITING, Names
from generators.config import from_json
from generators.family import Shard
from generators.judging import classifier
from generators.judging.classifier import Classifier, ClassifierConfig
from nn.parallel import Threads
from tests.generators.squares import SIDE, SMALL, squares


def test_the_judge_reads_every_attribute_of_images_it_never_saw(judge, threads):
    assert judge.config.names == tuple(HANDWRITING.attributes) and judge.config.values[2] == ("thin", "bold")
    shares = classifier.accuracy(judge, squares(200, seed=1), threads)
    assert shares.keys() == {*HANDWRITING.attributes, "all"} and shares["all"] > 0.95
    # Without attributes it is asked for the class, which is the digit.
    assert classifier.accuracy(judge, squares(50, seed=2, attributes=False), threads).keys() == {"digit", "all"}


def test_reading_does_not_depend_on_bytes_or_floats_on_threads_or_on_company(judge, threads):
    images = squares(37).images
    reading = judge.judge(images, threads)
    assert reading.features.shape == (37, 16) and reading.features.dtype == np.float32
    alone = judge.judge((images / np.float32(255)).astype(np.float32), Threads(1))
    np.testing.assert_allclose(alone.features, reading.features, atol=1e-4)
    one = judge.judge(images[20:21], threads)
    np.testing.assert_allclose(one.features, reading.features[20:21], atol=1e-4)
    assert one.values["stroke"][0] == reading.values["stroke"][20]


def test_features_are_what_the_heads_see_without_dropout(judge, threads):
    images = squares(9).images
    reading = judge.judge(images, threads)
    for name, head in zip(judge.config.names, judge.heads, strict=True):
        logits = reading.features @ head.weight.data + head.bias.data
        assert np.array_equal(logits.argmax(axis=1), reading.values[name])


def test_the_hash_tells_judges_apart_and_stays(judge, threads):
    again = classifier.train_classifier(squares(200), 60, 0, Threads(1), SMALL)
    assert again.weights_hash() == judge.weights_hash() and len(judge.weights_hash()) == 12
    again.heads[0].bias.data[0] += np.float32(1e-3)
    assert again.weights_hash() != judge.weights_hash()


def test_only_the_first_half_of_the_training_images_is_learnt_from():
    data = squares(101)
    config = Classifier.suited(dataclasses.replace(SMALL, image_size=SIDE, vocabulary=data.vocabulary), data)
    seen = Classifier(config, np.random.default_rng(0)).attend(data)
    assert len(seen) == 50 and np.array_equal(seen.images, data.images[:50])
    assert np.array_equal(seen.attributes["stroke"], data.attributes["stroke"][:50])
    assert classifier.judged_count(60_000) == 30_000 and classifier.judged_count(8_000) == 4_000


def test_a_config_survives_json():
    config = Classifier.suited(SMALL, squares(10))
    assert from_json(ClassifierConfig, asdict(config)) == config


def test_shifted_moves_each_image_by_itself_and_as_far_as_it_may():
    images = np.zeros((300, 7, 5, 1), np.float32)
    images[:, 3, 2] = np.arange(1, 301)[:, None]
    moved = classifier.shifted(images, 2, np.random.default_rng(0))
    n, y, x, _ = np.nonzero(moved)
    assert np.array_equal(moved[n, y, x, 0], np.arange(1, 301))
    assert set(y) == set(range(1, 6)) and set(x) == set(range(5)) and len(set(zip(y, x, strict=True))) == 25
    assert classifier.shifted(images, 0, np.random.default_rng(0)) is images


def test_reinked_makes_strokes_thicker_or_thinner_and_says_which():
    images = np.zeros((400, 9, 9, 1), np.float32)
    images[:, 3:6, 3:6] = 1
    before = images.copy()
    result, changed = classifier.reinked(images, 0.5, np.random.default_rng(0))
    assert np.array_equal(images, before) and 0.4 < changed.mean() < 0.6
    assert np.array_equal(result[~changed], images[~changed])
    ink = result.sum(axis=(1, 2, 3))[changed]
    assert (ink > 9.1).mean() > 0.4 and (ink < 8.9).mean() > 0.4 and ink.min() > 1 and ink.max() < 21
    assert result.min() >= 0 and result.max() <= 1
    same, none = classifier.reinked(images, 0.0, np.random.default_rng(0))
    assert same is images and not none.any()


@pytest.mark.parametrize("reink", [0.0, 1.0])
def test_nothing_is_learnt_of_the_stroke_of_a_reinked_image(reink):
    """Catches: the old stroke asked of thicker or thinner ones, or the other attributes not asked of them."""
    data = squares(6)
    config = dataclasses.replace(SMALL, image_size=SIDE, vocabulary=data.vocabulary)
    config = dataclasses.replace(Classifier.suited(config, data), reink=reink, images=6)
    model, tokens = Classifier(config, np.random.default_rng(0)), np.zeros((6, 1), int)
    part = Shard(data.images / np.float32(255), tokens, None, data.labels, np.arange(6), 6)

    def loss(wrong=None):
        answers = {name: 1 - codes if name == wrong else codes for name, codes in data.attributes.items()}
        model.attend(dataclasses.replace(data, attributes=answers))
        return model.loss(part, np.random.default_rng(1))[0].item()

    assert (loss("stroke") == loss()) == bool(reink) and loss("digit") != loss()


def test_asked_marks_silence(judge):
    asked = judge.asked(["a bold one, small", "", "zero"])
    assert {name: codes.tolist() for name, codes in asked.items()} == {
        "digit": [1, -1, 0], "variant": [-1] * 3, "stroke": [1, -1, -1], "slant": [-1] * 3, "size": [0, -1, -1],
    }  # fmt: skip
    config = dataclasses.replace(SMALL, image_size=SIDE)
    of_classes = Classifier(Classifier.suited(config, squares(10, attributes=False)), np.random.default_rng(0))
    assert of_classes.asked(["one", "", "zero"])["class"].tolist() == [1, -1, 0]


def test_accuracy_score_tells_good_labels_from_wrong_ones(threads, monkeypatch):
    """The first half is of one class.  Catches also: a classifier that learns from half, as the judge does."""
    monkeypatch.setattr(classifier, "ClassifierConfig", lambda: SMALL)
    classes = ("zero", "red panda")  # a class may have two words
    named = {"classes": classes, "language": Names(classes, ("panda", "red", "zero"))}
    real, test = (dataclasses.replace(squares(n, n, attributes=False), **named) for n in (150, 100))
    in_turn = np.concatenate([np.flatnonzero(real.labels == label)[:50] for label in (0, 1)])
    real = dataclasses.replace(real, images=real.images[in_turn], labels=real.labels[in_turn])
    assert classifier.accuracy_score(real.images, real.labels, test, threads, steps=50) > 0.95
    assert classifier.accuracy_score(real.images, 1 - real.labels, test, threads, steps=50) < 0.05
