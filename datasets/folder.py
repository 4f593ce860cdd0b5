"""A folder of your own pictures, of any size and mode; the caption is the name of the subfolder.

    pictures/cat/1.png pictures/cat/2.jpg pictures/red_panda/a.webp     captions "cat", "red panda"
    pictures/1.png pictures/2.png                                       one class without a name: empty captions
    pictures/train/... pictures/val/...                                 splits of your own, each like one of the above

Without splits of your own, every tenth picture of a class is for testing. Pictures are fitted to 28x28 gray, unless
`Options` say otherwise. What was found, and what was left out, is said on stderr when the training split is loaded.
"""

import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from datasets.captions import Names, words
from datasets.dataset import Dataset
from datasets.errors import DataError

FORMATS = {
    ".png": "PNG", ".apng": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".gif": "GIF",
    ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".pbm": "PPM", ".pgm": "PPM", ".ppm": "PPM",
    ".pnm": "PPM",
}  # fmt: skip
PIXELS = 25_000_000  # a picture that decodes to more is refused by its header: perhaps a decompression bomb
MEMORISED = 300  # training pictures, or fewer, may be
TRAINING = ("train", "training")  # names of folders, for splits of one's own
TESTING = ("test", "testing", "val", "valid", "validation")


@dataclass(frozen=True)
class Options:
    """How the pictures of a folder are read.  DataError for what cannot be.

    size    side of the square that a picture is fitted into, pixels; every family wants a multiple of 4
    color   three channels, red, green and blue, rather than one
    mirror  beside each training picture stands its mirror image
    paper   what lies behind transparent parts and around pictures that are not square: "black" or "white"
    """

    size: int = 28
    color: bool = False
    mirror: bool = False
    paper: str = "black"

    def __post_init__(self):
        if type(self.size) is not int or self.size % 4 or not 8 <= self.size <= 256:
            raise DataError(f"the size of pictures must be a multiple of 4 from 8 to 256; given {self.size!r}")
        for name, allowed in (("color", (False, True)), ("mirror", (False, True)), ("paper", ("black", "white"))):
            if getattr(self, name) not in allowed:
                raise DataError(f"{name} is {' or '.join(map(repr, allowed))}; given {getattr(self, name)!r}")


def load(path: str | Path, split: str = "train", limit: int | None = None, options: Options | None = None) -> Dataset:
    """The first `limit` readable pictures of a split, taken from its classes in turn; with mirror images twice as many.

    Pictures that cannot be read are named on stderr and skipped; DataError if none is left.
    """
    root, options = Path(path), options or Options()
    if split not in ("train", "test"):
        raise DataError(f"a folder of pictures has no split {split!r}; choose train or test")
    splits, left, own = _splits(root)
    pictures, labels, skipped = _read([*splits[split].values()], limit, options)
    if skipped:
        _tell(root, f"skipped {_count(skipped, 'picture')} that cannot be read, or hold more than {PIXELS:,} pixels: "
                    f"{_names(root, skipped)}")  # fmt: skip
    if not pictures:
        hint = "; the test split is every tenth picture of a class" if split == "test" and not own else ""
        raise DataError(f"the folder {str(root)!r} has no readable picture for the split {split!r}{hint}")
    images = np.stack(pictures)
    classes = tuple(splits[split])
    if split == "train":
        counts = np.bincount(labels, minlength=len(classes))
        testing = sum(map(len, splits["test"].values()))
        _tell(root, _found(dict(zip(classes, counts.tolist(), strict=True)), testing, options))
        if left:
            _tell(root, f"left out {_left_out(root, left)}")
        for warning in _warnings(images, options):
            _tell(root, warning)
        if options.mirror:  # side by side, so that whoever takes a part of the set takes both
            images = np.stack([images, images[:, :, ::-1]], axis=1).reshape(-1, *images.shape[1:])
            labels = np.repeat(labels, 2)
    return Dataset(
        name=str(root),
        images=images,
        labels=np.array(labels, np.int64),
        classes=classes,
        language=Names(classes, sorted({word for name in classes for word in words(name)})),
    )


def _splits(root):
    """split -> caption -> picture files; the paths that are left out; whether the splits are the user's own."""
    inside = {entry.name.lower(): entry for entry in _visible(root) if entry.is_dir()}
    parts = [next((inside[name] for name in names if name in inside), None) for names in (TRAINING, TESTING)]
    left: list[Path] = []
    if not all(parts):
        if [parts[0]] == list(inside.values()):  # a data set that came without its test split
            left += [entry for entry in _visible(root) if entry != parts[0]]
            root = parts[0]
        elif [parts[1]] == list(inside.values()) and not _pictures(root, [])[0]:
            raise DataError(f"the folder {str(root)!r} has pictures for testing alone, in {parts[1].name!r}; "
                            "put those for training beside it, in 'train', or name that folder itself")  # fmt: skip
        classes = _classes(root, left)
        test = {name: files[9::10] for name, files in classes.items()}
        train = {name: [file for place, file in enumerate(files) if place % 10 != 9] for name, files in classes.items()}
        return {"train": train, "test": test}, left, False
    left += [entry for entry in _visible(root) if entry not in parts]
    train, test = (_classes(part, left) for part in parts)
    if ("" in train) != ("" in test):
        both = f"of {str(parts[0])!r} and {str(parts[1])!r}"
        raise DataError(f"{both} one holds pictures and the other folders of pictures; use one or the other in both")
    names = sorted(train.keys() | test.keys())  # a class may be in one of them alone; both number their classes alike
    train, test = ({name: part.get(name, []) for name in names} for part in (train, test))
    return {"train": train, "test": test}, left, True


def _classes(folder, left):
    """Caption -> its picture files, by name; adds to `left` the paths that are not taken."""
    mine: list[Path] = []
    loose, subfolders = _pictures(folder, mine)
    classes = {}
    for entry in subfolders:
        files, nested = _pictures(entry, mine)
        mine += nested if files or nested else [entry]
        if not files:
            continue
        caption = " ".join(words(entry.name.replace("_", " ")))
        if not caption or caption in classes:
            problem = "is the caption of two folders" if caption else f"is no caption for the folder {entry.name!r}"
            raise DataError(f"in the folder {str(folder)!r}, {caption!r} {problem}; rename one")
        classes[caption] = files
    if loose and classes:
        raise DataError(f"the folder {str(folder)!r} mixes pictures and folders of pictures; use one or the other")
    if not loose and not classes:
        hint = f"; it holds {_left_out(folder, mine)}" if mine else ""
        none = f"the folder {str(folder)!r} holds no pictures ({', '.join(FORMATS)}), nor do its subfolders"
        raise DataError(none + hint)
    left += mine
    return {"": loose} if loose else classes


def _pictures(folder, left):
    """The picture files in a folder, and its subfolders; adds to `left` what is neither."""
    files, subfolders = [], []
    for entry in _visible(folder):
        picture = entry.suffix.lower() in FORMATS and entry.is_file()
        (subfolders if entry.is_dir() else files if picture else left).append(entry)
    return files, subfolders


def _visible(folder):
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _read(classes, limit, options):
    """Images, labels and unreadable files; the classes take turns, so that a limit cuts all of them alike."""
    turns = [(file, label) for row in zip_longest(*classes) for label, file in enumerate(row) if file]
    images, labels, skipped = [], [], []
    for file, label in tqdm(turns, desc="pictures", disable=None, leave=False):
        try:
            images.append(_picture(file, options))
            labels.append(label)
        except Exception:  # a decoder may raise anything at a damaged file, and the answer is always the same
            skipped.append(file)
        if len(images) == limit:
            break
    return images, labels, skipped


def _picture(path, options):
    """One picture as uint8 (size, size, channels), turned as its EXIF says, with paper around it."""
    side = options.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with a picture is told in one sentence, by our caller
        with Image.open(path, formats=[FORMATS[path.suffix.lower()], *set(FORMATS.values())]) as image:
            whole = image.size
            image.draft("RGB" if options.color else "L", (2 * side, 2 * side))  # a JPEG decodes at a fraction of its
            width, height = whole if image.info.get("progressive") else image.size  # size, if not a progressive one
            if width * height > PIXELS:
                raise ValueError("too many pixels")
            ImageOps.exif_transpose(image, in_place=True)
            fitted = ImageOps.pad(_opaque(image, options), (side, side), Image.Resampling.BOX, options.paper)
            return np.asarray(fitted).reshape(side, side, -1)


def _opaque(image, options):
    """The picture in gray or colour, transparent parts on paper; large ones of rare modes made smaller first."""
    mode, enough = "RGB" if options.color else "L", (4 * options.size, 4 * options.size)
    if image.mode[0] in "IF":  # whole numbers of 16 bits, or fractions
        top = 1.0 if image.mode == "F" else 65535.0
        image = image.convert("F")
        image.thumbnail(enough, Image.Resampling.BOX)
        values = np.nan_to_num(np.asarray(image))
        image = Image.fromarray(np.uint8(np.clip(values / max(top, values.max()), 0, 1) * 255 + 0.5))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image.thumbnail(enough, Image.Resampling.BOX)
        image = Image.alpha_composite(Image.new("RGBA", image.size, options.paper), image)
    return image.convert(mode)


# --- what is said about a folder -----------------------------------------------------------------------------------


def _tell(root, text):
    print(f"{str(root)!r}: {text}", file=sys.stderr)


def _found(counts, testing, options):
    """counts: caption -> training pictures."""
    size, kind = options.size, "colour" if options.color else "gray"
    time = f" ({(size / 28) ** 2:.1f} times the pixels of 28x28, and a step takes about so much longer)"
    shown = ", ".join(f"{name!r} {count:,}" for name, count in list(counts.items())[:20]) + ", ..." * (len(counts) > 20)
    classes = "without classes" if "" in counts else f"by class: {shown}"
    numbers = f"{sum(counts.values()):,} pictures for training and {testing:,} for testing"
    return f"{numbers}, as {size}x{size} {kind}{time if size > 28 else ''}, {classes}"


def _warnings(images, options):
    """What may make training on these images pointless."""
    count = len(images)
    pixels = images.reshape(count, -1)
    blank = int((np.ptp(pixels, axis=1) < 8).sum())
    if blank:
        hint = "; dark drawings on transparent paper want --paper white" if options.paper == "black" else ""
        yield f"{blank:,} of {count:,} pictures are blank, of one shade all over{hint}"
    distinct = len({row.tobytes() for row in pixels})
    if distinct <= count // 2:
        yield f"many pictures are alike: only {distinct:,} of {count:,} differ"
    if count < MEMORISED:
        mirrors = "" if options.mirror else "; --mirror adds the mirror image of each"
        yield f"{_count(pixels, 'picture')} for training: the model may memorise so few{mirrors}"


def _left_out(root, paths):
    """How many paths these are, of which endings, and the names of the first."""
    kinds = Counter("folder" if path.is_dir() else path.suffix.lower() or "no ending" for path in paths)
    told = ", ".join(f"{count} {kind!r}" for kind, count in kinds.most_common(6))
    return f"{_count(paths, 'item')} ({told}): {_names(root, paths)}"


def _count(things, noun):
    return f"{len(things):,} {noun}" + "s" * (len(things) != 1)


def _names(root, paths):
    return ", ".join(repr(str(path.relative_to(root))) for path in paths[:6]) + ", ..." * (len(paths) > 6)
