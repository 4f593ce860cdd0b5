"""The protocol of evaluation, on toy images (`squares.py`), and `inkling evaluate`."""

import dataclasses
import json
import zipfile
from dataclasses import asdict

import numpy as np
import pytest

from datasets.captions import HANDWRITING as language
from datasets.captions import Names
from generators import cli, registry
from generators.apps import measuring
from generators.config import from_json
from generators.families.vae import VAEConfig
from generators.family import Family
from generators.judging import classifier, evaluate, metrics
from generators.judging.evaluate import Reference
from nn import checkpoint
from tests.generators.squares import PLACES, SIDE, SMALL, squares


class Copier:
    """A generator that knows the training set by heart."""

    name, likelihood_figures = "copier", Family.likelihood_figures

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
    figures = evaluate.evaluate(Copier(reference.training), reference, score=False)
    assert figures["fid_ratio"] < 10 and figures["fid_noise"] > 20 * figures["fid_floor"]
    assert figures["precision"] > 0.5 and figures["recall"] > 0.5 and figures["match"]["class"] > 0.95
    assert figures["copies"] == 1 and figures["nearest_mean"] == 0 < figures["nearest_mean_test"]
    assert figures["samples"] == 120 and figures["judge"] == reference.judge.weights_hash()
    assert "match_unseen" not in figures and len(evaluate.summary(figures)) >= 8


def test_scores_are_of_what_was_painted_and_of_as_many_real_images(reference, monkeypatch):
    monkeypatch.setattr(evaluate, "accuracy_score", lambda images, labels, *_, **__: float(images.mean()))
    again = dataclasses.replace(reference, count=50)
    figures = evaluate.evaluate(Copier(reference.training), again)
    assert figures["accuracy_score_real"] == again.fresh.images.mean() and len(again.fresh) == 50
    assert 0 < figures["accuracy_score"] != figures["accuracy_score_real"]


def test_the_summary_tells_what_some_families_have_alone(reference):
    """Catches: likelihoods that are measured and not told, and likelihoods told of families that have none."""
    figures = evaluate.evaluate(Copier(reference.training), reference, score=False)
    plain = evaluate.summary(figures)
    more = evaluate.summary(figures | {"bits_per_dimension": 1.25, "accuracy_score": 0.5, "accuracy_score_real": 0.8})
    added = [
        ("bits per dimension, given the caption", "1.250", ""), ("accuracy score", "50.0%", "80.0%"),
        ("accuracy score / real", "0.625", "1"),
    ]  # fmt: skip
    assert [row for row in more if row not in plain] == added and [row for row in more if row in plain] == plain


def test_evaluation_exposes_the_collapsed(reference):
    whole = evaluate.evaluate(Copier(reference.training), reference, score=False)
    collapsed = evaluate.evaluate(Copier(reference.training, places=(0,)), reference, score=False)
    assert collapsed["recall"] < 0.7 * whole["recall"] and collapsed["fid"] > 10 * whole["fid"]
    assert 0.3 < collapsed["match"]["class"] < 0.7


def test_evaluation_exposes_noise_that_decides_nothing(reference):
    """Catches: variety among the answers to different captions, which a generator without noise has, too."""

    class Deaf(Copier):
        def sample(self, captions, rng, threads=None):
            first = [np.flatnonzero(self.data.labels == (PLACES.index(c) if c else 0))[0] for c in captions]
            return self.data.images[first].astype(np.float32) / 255

    whole = evaluate.evaluate(Copier(reference.training), reference, score=False)
    assert whole["variety"] == pytest.approx(whole["variety_real"], rel=0.1)
    assert evaluate.evaluate(Deaf(reference.training), reference, score=False)["variety"] < 1e-9


def test_one_image_of_a_class_has_no_variety(reference):
    """Catches: NaN, which JSON has no word for, and a mean over other classes than that of real images."""
    few = dataclasses.replace(reference, test=classifier.cut(reference.test, 0, 8))
    (one, many), (common,) = sorted(np.unique(few.test.labels, return_counts=True)[1]), few.common
    assert one == 1 < many  # else this tests nothing
    figures = evaluate.evaluate(Copier(reference.training), few, score=False)
    assert figures["variety_real"] == metrics.variety(few.test.images[few.test.labels == common])
    assert "variety of a class" in {name for name, *_ in evaluate.summary(figures)}
    names = {"classes": PLACES * 2, "language": Names(PLACES * 2, PLACES)}
    four = dataclasses.replace(classifier.cut(reference.test, 0, 4), labels=np.arange(4), **names)
    alone = evaluate.evaluate(Copier(reference.training), dataclasses.replace(reference, test=four), score=False)
    assert not {"variety", "variety_real"} & alone.keys() and np.isfinite([alone["fid"], alone["recall"]]).all()
    assert "variety of a class" not in {name for name, *_ in evaluate.summary(alone)}


def test_the_floor_is_that_of_as_many_real_images(reference):
    """Catches few samples compared with the floor of many, which no generator could reach."""
    few = dataclasses.replace(reference, count=12)
    figures = evaluate.evaluate(Copier(reference.training), few, score=False)
    assert figures["samples"] == len(few.fresh) == 12
    assert figures["fid_floor"] > 2 * reference.figures["fid_floor"] and figures["fid_ratio"] < 10


def test_new_real_images_score_the_floor_and_the_test_images_are_all_that_could_be_asked(reference):
    """Catches: figures that compare with the images that generators learn from, or with those of the floor."""
    new, same = (evaluate.of_images(real.images, None, reference) for real in (reference.fresh, reference.test))
    assert new["fid_ratio"] == pytest.approx(1)
    for name in ("precision", "recall"):
        assert new[name] == reference.figures[f"{name}_real"] and same[name] == 1
    assert same["fid"] < 1e-6 * reference.figures["fid_floor"]
    assert same["sharpness"] == reference.figures["sharpness_real"]


def test_only_what_the_generator_saw_can_have_been_copied(reference):
    limited = dataclasses.replace(reference, limit=100)
    from_afar = Copier(classifier.cut(reference.training, 100, 300))
    assert evaluate.evaluate(from_afar, reference, score=False)["copies"] == 1
    assert evaluate.evaluate(from_afar, limited, score=False)["copies"] < 0.2
    assert evaluate.evaluate(Copier(classifier.cut(reference.training, 0, 100)), limited, score=False)["copies"] == 1


def numbered(count, first=0):
    """A data set whose images say in two of their pixels which they are."""
    data, numbers = squares(count, seed=first), first + np.arange(count)
    data.images[:, 0, 0, 0], data.images[:, 0, 1, 0] = numbers % 256, numbers // 256
    return data


def numbers(images):
    return (images[:, 0, 0, 0].astype(int) + 256 * images[:, 0, 1, 0].astype(int)).tolist()


def test_the_accuracy_score_is_learnt_from_all_samples_and_from_as_many_new_images(judge, threads, monkeypatch):
    """Catches: samples left out; real images that the judge, or the test, has seen; labels of other images."""
    learnt, test = [], numbered(80, first=1000)
    monkeypatch.setattr(evaluate, "accuracy_score", lambda *a, **k: learnt.append(a) or 0.5)
    reference = Reference(judge, numbered(200), test, threads=threads)
    evaluate.evaluate(Painter(), reference)
    (painted, labels, tested, *_), (real, real_labels, *_) = learnt
    assert numbers(real) == list(range(100, 180)) and np.array_equal(real_labels, reference.training.labels[100:180])
    assert len(painted) == 80 and np.array_equal(labels, test.labels) and tested is test


def test_the_floor_is_of_images_that_the_judge_has_not_seen(judge, threads, monkeypatch):
    """Catches: a floor from what the judge learnt; the ceiling of new combinations measured on those of the test."""
    seen = []

    def reading(self, images, *arguments):
        seen.append(numbers(images))
        features = np.random.default_rng(len(seen)).standard_normal((len(images), 4))
        return classifier.Reading(features, {name: np.zeros(len(images), int) for name in judge.config.names})

    monkeypatch.setattr(type(judge), "judge", reading)
    test, unseen = numbered(80, first=1000), numbered(60, first=2000)
    figures = Reference(judge, numbered(200), test, unseen, threads).figures
    assert {(images[0], images[-1]) for images in seen if images[0] < 3000} == {(1000, 1079), (100, 179), (2000, 2059)}
    assert figures["match_ceiling"]["digit"] == np.mean(test.labels == 0)
    assert figures["match_unseen_ceiling"]["digit"] == np.mean(unseen.labels == 0) != np.mean(test.labels == 0)


def test_each_test_image_gives_its_caption():
    """Catches: captions drawn by chance, or from a part of the test set; labels that are not theirs."""
    test = squares(12, seed=7)
    captions, labels = evaluate.captions_of(test, 30)
    assert captions == (test.captions(np.arange(12)) * 3)[:30] and labels.tolist() == (test.labels.tolist() * 3)[:30]


def test_others_can_judge_the_very_samples(tmp_path, reference, monkeypatch):
    """Catches: `inkling sample --out x.npz` drawing under other captions, or from other noise, than `evaluate`."""
    judged, test = [], reference.test
    tiny = VAEConfig(width=8, latent=2, features=4, image_size=SIDE, vocabulary=test.vocabulary)
    model = registry.build("vae", tiny, np.random.default_rng(0))
    meta = {"family": "vae", "config": asdict(tiny), "plan": {"data": "squares"}}
    checkpoint.save(tmp_path / "checkpoint.npz", {f"ema/{name}": a for name, a in model.state().items()}, meta)
    splits = {"test": test, "train": reference.training}
    load = lambda name, split, limit=None: classifier.cut(splits[split], 0, limit or len(splits[split]))  # noqa: E731
    monkeypatch.setattr(measuring.datasets, "load", load)
    monkeypatch.setattr(evaluate, "CHUNK", 48)
    out = tmp_path / "x.npz"
    assert cli.main(["sample", str(tmp_path), "-n", "120", "--seed", "3", "--out", str(out)]) == 0
    real = evaluate.draw
    monkeypatch.setattr(evaluate, "draw", lambda *a: judged.append(real(*a)) or judged[-1])
    evaluate.evaluate(model, reference, 3, score=False)
    with np.load(out) as written:
        assert np.array_equal(written["images"][..., None], judged[0]) and judged[0].std() > 0
        assert np.array_equal(written["labels"], test.labels)
        assert written["captions"].tolist() == test.captions(np.arange(120))


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

    name, likelihood_figures = "painter", Family.likelihood_figures

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
    figures = evaluate.evaluate(Painter(), reference, score=False)
    bold = reference.test.attributes["stroke"].mean()
    for key, share in (("match", 1 - bold), ("match_unseen", 1 - unseen.attributes["stroke"].mean())):
        assert figures[key]["digit"] == 1 and figures[key]["size"] == 1
        assert figures[key]["stroke"] == figures[key]["all"] == pytest.approx(share, abs=0.02)
    assert figures["match_ceiling"]["all"] > 0.95 and figures["match_unseen_ceiling"]["all"] > 0.95
    assert "never seen: stroke" in {name for name, *_ in evaluate.summary(figures)}


def test_samples_of_another_tool_are_judged(tmp_path, reference, monkeypatch, capsys):
    """Catches figures of a file that differ from those of the model that painted it, and files taken on trust."""
    monkeypatch.setattr(measuring, "open_run", lambda run: (reference.judge, {}))
    splits = {"train": reference.training, "test": reference.test}
    monkeypatch.setattr(measuring.datasets, "load", lambda name, split, limit=None: splits[split])
    captions, _ = evaluate.captions_of(reference.test, 120)
    painted = evaluate.draw(Copier(reference.training), captions, 0)
    expected = evaluate.evaluate(Copier(reference.training), reference, score=False)

    def judged(**arrays):
        np.savez(tmp_path / "x.npz", **arrays)
        arguments = ["evaluate", str(tmp_path / "x.npz"), "--judge", str(tmp_path), "--data", "squares"]
        status = cli.main([*arguments, "--json", str(tmp_path / "x.json")])
        return status, json.loads((tmp_path / "x.json").read_text()) if status == 0 else capsys.readouterr().err

    status, figures = judged(images=painted[..., 0], captions=captions)
    assert status == 0 and figures["fid"] == expected["fid"] and figures["match"] == expected["match"]
    status, figures = judged(images=painted / np.float32(255))  # without captions
    assert status == 0 and figures["fid"] == expected["fid"] and "match" not in figures
    assert "too few" not in capsys.readouterr().out
    assert judged(images=painted[:12])[0] == 0 and "12 samples are no more than" in capsys.readouterr().out
    for wrong, words in (
        ({"images": painted.astype(float)}, "numbers from 0 to 1"), ({"images": painted[0, 0]}, "of shape (8, 1)"),
        ({"images": painted[:, :4]}, "reads images of"), ({"images": painted, "captions": ["a"]}, "captions of shape"),
        ({"images": np.array([{}])}, "cannot be read"), ({"images": painted[:2]}, "at least 4"),
    ):  # fmt: skip
        status, sentence = judged(**wrong)
        assert status == 2 and words in sentence and len(sentence.splitlines()) == 1, (words, sentence)
    assert cli.main(["evaluate", str(tmp_path / "x.npz")]) == 2 and "add --data" in capsys.readouterr().err
    for options in (["-n=9"], ["--seed=0"], ["--no-score"], ["--sample-steps=5", "--guidance=2"], ["--eta=0"],
                    ["--temperature=0"]):  # fmt: skip
        assert cli.main(["evaluate", str(tmp_path / "x.npz"), "--data", "squares", *options]) == 2
        named = ", ".join(option.split("=")[0] for option in options)
        assert capsys.readouterr().err.endswith(f"leave out {named}\n")


def test_samples_for_digits_are_judged_without_unseen_ones(reference, monkeypatch):
    """Catches seconds spent on drawing digits that nothing of a file of samples is compared with."""
    splits = {"train": reference.training, "test": reference.test}
    monkeypatch.setattr(measuring.datasets, "load", lambda name, split, limit=None: splits[split])
    monkeypatch.setattr(measuring, "open_run", lambda run: (reference.judge, {}))
    options = cli.parser().parse_args(["evaluate", "x.npz", "--data", "digits", "--judge", "."])
    options.threads = reference.threads
    _, figures, _ = measuring._of_file(options, reference.test.images, None)
    assert figures["samples"] == len(reference.test) and "match_unseen_ceiling" not in figures


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_file_of_samples_with_any_byte_flipped_is_read_or_refused(tmp_path, packed):
    """Catches what zipfile, a decompression or NumPy raises on such bytes: an unknown compression, a password."""
    path, images = tmp_path / "x.npz", np.random.default_rng(0).integers(0, 256, (2, 8, 8), np.uint8)
    with zipfile.ZipFile(path, "w", packed) as archive, archive.open("images.npy", "w") as member:
        np.lib.format.write_array(member, images)
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        for bits in (0x01, 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= bits
            path.write_bytes(damaged)
            try:
                found = evaluate.read_samples(path)
                assert found is None or (found[0][..., 0] == images).all()
            except metrics.MetricError as error:
                assert str(path) in str(error) and len(str(error).splitlines()) == 1
                refused += 1
    assert refused > len(whole)


@pytest.mark.parametrize(("shape", "kind"), [((0, 8, 8), np.uint8), ((0, 8, 8), float), ((2, 0, 8, 1), np.uint8)])
def test_no_images_are_no_samples(tmp_path, shape, kind):
    np.savez(tmp_path / "x.npz", images=np.zeros(shape, kind))
    with pytest.raises(metrics.MetricError, match="none of them 0"):
        evaluate.read_samples(tmp_path / "x.npz")


@pytest.mark.parametrize(("how", "seen"), [({"mirror": True}, 24), ({"mirror": False}, 12), ({}, 12), ("x", 12)])
def test_of_mirrored_pictures_both_images_were_seen(reference, monkeypatch, how, seen):
    """Catches copies of the second half of the images that a run with --mirror and --limit learnt from."""
    monkeypatch.setattr(measuring.datasets, "load", lambda name, split, limit=None: reference.training)
    options = cli.parser().parse_args(["evaluate", "run"])
    options.threads = reference.threads
    meta = {"plan": {"data": "squares", "limit": 12, "pictures": how}}
    assert len(measuring._reference(options, reference.judge, meta, reference.test, 80).seen) == seen


def test_evaluate_says_what_is_missing(tmp_path, judge, capsys):
    meta = {"family": "classifier", "config": asdict(judge.config), "plan": {"data": "digits"}}
    checkpoint.save(tmp_path / "checkpoint.npz", {f"ema/{name}": a for name, a in judge.state().items()}, meta)
    assert cli.main(["evaluate", str(tmp_path)]) == 2
    assert "makes no images" in capsys.readouterr().err
    meta = {"family": "vae", "config": {"width": 8, "latent": 2, "features": 4}, "plan": 5}
    model = registry.build("vae", from_json(VAEConfig, meta["config"]), np.random.default_rng(0))
    foreign = tmp_path / "foreign.npz"
    checkpoint.save(foreign, {f"ema/{name}": a for name, a in model.state().items()}, meta)
    assert cli.main(["evaluate", str(foreign), "--judge", str(tmp_path / "none")]) == 2
    assert "there is no judge" in capsys.readouterr().err
    loaded = registry.load(tmp_path)
    assert loaded.weights_hash() == judge.weights_hash()


def test_evaluate_passes_options_on_and_says_when_samples_are_too_few(tmp_path, reference, capsys, monkeypatch):
    row = registry.Row("", "a copier", {}, sampling={"steps": "50", "guidance": "1"})
    monkeypatch.setitem(registry.FAMILIES, "copier", row)
    of_run = {"name": (Copier(reference.training), {"plan": {"data": "digits", "limit": 100}})}
    monkeypatch.setattr(measuring, "open_run", lambda run: of_run.get(run, (reference.judge, {})))
    splits = {"train": reference.training, "test": reference.test, "unseen": None}
    monkeypatch.setattr(measuring.datasets, "load", lambda name, split, limit=None: splits[split])
    monkeypatch.setattr(Copier, "image_shape", reference.judge.image_shape, raising=False)
    paint, asked, scores = Copier.sample, [], []

    def sample(self, captions, rng, threads=None, steps=None, guidance=None):
        asked.append((steps, guidance))
        return paint(self, captions, rng)

    monkeypatch.setattr(Copier, "sample", sample)
    monkeypatch.setattr(evaluate, "accuracy_score", lambda *a, **k: scores.append(a) or 0.5)
    seen, real = [], evaluate.evaluate
    monkeypatch.setattr(evaluate, "evaluate", lambda family, of, *a, **k: seen.append(of) or real(family, of, *a, **k))
    assert cli.main(["evaluate", "name", "--judge", str(tmp_path), "-n", "500"]) == 0
    told = capsys.readouterr().out
    assert "not 500" in told and "accuracy score / real" in told and seen[0].count == 120 and seen[0].limit == 100
    assert len(scores) == 2 and set(asked) == {(None, None)}
    asked.clear()
    options = ["--sample-steps", "7", "--guidance", "3", "--no-score", "--json", str(tmp_path / "x.json")]
    assert cli.main(["evaluate", "name", "--judge", str(tmp_path), *options]) == 0
    assert len(scores) == 2 and set(asked) == {(7, 3.0)}
    assert json.loads((tmp_path / "x.json").read_text())["options"] == {"steps": 7, "guidance": 3.0}
    capsys.readouterr()
    assert cli.main(["evaluate", "name", "--judge", str(tmp_path), "--temperature", "1"]) == 2
    assert "means nothing" in capsys.readouterr().err
    assert cli.main(["evaluate", "name", "--judge", str(tmp_path), "-n", "2"]) == 2
    assert "at least 4" in capsys.readouterr().err
