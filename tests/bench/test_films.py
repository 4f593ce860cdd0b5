"""The bench of films: its baselines are what they are called, and it runs from end to end."""
import json

import numpy as np
import pytest

import datasets
from bench import films as bench
from bench import physics
from generators.cli import main
from generators.registry import FAMILIES, load
from nn.parallel import Threads
from tests.generators.toys import sets_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films") / "run"
    sets = sets_of(FAMILIES["video"].tiny | {"batch_size": 4, "shard_size": 2})
    assert main(["train", "video", "--limit", "40", "--steps", "1", "--out", str(folder), "--threads", "1", *sets]) == 0
    return folder


def test_what_a_film_would_do_without_a_wall_is_right_exactly_there(run, monkeypatch):
    """Catches velocities of the wrong frames, walls that are met among the frames given, and places compared without
    the shorter way around."""
    data, model = datasets.load("moving", "test", 150), load(run)
    monkeypatch.setattr(type(model), "continue_", lambda self, films, *_, **__: films)  # a perfect one
    found, _ = bench.continuing(model, data, {}, 0, Threads(1))
    assert found["continued by the model"] == {"wall": 0, "no wall": 0} and min(found["films"].values()) > 30
    assert found["constant velocity"]["no wall"] == 0 and found["constant velocity"]["wall"] > 2
    # Walls are where the box around the ink has them, up to two pixels off.
    assert found["constant velocity with reflection"]["wall"] < 0.5 * found["constant velocity"]["wall"]
    assert found["the last frame repeated"]["no wall"] > 1
    filled = bench.filling(model, data, {}, 0, Threads(1))
    assert [row["fits"] for row in filled.values()] == [1, 1] and filled["wall"]["films"] > 30
    speeds = bench.between_speeds(model, data, {}, 0, Threads(1))
    assert {name: round(of["mean"], 1) for name, of in speeds.items()} == {"1": 1.0, "1.5": 1.5, "2": 2.0}
    assert [speeds[name][f"near {name}"] for name in speeds] == [1, 1, 1]


@pytest.mark.parametrize("wrong", ["from its beginning", "at its beginning", "at its end"])
def test_a_middle_that_does_not_fit_is_seen(run, monkeypatch, wrong):
    """Catches a joint that is not looked at, and films at rest, which fit whatever is painted."""
    data, model = datasets.load("moving", "test", 60), load(run)

    def late(self, films, captions, rng, given, *_, **__):
        painted, gap = films.copy(), np.flatnonzero(~given)
        gap = {"at its beginning": gap[:2], "at its end": gap[2:]}.get(wrong, gap)
        painted[:, gap] = films[:, gap - 1]
        return painted

    monkeypatch.setattr(type(model), "continue_", late)
    found = bench.filling(model, data, {}, 0, Threads(1))
    moving = sum(data.describe(i)["direction"] != "still" for i in range(60))
    assert sum(row["films"] for row in found.values()) == moving < 60
    assert max(row["fits"] for row in found.values()) < 0.1  # not 0: at a wall a digit may stand for a frame


@pytest.mark.parametrize(("turn", "wall"), [(2, False), (3, True), (4, True), (7, True), (8, False), (9, False)])
def test_a_wall_is_met_in_the_gap_if_the_given_ends_do_not_tell_of_it(run, monkeypatch, turn, wall):
    """Frame `turn` is where the digit turns.  Catches turns at a given frame that a straight middle would meet, called
    walls, and a turn at the last frame before the gap called none."""
    steps = np.where(np.arange(11) < turn, 1, -1)[None, :, None] * np.array([1, 0])
    model = load(run)
    monkeypatch.setattr(type(model), "continue_", lambda self, films, *_, **__: films)
    monkeypatch.setattr(bench.physics, "displacements", lambda films: steps)
    found = bench.filling(model, datasets.load("moving", "test", 1), {}, 0, Threads(1))
    assert (found["wall"]["films"], found["no wall"]["films"]) == (int(wall), int(not wall))


class Stills:
    """Paints real digits."""

    name = "stills"

    def sample(self, captions, rng, threads):
        return datasets.load("digits", "test", len(captions)).images / np.float32(255)


def test_moved_stills_obey_the_law_and_their_captions():
    data = datasets.load("moving", "test", 30)
    moved = bench.moved_stills(Stills(), data, 0, Threads(1))
    velocity, distance = physics.nearest_laws(*physics.track(moved / np.float32(255)))
    np.testing.assert_array_equal(velocity, data.images.velocity)
    assert distance.min(axis=1).max() < 1e-6


def test_from_end_to_end(run, tmp_path):
    out = tmp_path / "out"
    options = ["-n", "12", "--continued", "8", "--sample-steps", "2", "--threads", "1", "--out", str(out)]
    assert bench.main([str(run), "--without-time", str(run), *options]) == 0
    results = json.loads((out / "films.json").read_text())
    assert set(results["rows"]) == {"real films", "video", "each frame alone", "captions of other films"}
    assert results["rows"]["real films"]["direction"] == 1 and results["rows"]["video"]["lawful"] < 0.5
    page = (out / "films.html").read_text()
    assert page.count("image/gif") == 4 and all(title in page for title, *_ in bench.FIGURES.values())
