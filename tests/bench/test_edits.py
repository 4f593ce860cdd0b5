"""The figures of the edits, where the right ones are known."""
import json
from dataclasses import replace

import numpy as np
import pytest

import datasets
from bench import edits, quality
from datasets import digits
from datasets.captions import HANDWRITING as language
from generators.errors import RunError
from generators.families.flow.realnvp import RealNVP
from generators.judging.classifier import Reading
from generators.registry import FAMILIES, build
from generators.showing import pictures
from nn.parallel import Threads, derive_rng
from tests.generators.toys import toy_data

TEST = datasets.load("digits", "test", limit=400)
TASK = edits.draw_task(TEST, 300, seed=0)
THREADS = Threads(1)


class Perfect:
    """A judge that reads in every picture what it was drawn from: it has been told beforehand."""

    def __init__(self):
        self.known = {}
        self.tell(TASK.images, TASK.before)
        self.tell(TASK.redrawn, TASK.after)

    def tell(self, images, codes):
        self.known |= dict(zip(map(bytes, pictures.to_uint8(images)), codes, strict=True))

    def judge(self, images, threads):
        assert images.dtype == np.uint8
        codes = np.array([self.known[bytes(image)] for image in images])
        return Reading(np.zeros((len(images), 1)), dict(zip(language.attributes, codes.T, strict=True)))


def score(images, judge=None):
    return edits.measure(TASK, images, judge or Perfect(), THREADS)


def redrawn(codes, seed=0):
    """TASK's pictures as the same hands draw them with other attributes."""
    chosen = derive_rng(seed, "edits").choice(len(TEST), len(codes), replace=False)
    return digits.draw_images(digits.picture_keys(0, "test", chosen), codes) / np.float32(255)


def test_the_task_changes_one_thing_and_never_the_digit():
    """Catches a change to what is there already, two at once, a variant of another digit, a value never asked for."""
    for caption, wanted, name in zip(TASK.captions, TASK.wanted, TASK.names, strict=True):
        old, new = language.parse(caption), language.parse(wanted)  # which refuses a variant that is not its digit's
        assert [key for key in language.attributes if old[key] != new[key]] == [name] and name != "digit"
    asked = {(name, language.parse(wanted)[name]) for name, wanted in zip(TASK.names, TASK.wanted, strict=True)}
    assert asked == {(name, value) for name in edits.NAMES for value in language.attributes[name]}
    counts = [np.mean(TASK.names == name) for name in edits.NAMES]
    assert min(counts) > 0.15
    assert any(not np.array_equal(edits.draw_task(TEST, 50, seed).after, TASK.after[:50]) for seed in (1, 2))


def test_the_same_hand_draws_the_same_image():
    """Catches a perfect edit drawn by someone else, and images that do not belong to their captions."""
    np.testing.assert_allclose(redrawn(TASK.before), TASK.images, atol=1e-6)
    np.testing.assert_allclose(redrawn(TASK.after), TASK.redrawn, atol=1e-6)
    assert len({bytes(image) for image in TASK.images}) == 300
    for image, caption in list(zip(pictures.to_uint8(TASK.images), TASK.captions, strict=True))[:20]:
        (index,) = np.flatnonzero((TEST.images == image).all(axis=(1, 2, 3)))
        assert language.parse(caption) == TEST.describe(index)


def test_what_edits_nothing_and_what_edits_perfectly():
    nothing, perfect = score(TASK.images), score(TASK.redrawn)
    assert [nothing[name] for name in ("changed", *edits.NAMES, "new")] == [0] * 6
    assert (nothing["kept"], nothing["rest"]) == (1, 1) and nothing["distance"] > 0.05
    assert [perfect[name] for name in edits.COLUMNS] == [1] * 8 + [0]


def test_the_shares_are_counted_each_among_its_own():
    """Catches shares over all images, and hits that are counted for another image's attribute."""
    done = np.isin(TASK.names, ["stroke", "size"]) | (np.arange(300) % 3 == 0)
    figures = score(np.where(done[:, None, None, None], TASK.redrawn, TASK.images))
    assert figures["changed"] == pytest.approx(done.mean()) and figures["kept"] == figures["rest"] == 1
    for name in edits.NAMES:
        assert figures[name] == pytest.approx(done[TASK.names == name].mean())
    unseen = np.array([language.held_out(language.parse(wanted)) for wanted in TASK.wanted])
    assert 5 < unseen.sum() < 100 and figures["new"] == pytest.approx(done[unseen].mean())


def test_what_else_an_edit_spoils():
    """Catches an edit that obeys, but paints another digit, or changes something that it was not asked to."""
    judge = Perfect()
    other, more = TASK.after.copy(), TASK.after.copy()
    size = list(language.attributes).index("size")
    more[:, size] = np.where(TASK.names == "size", more[:, size], 1 - more[:, size])
    plain = TASK.names != "variant"
    other[plain, 0] = (other[plain, 0] + 1) % 10
    for row in other:
        row[1] = row[1] if row[1] in edits.choices(row[0], 1) else edits.choices(row[0], 1)[0]
    for codes in (more, other):
        judge.tell(redrawn(codes), codes)
    figures = score(redrawn(more), judge)
    assert figures["changed"] == figures["kept"] == 1
    assert figures["rest"] == pytest.approx(np.mean(TASK.names == "size"))
    figures = score(redrawn(other), judge)
    assert figures["changed"] == 1 and figures["kept"] == pytest.approx(1 - plain.mean())
    assert figures["rest"] == pytest.approx(1 - plain.mean())


def test_painting_anew_is_found_out_by_its_distance():
    """A painter that ignores the image and draws, with other hands, what the changed caption says."""
    judge, painted = Perfect(), digits.draw_images(digits.picture_keys(0, "train", np.arange(300)), TASK.after) / 255
    judge.tell(painted, TASK.after)
    figures = score(painted, judge)
    assert figures["changed"] == figures["kept"] == figures["rest"] == 1 and figures["distance"] > 0.2


class Family:
    """Returns other images for each thing that it is asked, and remembers what that was."""

    def __init__(self):
        self.asked = []

    def edit(self, images, captions, wanted, threads=None):
        self.asked.append(("edit", images, captions, wanted))
        return TASK.redrawn

    def sample(self, captions, rng, threads=None):
        self.asked.append(("sample", captions))
        return TASK.images


def test_a_family_gets_the_whole_task_at_once():
    """Catches captions the wrong way round, edits one by one, and a direction where there is none."""
    model = Family()
    painted = edits.ways(model, TASK, None, 0, THREADS)
    assert [*painted] == ["by caption", "painted anew"]
    (_, images, captions, wanted), (_, anew) = model.asked
    assert images is TASK.images and captions == TASK.captions and wanted == anew == TASK.wanted
    assert score(painted["by caption"])["changed"] == 1 and score(painted["painted anew"])["changed"] == 0


def test_the_command(tmp_path, monkeypatch, capsys):
    data = toy_data(600)
    monkeypatch.setattr(edits.datasets, "load", lambda name, split, limit=None: data if split == "train" else TEST)

    def untrained(out, config, name, dataset, data, minutes, seed, threads):
        return build(name, replace(config, **FAMILIES[name].tiny, shard_size=8), derive_rng(seed, "weights")), minutes

    monkeypatch.setattr(edits, "trained", untrained)
    monkeypatch.setattr(RealNVP, "direction_examples", 4)
    assert edits.main(["-n", "12", "--out", str(tmp_path), "--threads", "1"]) == 0
    results = json.loads((tmp_path / "edits.json").read_text())
    both = ["by caption", "by direction", "painted anew"]
    ways = {name: [*by] for name, by in results["families"].items()}
    assert ways == {"vae": both, "realnvp": both, "ddpm": both[::2]}
    assert results["real"]["same hand"]["distance"] == 0 and results["edits"] == 12
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines[1:4]] == ["as they are", "same hand", "vae by caption"]
    assert "same hand" in (tmp_path / "edits.html").read_text()
    with pytest.raises(SystemExit):
        edits.main(["-n", "10001", "--out", str(tmp_path)])


def test_the_runs_are_those_of_the_quality_bench(tmp_path, monkeypatch):
    """Catches other folders, settings or seeds, with which every family would be trained again."""
    data = toy_data(64)
    monkeypatch.setattr(datasets, "load", lambda *a, **k: data)
    asked = {edits: [], quality: []}
    for bench in asked:
        def record(out, config, name, *more, calls=asked[bench]):
            calls.append((out, config, name, *more[:4]))
            if name != "classifier":
                raise RunError("enough")
            return build(name, replace(config, **FAMILIES["classifier"].tiny), derive_rng(0, "weights")), 1.0

        monkeypatch.setattr(bench, "trained", record)
        for seed in ("0", "3"):
            with pytest.raises(RunError):
                arguments = ["--families", "vae", "-n", "5", "--seed", seed, "--minutes", "3", "--threads", "1"]
                bench.main([*arguments, *([] if seed == "0" else ["--out", str(tmp_path)])])
    assert asked[edits] == asked[quality] and len(asked[edits]) == 4
