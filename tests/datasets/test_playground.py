import numpy as np
import pytest

import datasets
from datasets import DataError, playground
from datasets.playground import COLUMN, DIGIT, HAND, PLACES, ROW, STROKE

STAY, LEFT, RIGHT, UP, DOWN, NEXT, PEN = range(7)
EVERY = np.argwhere(np.ones((playground.HANDS, 10, 2, PLACES, PLACES), bool))  # (5760, 5)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(playground, "SPLITS", {"train": 60, "test": 20, "unseen": 20})


def after(*actions):
    state = EVERY
    for action in actions:
        state = playground.step(state, np.full(len(state), action))
    return state


def inside(state, axis):
    return (state[:, axis] > 0) & (state[:, axis] < PLACES - 1)


@pytest.mark.parametrize(("there", "back", "axis"), [(LEFT, RIGHT, COLUMN), (UP, DOWN, ROW), (RIGHT, LEFT, COLUMN)])
def test_there_and_back_is_nothing_away_from_the_walls(there, back, axis):
    """Catches an axis or a sign mixed up, and a wall that lets through or reflects."""
    free, moved = inside(EVERY, axis), after(there)
    np.testing.assert_array_equal(after(there, back)[free], EVERY[free])
    assert (np.abs(moved - EVERY)[free].sum(axis=1) == 1).all() and (moved[free][:, axis] != EVERY[free][:, axis]).all()
    effects = playground.effects(EVERY, np.full(len(EVERY), there))
    at_the_wall = (moved == EVERY).all(axis=1)
    assert at_the_wall.mean() == 1 / PLACES
    np.testing.assert_array_equal(effects, np.where(at_the_wall, STAY, there))  # right at the right wall is stay


def test_next_has_ten_digits_and_pen_two_strokes():
    np.testing.assert_array_equal(after(*[NEXT] * 10), EVERY)
    np.testing.assert_array_equal(after(PEN, PEN), EVERY)
    np.testing.assert_array_equal(after(PEN, NEXT), after(NEXT, PEN))
    assert (after(NEXT)[:, DIGIT] == (EVERY[:, DIGIT] + 1) % 10).all()
    assert (after(PEN)[:, STROKE] != EVERY[:, STROKE]).all()
    for action in (NEXT, PEN, STAY):
        np.testing.assert_array_equal(after(action)[:, [HAND, ROW, COLUMN]], EVERY[:, [HAND, ROW, COLUMN]])


def test_what_is_seen_tells_the_state_and_moves_by_two_pixels():
    """Catches hands that write alike, ink cut off, and a picture drawn in another place than its state."""
    pictures = playground.sprites().reshape(160, -1).astype(float)
    apart = np.linalg.norm(pictures[:, None] - pictures, axis=-1) + 1e9 * np.eye(160)
    assert apart.min() > 255  # of all pairs: more than one pixel all black against all white
    bold, thin = (playground.sprites()[:, :, stroke].sum(axis=(2, 3), dtype=float) for stroke in (1, 0))
    assert (bold > 1.2 * thin).all()
    walk = np.stack([EVERY[::7], playground.step(EVERY[::7], np.full(len(EVERY[::7]), RIGHT))], axis=1)
    film = playground.film(walk)[..., 0]
    free = walk[:, 0, COLUMN] < PLACES - 1
    np.testing.assert_array_equal(film[free, 1, 1:-1, 3:-1], film[free, 0, 1:-1, 1:-3])
    assert (film[:, :, 0] == playground.WALL).all() and (film[:, :, :, -1] == playground.WALL).all()


@pytest.mark.parametrize("split", playground.SPLITS)
def test_films_follow_the_law_and_keep_out_what_is_held_out(split):
    films, states, acted = datasets.load("playground", split), *(
        part(1, split) for part in (playground.states, playground.actions))  # fmt: skip
    assert films.images.shape == (len(states), 16, 28, 28, 1) and acted.shape == (len(states), 15)
    flat = playground.step(states[:, :-1].reshape(-1, 5), acted.ravel())
    np.testing.assert_array_equal(flat, states[:, 1:].reshape(-1, 5))
    np.testing.assert_array_equal(playground.film(states), films.images)
    hidden = playground.held_out()[tuple(np.moveaxis(states, -1, 0))]
    assert hidden[:, 0].all() if split == "unseen" else not hidden.any()
    assert 0.18 < playground.held_out().mean() < 0.22
    assert (np.bincount(acted.ravel(), minlength=7) > 0.05 * acted.size).all()
    assert 0.35 < (acted[:, 1:] == acted[:, :-1]).mean() < 0.65  # sticky


def test_a_second_digit_bounces_whatever_is_done_and_specks_are_new_in_each_frame():
    """Catches a second digit that is pushed along, and flicker that repeats: it could be predicted."""
    states = playground.states(2, "test")
    still = np.repeat(states[:, :1], 16, axis=1)
    assert (playground._bouncing(states) == playground._bouncing(still)).all()
    second = playground._bouncing(states)
    assert (np.abs(np.diff(second[..., [ROW, COLUMN]], axis=1)) == 1).all()  # a step along both axes, always
    noisy, clean = (datasets.load(f"playground-{level}", "test").images for level in (3, 2))
    assert noisy.shape == clean.shape
    specks = playground.film(states, 3) != playground.film(states, 2)
    assert 0.01 < specks.mean() < 0.02 and (specks[:, 1:] & specks[:, :-1]).mean() < 0.001


def test_training_reads_frames_and_no_actions():
    """Catches a loader that opens the answers: where they lie, there is nothing readable."""
    films = datasets.load("playground", "train", 10)
    for part in ("actions", "states"):
        file = playground.path(1, "train", part)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not an array")
    np.testing.assert_array_equal(datasets.load("playground", "train").images[:10], films.images)
    with pytest.raises(DataError, match="damaged"):
        playground.actions()
    with pytest.raises(DataError, match="no split 'val'"):
        datasets.load("playground", "val")
