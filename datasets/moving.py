"""Films of digits that move by an exact law, with captions: "a bold seven, moving left, fast, bouncing".

One digit of the pen, small, is drawn once and pasted at whole pixels, so that every frame holds the same ink. Along
each axis the corner of the box around its ink, of h pixels, is at time t at

    bouncing    R - |R - (p + v t) mod 2 R|,   R = 28 - h    a triangle wave: the box goes to and fro between the walls
    wrapping    (p + v t) mod 28                             what leaves on one side comes back on the other

v is 1 pixel a frame ("slowly") or 2 ("fast"), along one axis or both, and p such that no wall is met before frame 3:
the direction that the caption names is the one that is seen.

Film i of (seed, split) is a function of these three numbers alone, and its digit is drawn by the hand of digit i. Some
pairs of digit and direction never appear in "train" and "test"; "unseen" consists of them alone.
"""

import numpy as np

from datasets import digits, pen
from datasets.captions import DIRECTIONS, MOTION, NEVER_MOVES
from datasets.dataset import Dataset
from datasets.errors import DataError
from datasets.glyphs import DIGITS

SPLITS = {"train": 60_000, "test": 10_000, "unseen": 10_000}
FRAMES, SIDE = 12, pen.SIDE
BEFORE_WALL = 3  # frames, at least, from the first to the one that meets a wall
# (down, right) of each direction
WAYS = np.array([[("down" in way) - ("up" in way), ("right" in way) - ("left" in way)] for way in DIRECTIONS])


def load(split: str = "train", limit: int | None = None, seed: int = 0) -> Dataset:
    """The first `limit` films of a split (default: 60,000 of train, 10,000 of the others), to be drawn when indexed."""
    if split not in SPLITS:
        raise DataError(f"the moving digits have no split {split!r}; choose one of {', '.join(SPLITS)}")
    count = SPLITS[split] if limit is None else min(limit, SPLITS[split])
    keys = digits.picture_keys(seed, split, np.arange(count))
    codes = digits.draw_attributes(keys)
    codes[:, pen.SIZE] = 0  # small
    motions, places = np.empty((count, 3), np.int64), np.empty((count, 2))
    pen.draw_motions(keys, codes[:, pen.DIGIT].copy(), _allowed(split == "unseen"), motions, places)
    direction, speed, walls = motions.T
    still = direction == DIRECTIONS.index("still")
    columns = codes[:, pen.DIGIT], codes[:, pen.STROKE], direction, np.where(still, 2, speed), np.where(still, 2, walls)
    return Dataset(
        name="moving",
        images=Films(keys, codes, WAYS[direction] * (1 + speed)[:, None], walls == 0, places),
        labels=codes[:, pen.DIGIT].copy(),
        classes=DIGITS,
        language=MOTION,
        attributes={name: column.copy() for name, column in zip(MOTION.attributes, columns, strict=True)},
    )


class Films:
    """Films as an array (N, 12, 28, 28, 1) uint8 that is drawn where it is indexed: films[3], films[:8], films[[5, 2]].

    keys (N,) uint64, codes (N, 5)    of the pen
    velocity (N, 2)                   pixels a frame, down and right; between whole ones a place is rounded down
    bouncing (N,) bool                the others wrap around
    places (N, 2)                     from 0 to 1: where, of all places where it may, the digit begins
    """

    def __init__(self, keys, codes, velocity, bouncing, places):
        self.keys, self.codes, self.velocity, self.bouncing, self.places = keys, codes, velocity, bouncing, places

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), FRAMES, SIDE, SIDE, 1)

    def __getitem__(self, index) -> np.ndarray:
        if np.ndim(index) == 0 and not isinstance(index, slice):
            return self[[index]][0]
        pictures = digits.draw_images(self.keys[index], self.codes[index])
        corner, room = _boxes(pictures)
        moved = np.floor(self.path(index, room) - corner[:, None]).astype(np.int64)  # (n, T, 2)
        rows, columns = np.moveaxis((np.arange(SIDE) - moved[..., None]) % SIDE, 2, 0)  # (n, T, 28), wrapped around
        return pictures[np.arange(len(pictures))[:, None, None, None], rows[..., None], columns[:, :, None]]

    def path(self, index, room: np.ndarray) -> np.ndarray:
        """The corner of the box in each frame, (n, T, 2), of films in which it has `room` (n, 2) pixels to go."""
        velocity = self.velocity[index]
        ahead = np.ceil(BEFORE_WALL * np.abs(velocity))  # pixels, at least, from the beginning to a wall
        start = np.where(velocity < 0, ahead, 0) + np.floor(self.places[index] * (room - ahead + 1))
        return positions(start, velocity, room, self.bouncing[index])


def positions(start: np.ndarray, velocity: np.ndarray, room: np.ndarray, bouncing: np.ndarray) -> np.ndarray:
    """Where the box's corner is in each frame, (n, T, 2).

    start, velocity, room (n, 2): pixels, pixels a frame, and R, how far the corner can go; bouncing (n,) bool
    """
    straight = start[:, None] + velocity[:, None] * np.arange(FRAMES)[:, None]
    room = room[:, None]
    return np.where(bouncing[:, None, None], room - np.abs(room - straight % (2 * room)), straight % SIDE)


def _boxes(pictures):
    """Of the ink in each picture (n, 28, 28, 1): the box's upper left corner, and how far it can go, both (n, 2)."""
    inked = [pictures.any(axis=(3 - axis, 3)) for axis in (1, 2)]  # by row, by column
    first = np.stack([lines.argmax(axis=1) for lines in inked], axis=1)
    last = np.stack([SIDE - 1 - lines[:, ::-1].argmax(axis=1) for lines in inked], axis=1)
    return first, SIDE - 1 - (last - first)


def _allowed(unseen):
    """Which (digit, direction) a split may show, bool."""
    held = np.array([[NEVER_MOVES[digit] == way for way in DIRECTIONS] for digit in DIGITS])
    return held if unseen else ~held
