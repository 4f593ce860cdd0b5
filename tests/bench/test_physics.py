"""The judge of films: exact on real ones, and not to be deceived by repeated, flickering or unlawful ones."""
import numpy as np
import pytest

import datasets
import generators
from bench import physics
from bench.films import figures
from datasets.captions import MOTION
from nn.parallel import Threads

COUNT = 120


@pytest.fixture(scope="module")
def data():
    return datasets.load("moving", "test", COUNT)


@pytest.fixture(scope="module")
def captions(data):
    return data.captions(range(COUNT))


@pytest.fixture(scope="module")
def judge():
    return generators.load("classifier")


def read(films, judge):
    return physics.read(films, judge, Threads(1))


def test_real_films_are_at_the_ceiling(data, captions, judge):
    """Catches rows and columns exchanged, a wall of the wrong side, a digit that is cut where it wraps."""
    reading = read(data.images[:], judge)
    found = figures(reading, captions)
    assert reading.distance.min(axis=1).max() < 1e-6 and found["ink"] < 1e-6
    exact = {name: found[name] for name in ("direction", "speed", "walls", "lawful")}
    assert exact == dict.fromkeys(exact, 1.0)
    assert min(found[name] for name in ("digit", "stroke", "same", "all")) >= 0.96
    backwards = read(data.images[:][:, ::-1], judge)
    assert backwards.lawful.all()
    wraps = np.array([data.describe(i)["walls"] != "bouncing" for i in range(COUNT)])
    np.testing.assert_allclose(backwards.velocity[wraps], -reading.velocity[wraps], atol=1e-9)


def test_captions_of_other_films_are_not_obeyed(data, captions, judge):
    """Catches a judge that is content with anything."""
    reading = read(data.images[:], judge)
    other = captions[1:] + captions[:1]
    found, said = physics.obeyed(reading, other), [MOTION.parse(caption) for caption in other]
    for name in ("digit", "stroke", "direction", "speed"):
        true = [data.describe(i)[name] == words[name] if name in words else None for i, words in enumerate(said)]
        if name == "speed":  # of what stands still there is none to be right
            true = [answer and data.describe(i)["speed"] != "" for i, answer in enumerate(true)]
        expected = np.array([np.nan if answer is None else float(answer) for answer in true])
        assert np.mean((found[name] == expected) | np.isnan(expected) & np.isnan(found[name])) >= 0.97
    silent = physics.obeyed(reading, [""] * COUNT)
    assert np.isnan(silent["digit"]).all() and silent["all"].all()


def test_a_repeated_frame_stands_still_and_a_blank_film_is_no_error(data, captions, judge):
    films = np.repeat(data.images[:20][:, :1], 12, axis=1)
    reading = read(films, judge)
    assert not reading.velocity.any() and reading.lawful.all() and not reading.speed.any()
    assert {MOTION.attributes["direction"][way] for way in reading.direction} == {"still"}
    blank = read(np.zeros_like(films[:2]), judge)
    assert not blank.velocity.any() and not blank.ink.any()


def test_one_flickering_frame_is_seen(data, judge):
    """Catches ink that is averaged away, and a digit that is only read once."""
    films = data.images[:20].copy()
    films[:, 5] = films[:, 5] // 2
    reading = read(films, judge)
    np.testing.assert_allclose(reading.ink, np.std([1] * 11 + [0.5]) / np.mean([1] * 11 + [0.5]), rtol=0.02)
    films = data.images[:20].copy()
    films[:, 7] = np.roll(data.images[20:40], 10, axis=0)[:, 7]  # one frame of another film
    assert read(films, judge).same.mean() < 0.4


def test_a_digit_that_jumps_or_turns_in_mid_air_is_not_lawful(data, judge):
    """Catches a law that bends to anything: walls anywhere, a new start in each frame."""
    films = data.images[:60]
    jumping = np.concatenate([films[:, :6], np.roll(films[:, 6:], 3, axis=(2, 3))], axis=1)
    assert read(jumping, judge).lawful.mean() < 0.2
    moving = [i for i in range(60) if data.describe(i)["speed"] == "fast"]
    turning = np.concatenate([films[moving, :4], films[moving, 2::-1], films[moving, 1:6]], axis=1)
    assert read(turning, judge).lawful.mean() < 0.4


def test_speeds_between_are_read():
    """A law of 1.5 pixels a frame, whose places are rounded, is nearest to 1.5, not to one of the two in training."""
    t = np.arange(12)
    path = np.stack([np.rint(2 + 1.5 * t), np.full(12, 5.0)], axis=1)[None]
    velocity, distance = physics.nearest_laws(path, np.array([[22, 12]]))
    np.testing.assert_allclose(velocity, [[1.5, 0]], atol=0.05)
    assert distance.min() < 0.5
