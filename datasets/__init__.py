"""Images with captions: built-in handwriting, MNIST, Fashion-MNIST, or a folder of your own.

    dataset = datasets.load("digits")
    dataset.captions([0, 1])        # ['a thin four ...', ...]
"""

from pathlib import Path

from datasets import captions, digits, folder, mnist
from datasets.batches import Batch, Batches
from datasets.dataset import Dataset
from datasets.errors import CaptionError, DataError

__all__ = ["Batch", "Batches", "CaptionError", "DataError", "Dataset", "captions", "load"]


def load(name: str | Path, split: str = "train", limit: int | None = None, **options) -> Dataset:
    """The data set "digits", "mnist" or "fashion", or a folder of images; at most `limit` images of a split.

    Splits are "train" and "test"; digits also have "unseen". `options` are those of a folder: size, color, mirror,
    paper (`folder.Options`). DataError if there is no such data set or it is broken.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit is {limit}; it must be at least 1")
    if options and (name == "digits" or name in mnist.SOURCES):
        raise DataError(f"{', '.join(options)} can be chosen for a folder of pictures, not for {name}")
    if name == "digits":
        return digits.load(split, limit)
    if name in mnist.SOURCES:
        return mnist.load(name, split, limit)
    if str(name) and Path(name).is_dir():
        return folder.load(name, split, limit, folder.Options(**options))
    raise DataError(f"no data set {str(name)!r}; choose digits, mnist or fashion, or name a folder of pictures")
