"""A folder of your own pictures, of any size and mode, fitted to 28x28 grey; the caption is the subfolder's name.

    pictures/cat/1.png pictures/cat/2.jpg pictures/red_panda/a.webp     captions "cat", "red panda"
    pictures/1.png pictures/2.png                                       one class without a name: empty captions
    pictures/train/... pictures/test/...                                splits of your own

Without splits of your own, every tenth picture of a class is for testing. Light is ink: a drawing on white paper wants
to be inverted first.
"""

import sys
import warnings
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from datasets.captions import words
from datasets.dataset import Dataset
from datasets.errors import DataError

SIDE = 28
FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF",
    ".tiff": "TIFF", ".pbm": "PPM", ".pgm": "PPM", ".ppm": "PPM",
}  # fmt: skip
PIXELS = 25_000_000  # a picture of more is refused before it is decoded: perhaps a decompression bomb


def load(path: str | Path, split: str = "train", limit: int | None = None) -> Dataset:
    """The first `limit` readable pictures of a split, taken from its classes in turn.

    Pictures that cannot be read are named on stderr and skipped; DataError if none is left.
    """
    root = Path(path)
    if split not in ("train", "test"):
        raise DataError(f"a folder of pictures has no split {split!r}; choose train or test")
    own_splits = (root / "train").is_dir() and (root / "test").is_dir()
    if own_splits:  # a class may have pictures in one of them alone; both number their classes alike
        parts = {part: _classes(root / part) for part in ("train", "test")}
        classes = {name: parts[split].get(name, []) for name in sorted(parts["train"].keys() | parts["test"].keys())}
    else:
        classes = {
            name: [file for place, file in enumerate(files) if (place % 10 == 9) == (split == "test")]
            for name, files in _classes(root).items()
        }
    images, labels, skipped = _read([*classes.values()], limit)
    if skipped:
        names = ", ".join(repr(str(file.relative_to(root))) for file in skipped[:5]) + ", ..." * (len(skipped) > 5)
        told = "1 picture that cannot be read" if len(skipped) == 1 else f"{len(skipped)} pictures that cannot be read"
        print(f"{root}: skipped {told}: {names}", file=sys.stderr)
    if not images:
        hint = "; the test split is every tenth picture of a class" if split == "test" and not own_splits else ""
        raise DataError(f"the folder {str(root)!r} has no readable picture for the split {split!r}{hint}")
    return Dataset(
        name=str(root),
        images=np.stack(images)[..., None],
        labels=np.array(labels, np.int64),
        classes=tuple(classes),
        vocabulary=tuple(sorted({word for name in classes for word in words(name)})),
    )


def _classes(folder):
    """Caption -> its picture files, by name."""
    inside = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    loose = [entry for entry in inside if _is_picture(entry)]
    subfolders = {entry: sorted(filter(_is_picture, entry.iterdir())) for entry in inside if entry.is_dir()}
    subfolders = {entry: files for entry, files in subfolders.items() if files}
    if loose and subfolders:
        raise DataError(f"the folder {str(folder)!r} mixes pictures and folders of pictures; use one or the other")
    if not loose and not subfolders:
        raise DataError(f"the folder {str(folder)!r} holds no pictures ({', '.join(FORMATS)}), nor do its subfolders")
    if loose:
        return {"": loose}
    classes = {}
    for entry, files in subfolders.items():
        caption = " ".join(words(entry.name.replace("_", " ")))
        if not caption or caption in classes:
            problem = "is the caption of two folders" if caption else f"is no caption for the folder {entry.name!r}"
            raise DataError(f"in the folder {str(folder)!r}, {caption!r} {problem}; rename one")
        classes[caption] = files
    return classes


def _is_picture(path):
    return path.suffix.lower() in FORMATS and path.is_file() and not path.name.startswith(".")


def _read(classes, limit):
    """Images, labels and unreadable files; the classes take turns, so that a limit cuts all of them alike."""
    turns = [(file, label) for row in zip_longest(*classes) for label, file in enumerate(row) if file]
    images, labels, skipped = [], [], []
    for file, label in tqdm(turns, desc="pictures", disable=None, leave=False):
        try:
            images.append(_picture(file))
            labels.append(label)
        except Exception:  # a decoder may raise anything at a damaged file, and the answer is always the same
            skipped.append(file)
        if len(images) == limit:
            break
    return images, labels, skipped


def _picture(path):
    """One picture as uint8 (28, 28): turned as its EXIF says, transparent parts black, letter-boxed in black."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with a picture is told in one sentence, by our caller
        with Image.open(path, formats=[FORMATS[path.suffix.lower()], *set(FORMATS.values())]) as image:
            image.draft("L", (2 * SIDE, 2 * SIDE))  # lets a JPEG decode at a fraction of its size
            if image.width * image.height > PIXELS:
                raise ValueError("too many pixels")
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(ImageOps.pad(_grey(image), (SIDE, SIDE), Image.Resampling.BOX))


def _grey(image):
    if image.mode[0] in "IF":  # whole numbers of 16 bits, or fractions
        top = 1.0 if image.mode == "F" else 65535.0
        image = image.convert("F")
        image.thumbnail((4 * SIDE, 4 * SIDE), Image.Resampling.BOX)
        values = np.nan_to_num(np.asarray(image))
        return Image.fromarray(np.uint8(np.clip(values / max(top, values.max()), 0, 1) * 255 + 0.5))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image.thumbnail((4 * SIDE, 4 * SIDE), Image.Resampling.BOX)
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("L")
    return image.convert("L")
