"""The playground: films of a walled field in which one digit is pushed about by actions that nobody tells.

The state of the world is (hand, digit, stroke, row, column).  An action changes it by a law without exceptions:

    stay                     nothing
    left right up down       two pixels, but not into a wall: there the effect is that of stay
    next                     the digit after this one, zero after nine
    pen                      thin becomes bold, bold thin

Eight hands write ten digits in two strokes, so there are 160 sprites, each with 36 places.  What is seen follows from
the frame before and the action alone.  Two more levels are harder:

    level 2    a second digit, by another hand, bounces between the walls by its own law, whatever the action
    level 3    and specks flicker, which nothing predicts

Who acts now and then repeats the last action and else draws one of the seven, and does not look at the place.  A
fifth of all (sprite, place) is kept out of the films of "train" and "test": where an action would lead there, it is
drawn again.  The films of "unseen" begin in such a state and then go anywhere.

Frames and actions lie in separate files in the cache, drawn at their first use.  `load` reads the frames; the actions
are for judges alone (`actions`), since a model of the world is to find out by itself what an action is.
"""

import io

import numpy as np

from datasets import digits
from datasets.captions import HANDWRITING, Names
from datasets.dataset import Dataset
from datasets.errors import DataError
from datasets.glyphs import DIGITS, VARIANTS, VARIANTS_OF
from disk import cache, files

ACTIONS = ("stay", "left", "right", "up", "down", "next", "pen")
MOVES = np.array([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (0, 0), (0, 0)])  # rows and columns of places
HAND, DIGIT, STROKE, ROW, COLUMN = range(5)  # columns of an array of states
SIDE, BOX, STRIDE = 28, 16, 2  # pixels: of the field, of a sprite, from one place to the next
PLACES = (SIDE - 2 - BOX) // STRIDE + 1  # along one axis
HANDS, LEVELS = 8, (1, 2, 3)
WALL = 96  # the gray level of the border, one pixel wide
FRAMES = 16
STICKY = 0.4  # how often the last action is repeated
SPECKS = 0.02  # of the pixels, in each frame of level 3
SPLITS = {"train": 6000, "test": 500, "unseen": 500}  # films
VERSION = 1  # of what is drawn: another number, and the cache is drawn anew


def load(level: int = 1, split: str = "train", limit: int | None = None) -> Dataset:
    """The first `limit` films of a split, images uint8 (N, 16, 28, 28, 1), without captions and without actions.

    DataError for a split that is none of SPLITS; OSError where the cache cannot be written.
    """
    films = _kept(level, split, "frames", limit)
    labels, language = np.zeros(len(films), np.int64), Names(("",), ())
    return Dataset(name(level), films, labels, ("",), language)


def name(level: int) -> str:
    """What the data set of a level is called."""
    return "playground" if level == 1 else f"playground-{level}"


def actions(level: int = 1, split: str = "train", limit: int | None = None) -> np.ndarray:
    """The hidden actions of the same films, int64 (N, 15): entry t leads from frame t to t + 1.  For judges alone."""
    return _kept(level, split, "actions", limit)


def states(level: int = 1, split: str = "train", limit: int | None = None) -> np.ndarray:
    """The hidden states of the same films, int64 (N, 16, 5).  For judges alone."""
    return _kept(level, split, "states", limit)


def path(level: int, split: str, part: str):
    """Where a part ("frames", "actions" or "states") of a split is kept."""
    return cache.root() / "playground" / f"{level}-{split}-{part}-{VERSION}.npy"


def _kept(level, split, part, limit):
    if split not in SPLITS:
        raise DataError(f"the playground has no split {split!r}; choose one of {', '.join(SPLITS)}")
    file = path(level, split, part)
    if not file.exists():
        walk, acted = wander(SPLITS[split], np.random.default_rng((level, list(SPLITS).index(split))), split)
        drawn = {"frames": film(walk, level), "actions": acted, "states": walk}
        content = io.BytesIO()
        np.save(content, drawn[part])
        files.write(file, content.getvalue())
    try:
        return np.array(np.load(file, mmap_mode="r")[:limit])  # of a large file, what is wanted
    except (ValueError, EOFError) as error:
        raise DataError(f"{file} is damaged ({error}); remove it, and it is drawn again") from error


def held_out() -> np.ndarray:
    """Which states training never shows: bool (hands, digits, strokes, rows, columns), a fifth of them true."""
    return np.random.default_rng(28).random((HANDS, len(DIGITS), 2, PLACES, PLACES)) < 0.2


def step(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The law: states (N, 5) after actions (N,), indices into ACTIONS."""
    after = state.copy()
    after[:, [ROW, COLUMN]] = np.clip(state[:, [ROW, COLUMN]] + MOVES[action], 0, PLACES - 1)
    after[:, DIGIT] = (state[:, DIGIT] + (action == ACTIONS.index("next"))) % len(DIGITS)
    after[:, STROKE] ^= action == ACTIONS.index("pen")
    return after


def effects(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Actions (N,) by what they do in states (N, 5): an action that changes nothing is stay."""
    return np.where((step(state, action) == state).all(axis=1), 0, action)


def wander(count: int, rng: np.random.Generator, split: str = "unseen") -> tuple[np.ndarray, np.ndarray]:
    """Walks of FRAMES states, int64 (count, FRAMES, 5), and the actions on the way, int64 (count, FRAMES - 1)."""
    hidden, unseen = held_out(), split == "unseen"
    begin = np.argwhere(hidden == unseen)
    walk, acted = [begin[rng.integers(0, len(begin), count)]], []
    last = rng.integers(0, len(ACTIONS), count)
    for _ in range(FRAMES - 1):
        chosen = np.zeros(count, np.int64)  # stay, where no draw is allowed
        open_ = np.ones(count, bool)
        for _ in range(1 if unseen else 8):
            drawn = np.where(rng.random(count) < STICKY, last, rng.integers(0, len(ACTIONS), count))
            allowed = unseen | ~hidden[tuple(step(walk[-1], drawn).T)]
            chosen = np.where(open_ & allowed, drawn, chosen)
            open_ &= ~allowed
        last = chosen
        acted.append(chosen)
        walk.append(step(walk[-1], chosen))
    return np.stack(walk, axis=1), np.stack(acted, axis=1)


def sprites() -> np.ndarray:
    """Every digit of every hand, thin and bold: uint8 (hands, 10, 2, BOX, BOX)."""
    keys = digits.picture_keys(0, "train", np.arange(HANDS))
    drawn = np.zeros((HANDS, len(DIGITS), 2, BOX, BOX), np.uint8)
    strokes = list(HANDWRITING.attributes["stroke"])
    for place in np.ndindex(drawn.shape[:3]):
        hand, digit, stroke = place
        own = VARIANTS_OF[DIGITS[digit]]
        variant = VARIANTS.index(own[hand % len(own)])
        code = np.array([[digit, variant, strokes.index(("thin", "bold")[stroke]), hand % 3, 0]])  # 0: small
        picture = digits.draw_images(keys[hand : hand + 1], code)[0, :, :, 0]
        rows, columns = (np.flatnonzero(picture.any(axis=axis)) for axis in (1, 0))
        top, left = (max(0, (ends[0] + ends[-1] + 1 - BOX) // 2) for ends in (rows, columns))
        cut = picture[top : top + BOX, left : left + BOX]
        drawn[place][: len(cut), : cut.shape[1]] = cut
    return drawn


def film(walk: np.ndarray, level: int = 1) -> np.ndarray:
    """What is seen of walks (N, T, 5): uint8 (N, T, 28, 28, 1).  Frame t of a film depends on its walk alone; its
    specks, at level 3, on its number, in every split the same."""
    count, length = walk.shape[:2]
    frames = _paint(walk.reshape(-1, 5), sprites()).reshape(count, length, SIDE, SIDE)
    if level >= 2:
        frames = np.maximum(frames, _paint(_bouncing(walk).reshape(-1, 5), sprites()).reshape(frames.shape))
    if level >= 3:
        rng = np.random.default_rng(3)
        specks = np.stack([rng.random(frames.shape[1:]) < SPECKS for _ in range(count)]) if count else frames > 0
        frames = np.where(specks, 255, frames).astype(np.uint8)
    return frames[..., None]


def _bouncing(walk):
    """The states of the second digit: the hand after, five digits on, thin; a triangle wave along both axes."""
    count, length = walk.shape[:2]
    begin, last = walk[:, :1], PLACES - 1
    time = np.arange(length)
    other = np.empty_like(walk)
    other[..., HAND] = (begin[..., HAND] + 1) % HANDS
    other[..., DIGIT] = (begin[..., DIGIT] + 5) % len(DIGITS)
    other[..., STROKE] = 0
    for axis, start in ((ROW, begin[..., COLUMN]), (COLUMN, begin[..., ROW] + begin[..., DIGIT])):
        other[..., axis] = last - np.abs((start + time) % (2 * last) - last)
    return other


def _paint(state, drawn):
    """Frames (N, 28, 28) of states (N, 5)."""
    frames = np.full((len(state), SIDE, SIDE), WALL, np.uint8)
    frames[:, 1:-1, 1:-1] = 0
    pictures = drawn[tuple(state[:, :3].T)]
    for row, column in np.ndindex(PLACES, PLACES):
        here = (state[:, ROW] == row) & (state[:, COLUMN] == column)
        y, x = 1 + STRIDE * row, 1 + STRIDE * column
        frames[here, y : y + BOX, x : x + BOX] = pictures[here]
    return frames
