"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017); the caption of an image is the name of its class."""

import os
from pathlib import Path

import numpy as np

from datasets import idx
from datasets.dataset import Dataset
from datasets.errors import DataError

CLASSES = {
    "mnist": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "fashion": (
        "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
    ),
}  # fmt: skip
FOLDERS = {"mnist": "mnist", "fashion": "fashion-mnist"}
PREFIXES = {"train": "train", "test": "t10k"}


def load(name: str, split: str = "train", limit: int | None = None) -> Dataset:
    """"mnist" or "fashion", its first `limit` images; files that you provide may hold any number."""
    if split not in PREFIXES:
        raise DataError(f"{name} has no split {split!r}; choose one of {', '.join(PREFIXES)}")
    images_path = _find(name, f"{PREFIXES[split]}-images-idx3-ubyte")
    labels_path = _find(name, f"{PREFIXES[split]}-labels-idx1-ubyte")
    images, labels = idx.read(images_path, 3), idx.read(labels_path, 1)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{images_path} holds images of {images.shape[1]}x{images.shape[2]} pixels; expected 28x28")
    if len(images) != len(labels):
        counts = f"{len(images)} images but {len(labels)} labels"
        raise DataError(f"{images_path} and {labels_path.name} hold {counts}; fetch both again")
    if labels.max() > 9:
        raise DataError(f"{labels_path} holds the label {labels.max()}; expected 0 to 9")
    return Dataset(
        name=name,
        images=images[:limit, ..., None],
        labels=labels[:limit].astype(np.int64),
        classes=CLASSES[name],
        vocabulary=CLASSES[name],
    )


def _find(name, file):
    """The path of an IDX file, gzipped or not, in INKLING_DATA."""
    root = os.environ.get("INKLING_DATA")
    if root:
        for candidate in (Path(root, FOLDERS[name], file + suffix) for suffix in ("", ".gz")):
            if candidate.is_file():
                return candidate
    wanted = f"{FOLDERS[name]}/{file}(.gz)"
    raise DataError(f"{wanted} is not in INKLING_DATA ({root or 'not set'}); set it to the folder that holds it")
