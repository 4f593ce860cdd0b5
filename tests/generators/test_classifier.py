"""The judge and the protocol of evaluation, on toy images: a square on the left is a zero, on the right a one.

It may be bold (bright) or thin (dim); of the other attributes of the built-in digits it has always the same value.
"""

import dataclasses

import numpy as np
import pytest

from datasets import captions as language
from datasets.captions import ATTRIBUTES, VOCABULARY
from datasets.dataset import Dataset
from datasets.glyphs import VARIANTS, VARIANTS_OF
from generators import classifier, cli, evaluate, metrics, registry
from generators.classifier import Classifier, ClassifierConfig
from generators.evaluate import Reference
from generators.training import OptimiserConfig
from generators.vae import VAEConfig
from nn import checkpoint
from nn.parallel import Threads

SIDE = 8
PLACES = ("zero", "one")
SMALL = ClassifierConfig(
    width=8, features=16, shift=1, dropout=0.1, batch_size=16, shard_size=8, ema_decay=0.9,
    optimiser=OptimiserConfig(muon=False, rate=1e-2, warmup_steps=5),
)  # fmt: skip


def squares(count, seed=0, attributes=True):
    rng = np.random.default_rng(seed)
    place, light = rng.integers(0, 2, (2, count))
    images = rng.integers(0, 20, (count, SIDE, SIDE, 1), dtype=np.uint8)
    for image, x, bright in zip(images, place, light, strict=True):
        image[2:6, 1 + 3 * x : 4 + 3 * x] += np.uint8(200 if bright else 90)
    if not attributes:
        return Dataset("squares", images, place, PLACES, PLACES)
    variants = [VARIANTS.index(VARIANTS_OF[name][0]) for name in PLACES]
    same = np.zeros(count, dtype=np.int64)
    codes = {"digit": place, "variant": np.array(variants)[place], "stroke": light, "slant": same, "size": same}
    return Dataset("squares", images, place, PLACES, VOCABULARY, codes, ATTRIBUTES)


@pytest.fixture(scope="module")
def threads():
    pool = Threads(2)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def judge(threads):
    return classifier.train_classifier(squares(200), 60, 0, threads, SMALL)


def test_the_judge_reads_every_attribute_of_images_it_never_saw(judge, threads):
    assert judge.config.names == tuple(ATTRIBUTES) and judge.config.values[2] == ("thin", "bold")
    shares = classifier.accuracy(judge, squares(200, seed=1), threads)
    assert shares.keys() == {*ATTRIBUTES, "all"} and shares["all"] > 0.95
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
    assert registry.config_from_json(ClassifierConfig, registry.config_to_json(config)) == config


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


def test_asked_marks_silence(judge):
    asked = judge.asked(["a bold one, small", "", "zero"])
    assert {name: codes.tolist() for name, codes in asked.items()} == {
        "digit": [1, -1, 0], "variant": [-1] * 3, "stroke": [1, -1, -1], "slant": [-1] * 3, "size": [0, -1, -1],
    }  # fmt: skip
    config = dataclasses.replace(SMALL, image_size=SIDE)
    of_classes = Classifier(Classifier.suited(config, squares(10, attributes=False)), np.random.default_rng(0))
    assert of_classes.asked(["one", "", "zero"])["class"].tolist() == [1, -1, 0]


class Copier:
    """A generator that knows the training set by heart."""

    name = "copier"

    def __init__(self, data, places=(0, 1)):
        self.data, self.places = data, places

    def parameter_count(self):
        return 0

    def sample(self, captions, rng, threads=None):
        kept = np.isin(self.data.labels, self.places)
        chosen = rng.choice(np.flatnonzero(kept), len(captions))
        by_caption = {place: np.flatnonzero(self.data.labels == i) for i, place in enumerate(PLACES)}
        if len(self.places) > 1:
            anything = np.arange(len(self.data))
            chosen = [rng.choice(by_caption.get(caption, anything)) for caption in captions]
        return self.data.images[chosen].astype(np.float32) / 255


@pytest.fixture(scope="module")
def reference(threads):
    training, test = squares(300, seed=3, attributes=False), squares(120, seed=4, attributes=False)
    return Reference(classifier.train_classifier(training, 40, 0, threads, SMALL), training, test, threads=threads)


def test_evaluation_exposes_the_copier(reference):
    figures = evaluate.evaluate(Copier(reference.training), reference)
    assert figures["fid_ratio"] < 10 and figures["fid_noise"] > 20 * figures["fid_floor"]
    assert figures["precision"] > 0.5 and figures["recall"] > 0.5 and figures["match"]["class"] > 0.95
    assert figures["copies"] == 1 and figures["nearest_mean"] == 0 < figures["nearest_mean_test"]
    assert figures["samples"] == 120 and figures["judge"] == reference.judge.weights_hash()
    assert "match_full" not in figures and len(evaluate.summary(figures)) >= 8


def test_evaluation_exposes_the_collapsed(reference):
    whole = evaluate.evaluate(Copier(reference.training), reference)
    collapsed = evaluate.evaluate(Copier(reference.training, places=(0,)), reference)
    assert collapsed["recall"] < 0.7 * whole["recall"] and collapsed["fid"] > 10 * whole["fid"]
    assert 0.3 < collapsed["match"]["class"] < 0.7


def test_evaluation_exposes_noise_that_decides_nothing(reference):
    """Catches: variety among the answers to different captions, which a generator without noise has, too."""

    class Deaf(Copier):
        def sample(self, captions, rng, threads=None):
            first = [np.flatnonzero(self.data.labels == (PLACES.index(c) if c else 0))[0] for c in captions]
            return self.data.images[first].astype(np.float32) / 255

    whole = evaluate.evaluate(Copier(reference.training), reference)
    assert whole["variety"] == pytest.approx(whole["variety_real"], rel=0.1)
    assert evaluate.evaluate(Deaf(reference.training), reference)["variety"] < 1e-9


def test_one_image_of_a_class_has_no_variety(reference):
    """Catches: NaN, which JSON has no word for, and a mean over other classes than that of real images."""
    few = dataclasses.replace(reference, test=classifier.cut(reference.test, 0, 8))
    (one, many), (common,) = sorted(np.unique(few.test.labels, return_counts=True)[1]), few.common
    assert one == 1 < many  # else this tests nothing
    figures = evaluate.evaluate(Copier(reference.training), few)
    assert figures["variety_real"] == metrics.variety(few.test.images[few.test.labels == common])
    assert "variety of a class" in {name for name, *_ in evaluate.summary(figures)}
    alone = dataclasses.replace(reference, test=classifier.cut(reference.test, 6, 8))
    assert len(alone.test.classes) == 2 and not len(alone.common)
    del figures["variety"]
    assert "variety of a class" not in {name for name, *_ in evaluate.summary(figures)}


def test_the_floor_is_that_of_as_many_real_images(reference):
    """Catches few samples compared with the floor of many, which no generator could reach."""
    few = dataclasses.replace(reference, count=12)
    figures = evaluate.evaluate(Copier(reference.training), few)
    assert figures["samples"] == len(few.fresh) == 12
    assert figures["fid_floor"] > 2 * reference.figures["fid_floor"] and figures["fid_ratio"] < 10


def test_only_what_the_generator_saw_can_have_been_copied(reference):
    limited = dataclasses.replace(reference, limit=100)
    from_afar = Copier(classifier.cut(reference.training, 100, 300))
    assert evaluate.evaluate(from_afar, reference)["copies"] == 1
    assert evaluate.evaluate(from_afar, limited)["copies"] < 0.2
    assert evaluate.evaluate(Copier(classifier.cut(reference.training, 0, 100)), limited)["copies"] == 1


def test_the_accuracy_score_compares_as_many_generated_as_real_images(judge, threads, monkeypatch):
    """Catches samples whose caption leaves the class open taken from one side alone."""
    counts = []
    monkeypatch.setattr(evaluate, "accuracy_score", lambda images, labels, *a: counts.append(len(images)) or 0.5)
    reference = Reference(judge, squares(200), squares(80, seed=7), threads=threads)
    evaluate.evaluate(Painter(), reference, score=True)
    assert len(counts) == 2 and counts[0] == counts[1] < 80


def test_samples_depend_on_the_seed_alone(reference, monkeypatch):
    family = Copier(reference.training)
    captions = ["zero", "one"] * 20
    monkeypatch.setattr(evaluate, "CHUNK", 16)
    images = evaluate.draw(family, captions, 5)
    assert images.dtype == np.uint8 and images.shape == (40, SIDE, SIDE, 1)
    assert np.array_equal(images, evaluate.draw(family, captions, 5))
    assert not np.array_equal(images, evaluate.draw(family, captions, 6))


class Painter:
    """Paints what its caption asks for, but everything thin."""

    name = "painter"

    def parameter_count(self):
        return 0

    def sample(self, captions, rng, threads=None):
        said = [language.parse(caption) for caption in captions]
        data = squares(400, seed=9)
        kinds = [
            np.flatnonzero((data.labels == place) & (data.attributes["stroke"] == 0)) for place in range(len(PLACES))
        ]
        chosen = [rng.choice(kinds[PLACES.index(says.get("digit", "zero"))]) for says in said]
        return data.images[chosen].astype(np.float32) / 255


def test_captions_are_judged_by_what_they_say(judge, threads):
    unseen = squares(40, seed=8)
    reference = Reference(judge, squares(200), squares(80, seed=7), unseen, threads)
    figures = evaluate.evaluate(Painter(), reference)
    bold = reference.test.attributes["stroke"].mean()
    for key, share in (("match_full", 1 - bold), ("match_unseen", 1 - unseen.attributes["stroke"].mean())):
        assert figures[key]["digit"] == 1 and figures[key]["size"] == 1
        assert figures[key]["stroke"] == figures[key]["all"] == pytest.approx(share, abs=0.02)
    assert figures["match_ceiling"]["all"] > 0.95 and figures["match_unseen_ceiling"]["all"] > 0.95
    assert "never seen: stroke" in {name for name, *_ in evaluate.summary(figures)}


def test_accuracy_score_tells_good_labels_from_wrong_ones(threads, monkeypatch):
    monkeypatch.setattr(classifier, "ClassifierConfig", lambda: SMALL)
    real, test = squares(150, seed=5, attributes=False), squares(100, seed=6, attributes=False)
    assert classifier.accuracy_score(real.images, real.labels, test, threads, steps=50) > 0.95
    assert classifier.accuracy_score(real.images, 1 - real.labels, test, threads, steps=50) < 0.05


def test_evaluate_says_what_is_missing(tmp_path, judge, capsys):
    meta = {"family": "classifier", "config": registry.config_to_json(judge.config), "plan": {"data": "digits"}}
    checkpoint.save(tmp_path / "checkpoint.npz", {f"ema/{name}": a for name, a in judge.state().items()}, meta)
    assert cli.main(["evaluate", str(tmp_path)]) == 2
    assert "makes no images" in capsys.readouterr().err
    meta = {"family": "vae", "config": {"width": 8, "latent": 2, "text": 4}, "plan": 5}
    model = registry.build("vae", registry.config_from_json(VAEConfig, meta["config"]), np.random.default_rng(0))
    foreign = tmp_path / "foreign.npz"
    checkpoint.save(foreign, {f"ema/{name}": a for name, a in model.state().items()}, meta)
    assert cli.main(["evaluate", str(foreign), "--judge", str(tmp_path / "none")]) == 2
    assert "there is no judge" in capsys.readouterr().err
    loaded = registry.load(tmp_path)
    assert loaded.weights_hash() == judge.weights_hash()


def test_evaluate_says_when_fewer_samples_are_drawn_or_too_few(tmp_path, reference, capsys, monkeypatch):
    of_run = {"name": (Copier(reference.training), {"plan": {"data": "digits", "limit": 100}})}
    monkeypatch.setattr(evaluate, "open_run", lambda run: of_run.get(run, (reference.judge, {})))
    splits = {"train": reference.training, "test": reference.test, "unseen": None}
    monkeypatch.setattr(evaluate.datasets, "load", lambda name, split: splits[split])
    monkeypatch.setattr(Copier, "image_shape", reference.judge.image_shape, raising=False)
    seen, real = [], evaluate.evaluate
    monkeypatch.setattr(evaluate, "evaluate", lambda family, of, *a, **k: seen.append(of) or real(family, of, *a, **k))
    assert cli.main(["evaluate", "name", "--judge", str(tmp_path), "-n", "500"]) == 0
    assert "not 500" in capsys.readouterr().out and seen[0].count == 120 and seen[0].limit == 100
    assert cli.main(["evaluate", "name", "--judge", str(tmp_path), "-n", "2"]) == 2
    assert "at least 4" in capsys.readouterr().err
