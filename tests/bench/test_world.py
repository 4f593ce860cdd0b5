"""The judge of worlds, held against worlds whose figures are known."""
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets
from bench import world as bench
from datasets import playground
from datasets.playground import ACTIONS
from generators import plans, registry
from generators.families.world.world import World
from tests.generators.toys import sets_of


@pytest.fixture(scope="module", autouse=True)
def films(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(playground, "SPLITS", {"train": 300, "test": 140, "unseen": 300})
        yield


@pytest.fixture(scope="module")
def read():
    return bench.Reader()


class Simulator(World):
    """The law itself as a model; code k is action order[k].  Where a wall makes several explain a pair, stay does."""

    def __init__(self, read, order=(0, 3, 5, 1, 6, 2, 4, 0)):
        super().__init__(config(codes=8), np.random.default_rng(0))
        self.read, self.order = read, np.array(order)

    def futures(self, context):
        states, _ = self.read(context[:, -1])
        each = [playground.step(states, np.full(len(states), action)) for action in self.order]
        return playground.film(np.stack(each, axis=1)) / np.float32(255)


class Deaf(Simulator):
    def futures(self, context):
        return np.repeat(super().futures(context)[:, :1], 8, axis=1)


def config(**settings):
    tiny = registry.FAMILIES["world"].tiny
    return replace(plans.default_config("world", datasets.load("playground")), **{**tiny, **settings})


def test_the_law_as_a_model_is_perfect(read):
    """Catches a judge that misreads frames, keys or lags, or that plays another game than the one it compares with."""
    found = bench.measure(Simulator(read), games=40, count=300)
    assert found["latent"]["accuracy"] == {"all": 1, "worst": 1}
    assert found["lags"]["+0"] == 1 > max(found["lags"]["-1"], found["lags"]["+1"]) + 0.2
    assert found["teacher_forced"]["obeyed"] == 1 and found["teacher_forced"]["psnr"] == 80
    for steps in ("1", "16", "64"):
        assert found["free_running"][steps] == {"right": 1, "lost": 0, "drift": 0}
    below = found["latent"]
    assert below["majority"] < below["k_means"] < 1 and below["majority"] < below["displacement"] < 1
    assert 30 > found["teacher_forced"]["psnr_last_frame"] > found["teacher_forced"]["psnr_constant_velocity"]
    assert [row[1] for row in bench.table(found)[:2]] == ["100.0%", "100.0%"]


def test_a_deaf_model_gains_nothing(read):
    """Catches a gain that is measured against anything but the same model under another code."""
    found = bench.measure(Deaf(read), games=20, count=200)
    assert found["teacher_forced"]["gain_db"] == 0 and found["free_running"]["16"]["right"] < 0.2
    assert found["latent"]["accuracy"]["all"] == found["latent"]["majority"]


class Foretold(Simulator):
    """The law of level 2, looked up: whatever the two frames before show, the frames to which each action leads."""

    def __init__(self, read, *known):
        super().__init__(read)
        self.found = {c.tobytes(): f for t in known for c, f in zip(t.contexts, t.possible(), strict=True)}

    def futures(self, context):
        return np.stack([self.found[c.tobytes()][self.order] for c in context])


def test_on_level_2_the_law_is_obeyed_whatever_the_second_digit_does(read):
    """Catches a judge that takes the second digit's step for an effect, or that forgets its step."""
    labelled, unseen = (bench.Transitions(split, 2, 300, level=2) for split in ("test", "unseen"))
    rows = np.arange(300)
    np.testing.assert_array_equal(unseen.possible()[rows, unseen.effect], unseen.after)
    model = Foretold(read, labelled, unseen)
    model.learn_keys(labelled.contexts, labelled.after, labelled.effect, ACTIONS)
    found = bench.one_step(model, unseen, read)
    assert found["obeyed"] == 1 and found["psnr"] == 80
    assert bench.latent(model, labelled, unseen)["accuracy"] == {"all": 1, "worst": 1}
    model.keys = dict(zip(ACTIONS, np.roll(list(model.keys.values()), 1), strict=True))
    assert bench.one_step(model, unseen, read)["obeyed"] < 0.3


def test_level_3_differs_from_the_law_by_specks_alone():
    """Catches specks that the law is asked to foretell, and a second digit that it forgets."""
    unseen = bench.Transitions("unseen", 1, 100, level=3)
    lawful = unseen.possible()[np.arange(100), unseen.effect]
    specks = unseen.after != lawful
    assert (unseen.after[specks] == 1).all() and 0.01 < specks.mean() < 0.03


def test_keys_in_another_order_are_another_game(read):
    model = Simulator(read)
    model.learn_keys(*(lambda t: (t.contexts, t.after, t.effect))(bench.Transitions("test", 4, 500)), ACTIONS)
    assert bench.free_running(model, read, 16, 30)["right"] == 1
    model.keys = dict(zip(ACTIONS, np.roll(list(model.keys.values()), 1), strict=True))
    assert bench.free_running(model, read, 16, 30)["right"] < 0.2


def test_a_frame_without_a_digit_is_lost(read):
    """Catches walls that count as ink, and a blur that counts as a digit."""
    pictures = read.pictures[::500].reshape(-1, 28, 28, 1)
    states, lost = read(pictures)
    np.testing.assert_array_equal(states, read.states[::500])
    assert not lost.any()
    empty = pictures.min(axis=0, keepdims=True)
    blurred = read.pictures.mean(axis=0).reshape(1, 28, 28, 1)
    assert read(empty)[1].all() and read(blurred)[1].all() and not read(0.8 * pictures + 0.1 * pictures[::-1])[1].any()


def test_the_command(tmp_path, capsys):
    """Catches a baseline or a ceiling that does not train, and figures that are not written."""
    from bench.__main__ import main
    from generators.cli import main as inkling

    tiny = sets_of({**registry.FAMILIES["world"].tiny, "batch_size": 8})
    for data, of_level_1 in (("playground", True), ("playground-3", False)):
        run, out, png = (str(tmp_path / f"{data}{end}") for end in ("", ".json", ".png"))
        assert inkling(["train", "world", "--data", data, "--steps", "2", "--out", run, *tiny]) == 0
        assert main(["world", run, "--steps", "2", "--games", "4", "--json", out, "--picture", png]) == 0
        found, printed = json.loads(Path(out).read_text()), capsys.readouterr().out
        assert "inverse_model" in found["compared"] and "bar 90%" in printed and Image.open(png).width > 200
        assert ("64 random keys" in printed) == ("psnr_true_effects" in found["compared"]) == of_level_1


def test_how_much_each_effect_changes_a_frame():
    change = bench.change_by_effect("train", 60)
    assert list(change) == list(ACTIONS) and change["stay"] == 0 and min(change, key=change.get) == "stay"
    assert change["pen"] == min(change[name] for name in ACTIONS[1:])  # the first that a model will drop
