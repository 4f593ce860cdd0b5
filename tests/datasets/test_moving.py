"""Films of moving digits: lawful to the pixel, pure functions of their number, and as their captions say."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasets
from datasets import moving
from datasets.captions import DIRECTIONS, MOTION, NEVER_MOVES, CaptionError
from datasets.moving import BEFORE_WALL, FRAMES, SIDE, positions


@pytest.fixture(scope="module")
def films():
    return datasets.load("moving", limit=3000)


def simulated(start, velocity, room, bouncing):
    """One axis, one frame after another: a step, and at a wall the rest of the step back."""
    place, path = start, []
    for _ in range(FRAMES):
        path.append(place)
        place += velocity
        if not bouncing:
            place %= SIDE
        elif not 0 <= place <= room:
            place, velocity = (-place if place < 0 else 2 * room - place), -velocity
    return path


def path_of(start, velocity, room, bouncing):
    along_both = [np.full((1, 2), number) for number in (start, velocity, room)]
    return positions(*along_both, np.array([bouncing]))[0, :, 0]


LAWS = st.integers(5, 24).flatmap(
    lambda room: st.tuples(st.integers(0, room), st.integers(-2, 2), st.just(room), st.booleans())
)


@given(LAWS)
def test_the_law_in_closed_form_is_the_one_step_by_step(law):
    """Catches a wall that is one pixel off, one that is passed, and a wrap by the room rather than by the frame."""
    np.testing.assert_array_equal(path_of(*law), simulated(*law))


@given(LAWS)
def test_backwards_it_goes_the_other_way_and_is_lawful_too(law):
    start, velocity, room, bouncing = law
    path, after = path_of(*law), simulated(start, velocity, room, bouncing)
    step = path[-1] - path[-2]
    if bouncing and abs(step) < abs(velocity):  # a wall within the last step: the way back begins with another one
        return
    step = step if bouncing else velocity
    np.testing.assert_array_equal(path_of(after[-1], -step, room, bouncing), path[::-1])


def test_a_film_is_as_its_caption_says(films):
    """The box around the ink, found here in the pixels, moves as the words say until the first wall may come; the ink
    of all frames is the same. Catches rows and columns exchanged, a wall too early, and words of another film."""
    step = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
    seen = set()
    for number in range(400):
        said, film = films.describe(number), films.images[number][..., 0]
        ways = [step[word] for word in said["direction"].split() if word in step]
        expected = np.sum(ways or [(0, 0)], axis=0) * (2 if said["speed"] == "fast" else 1)
        corners = [[ink.any(1).argmax(), ink.any(0).argmax()] for ink in film[: BEFORE_WALL + 1]]
        np.testing.assert_array_equal(np.diff(corners, axis=0), np.tile(expected, (BEFORE_WALL, 1)))
        assert len({frame.sum(dtype=int) for frame in film}) == 1
        broken = any(frame[:, 0].any() and frame[:, -1].any() or frame[0].any() and frame[-1].any() for frame in film)
        assert said["walls"] == "wrapping" or not broken
        seen.add((said["direction"], said["speed"], said["walls"]))
    assert len(seen) == 8 * 2 * 2 + 1


def test_a_film_does_not_depend_on_what_else_is_drawn(films):
    few = datasets.load("moving", limit=40)
    np.testing.assert_array_equal(few.images[:], films.images[:40])
    np.testing.assert_array_equal(films.images[[7, 3]], np.stack([films.images[7], films.images[3]]))
    assert few.captions(range(40)) == films.captions(range(40))
    sets = [moving.load(split, 100, seed).images[:] for split in moving.SPLITS for seed in (0, 1)]
    assert len({film.tobytes() for part in sets for film in part}) == 100 * len(sets)
    assert few.images[:].shape == few.images.shape == (len(few.images), 12, 28, 28, 1)


def test_some_pairs_are_kept_out_of_training(films):
    def pairs_of(films):
        return {(films.describe(i)["digit"], films.describe(i)["direction"]) for i in range(len(films))}

    pairs = pairs_of(films)
    assert pairs.isdisjoint(NEVER_MOVES.items()) and len(pairs) == 10 * 9 - 10
    assert {way for _, way in NEVER_MOVES.items()} == set(DIRECTIONS[:-1])  # every direction is seen, and tested
    unseen = datasets.load("moving", "unseen", 300)
    assert pairs_of(unseen) == set(NEVER_MOVES.items())
    assert all(MOTION.held_out(unseen.describe(i)) for i in range(300))


def test_captions_are_true_and_what_stands_still_has_no_speed(films):
    rng, indices = np.random.default_rng(0), np.arange(2000)
    true = films.captions(indices, rng)
    false = films.contradicting(indices, true, rng)
    for index, said, lie in zip(indices, true, false, strict=True):
        attributes = films.describe(index)
        assert not MOTION.contradicts(said, attributes) and MOTION.contradicts(lie, attributes)
        assert MOTION.parse(films.captions([index])[0]) == {name: word for name, word in attributes.items() if word}
    assert {word for text in true for word in text.replace(",", "").split()} == set(films.vocabulary)
    assert "a bold seven, moving up, slowly, wrapping" in films.captions([0])
    assert MOTION.change("a bold two, moving up, fast", "still") == "a bold two, still"
    assert not any(text.startswith("a slowly") for text in true)
    with pytest.raises(CaptionError, match="'still' is never 'fast'.*nothing of the kind"):
        MOTION.check("a still two, fast")


def test_the_captions_language_is_found_by_its_name(films):
    assert datasets.captions.language("moving", films.vocabulary) is MOTION


def test_films_are_drawn_fast(films):
    """20,000 in 10 seconds, by the fastest of some hundreds, since others may use the machine, too."""
    films.images[:10]
    seconds = []
    for start in range(0, 1000, 200):
        begin = time.process_time()
        films.images[start : start + 200]
        seconds.append(time.process_time() - begin)
    assert min(seconds) * 100 < 10


def test_an_unknown_split_is_refused():
    with pytest.raises(datasets.DataError, match="train, test, unseen"):
        datasets.load("moving", "validation")
