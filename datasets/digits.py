"""The built-in data set: procedural handwriting with captions, drawn on the spot.

A picture is a pure function of (seed, split, index) and of the code: picture 7 is the same in a set of ten and in a set
of sixty thousand. Some combinations of digit, stroke and slant never appear in "train" and "test"; the split "unseen"
consists of them alone, so that a model can be asked for what it never saw.
"""

import numpy as np

from datasets import pen
from datasets.captions import HANDWRITING, HELD_OUT
from datasets.dataset import Dataset
from datasets.errors import DataError
from datasets.glyphs import DIGITS, tabulate

SPLITS = {"train": 60_000, "test": 10_000, "unseen": 10_000}


def load(split: str = "train", limit: int | None = None, seed: int = 0) -> Dataset:
    """The first `limit` digits of a split (default: 60,000 of train, 10,000 of test and unseen), drawn now."""
    if split not in SPLITS:
        raise DataError(f"the digits have no split {split!r}; choose one of {', '.join(SPLITS)}")
    count = SPLITS[split] if limit is None else min(limit, SPLITS[split])
    keys = picture_keys(seed, split, np.arange(count))
    codes = draw_attributes(keys, unseen=split == "unseen")
    return Dataset(
        name="digits",
        images=draw_images(keys, codes),
        labels=codes[:, pen.DIGIT].copy(),
        classes=DIGITS,
        language=HANDWRITING,
        attributes={name: codes[:, column].copy() for column, name in enumerate(HANDWRITING.attributes)},
    )


def picture_keys(seed: int, split: str, indices: np.ndarray) -> np.ndarray:
    """The random key of each picture, uint64 (n,), from which everything about it follows."""
    stream = np.uint64((seed * len(SPLITS) + list(SPLITS).index(split)) % 2**64)
    keys = np.empty(len(indices), np.uint64)
    pen.draw_keys(stream, np.asarray(indices, np.uint64), keys)
    return keys


def draw_attributes(keys: np.ndarray, unseen: bool = False) -> np.ndarray:
    """Attributes of pictures, int64 (n, 5), in the order of HANDWRITING; unseen: only held-out combinations."""
    codes = np.empty((len(keys), len(HANDWRITING.attributes)), np.int64)
    pen.draw_attributes(keys, tabulate().count, _allowed(unseen), codes)
    return codes


def draw_images(keys: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Pictures uint8 (n, 28, 28, 1). The same key under other attributes is the same hand writing something else."""
    images = np.zeros((len(keys), pen.SIDE, pen.SIDE), np.uint8)
    pen.draw(keys, codes, tabulate(), images)
    return images[..., None]


def _allowed(unseen):
    """Which (digit, stroke, slant) a split may show, bool."""
    strokes, slants = HANDWRITING.attributes["stroke"], HANDWRITING.attributes["slant"]
    held = np.zeros((len(DIGITS), len(strokes), len(slants)), bool)
    for digit, (stroke, slant) in HELD_OUT.items():
        held[DIGITS.index(digit), strokes.index(stroke), slants.index(slant)] = True
    return held if unseen else ~held
