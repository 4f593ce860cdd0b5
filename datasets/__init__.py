"""Images with captions: built-in handwriting, MNIST, Fashion-MNIST, or a folder of your own; and films of digits.

    dataset = datasets.load("digits")
    dataset.captions([0, 1])        # ['a thin four ...', ...]
"""

from functools import partial
from pathlib import Path

from datasets import captions, digits, folder, mnist, moving, playground
from datasets.batches import Batch, Batches
from datasets.dataset import Dataset
from datasets.errors import CaptionError, DataError

__all__ = ["NAMED", "Batch", "Batches", "CaptionError", "DataError", "Dataset", "captions", "load"]

# Data sets that have a name: name -> load(split, limit). Every list of them is made from this one.
NAMED = {
    "digits": digits.load,
    "moving": moving.load,
    **{name: partial(mnist.load, name) for name in mnist.SOURCES},
    **{playground.name(level): partial(playground.load, level) for level in playground.LEVELS},
}


def load(name: str | Path, split: str = "train", limit: int | None = None, **options) -> Dataset:
    """A data set by its name in `NAMED`, or a folder of pictures; of a split at most the first `limit` ones.

    Splits are "train" and "test"; digits, moving digits and playgrounds have "unseen", too. `options` are those of a
    folder: size, color, mirror, paper (`folder.Options`); with mirror there are two images of each training picture.
    DataError if there is no such data set or it is broken.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit is {limit}; it must be at least 1")
    if name in NAMED:
        if options:
            raise DataError(f"{', '.join(options)} can be chosen for a folder of pictures, not for {name}")
        return NAMED[name](split, limit)
    if str(name) and Path(name).is_dir():
        return folder.load(name, split, limit, folder.Options(**options))
    raise DataError(
        f"no data set {str(name)!r}; choose {', '.join(NAMED)}, or name a folder of pictures "
        f"(there is none at {Path(name).absolute()})"
    )
