"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017); the caption of an image is the name of its class.

The four IDX files of each are looked for in the folder that `INKLING_DATA` names (in mnist/ and fashion-mnist/, or
MNIST/raw/ and FashionMNIST/raw/; gzipped or not, any number of images), then in the cache (~/.cache/inkling). Where
neither has them they are downloaded into the cache.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets import idx
from datasets.captions import Names
from datasets.dataset import Dataset
from datasets.errors import DataError
from disk import cache

SPLITS = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class Source:
    folder: str
    names: tuple[str, ...]  # that a folder of these files may have, in small letters without hyphens
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    sha256: dict[str, str]  # of each gzipped file


SOURCES = {
    name: Source(**{key: tuple(value) if isinstance(value, list) else value for key, value in source.items()})
    for name, source in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")).items()
}


def load(name: str, split: str = "train", limit: int | None = None) -> Dataset:
    """The first `limit` images of a split of "mnist" or "fashion". DataError for files damaged, at odds or missing."""
    if split not in SPLITS:
        raise DataError(f"{name} has no split {split!r}; choose one of {', '.join(SPLITS)}")
    source = SOURCES[name]
    images_path, labels_path = _find(source, SPLITS[split])
    images, labels = idx.read(images_path, 3), idx.read(labels_path, 1)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{images_path} holds images of {images.shape[1]}x{images.shape[2]} pixels; expected 28x28")
    if len(images) != len(labels):
        counts = f"{len(images)} images but {len(labels)} labels"
        raise DataError(f"{images_path} and {labels_path.name} hold {counts}; replace both")
    if labels.max() >= len(source.classes):
        raise DataError(f"{labels_path} holds the label {labels.max()}; expected 0 to {len(source.classes) - 1}")
    return Dataset(
        name=name,
        images=images[:limit, ..., None],
        labels=labels[:limit].astype(np.int64),
        classes=source.classes,
        language=Names(source.classes, source.classes),
    )


def _find(source, prefix):
    """The paths of a split's images and labels, downloaded if they must be."""
    files = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]
    if root := os.environ.get("INKLING_DATA"):
        if not Path(root).is_dir():
            raise DataError(f"INKLING_DATA names {root!r}, which is not a folder; correct it or unset it")
        folders = _folders(Path(root).absolute(), source)
        for folder in folders:
            found = [_file(folder, file) for file in files]
            if all(found):
                return found
            if any(found):  # half a split of one's own and half of a downloaded one would not fit each other
                missing = files[found.index(None)]
                raise DataError(f"{folder} holds no {missing}(.gz), but its counterpart; put it there too")
        if folders or _file(Path(root), files[0]):
            folder = folders[0] if folders else Path(root)
            seen = sorted(entry.name for entry in folder.iterdir())
            raise DataError(
                f"{folder} holds {', '.join(map(repr, seen[:5])) or 'nothing'}{', ...' * (len(seen) > 5)}; expected "
                f"{source.folder}/{files[0]}(.gz) and {files[1]}(.gz) in the folder that INKLING_DATA names"
            )
    from datasets import download  # only now: HTTP takes 15 ms to import

    paths = [cache.root() / source.folder / f"{file}.gz" for file in files]
    for path in paths:
        if not (path.is_file() and download.file_hash(path) == source.sha256[path.name]):
            download.fetch(path, source.sha256[path.name], source.mirrors)
    return paths


def _folders(root, source):
    """Where files of this source may lie: root/mnist, also as root/MNIST/raw, or root itself if it is called so."""
    root = root.parent if root.name == "raw" else root
    named = [place for place in (root, *sorted(root.iterdir())) if place.name.lower().replace("-", "") in source.names]
    return [place for folder in named for place in (folder, folder / "raw") if place.is_dir()]


def _file(folder, name):
    """A file under one of its names (train-images-idx3-ubyte, train-images.idx3-ubyte, gzipped or not), or None."""
    names = [name, f"{name}.gz", name.replace("-idx", ".idx"), name.replace("-idx", ".idx") + ".gz"]
    return next((path for path in map(folder.joinpath, names) if path.is_file()), None)
