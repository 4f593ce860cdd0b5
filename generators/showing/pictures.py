"""Pictures of pictures: grids, labelled rows and films, drawn with Pillow alone, and the files that `--out` writes.

Images come as (N, H, W, C) or (N, H, W), float in [0, 1] or uint8, C = 1 or 3. A picture shows their pixels as they
are, enlarged without smoothing, on black, which is the paper of the data itself (ink is white in MNIST); the HTML
gallery turns gray pictures over to black ink on white paper for a reader in daylight.

    write_samples("grid.png", images, captions)         # a grid; for other endings see `kind_of`
    rows({"real": real, "rebuilt": rebuilt}, columns=["seven", "two"]).save("pair.png")
"""

import bisect
import contextlib
import io
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from disk import files
from generators.errors import Refusal
from nn import checkpoint

TEXT, FAINT = "#cdcdcd", "#8c8c8c"  # captions and titles of rows, and titles of columns
TILE = 84  # pixels that an image is enlarged to, about: three times 28
KINDS = {".png": "picture", ".jpg": "picture", ".jpeg": "picture", ".gif": "film", ".npz": "arrays"}
LINES = 4  # lines that a caption may take below its image


class PictureError(Refusal):
    """What was asked for cannot be drawn or written; the message is one sentence fit for a user."""


def to_uint8(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) or (N, H, W), float in [0, 1] or uint8 -> uint8 (N, H, W, C), rounded to the nearest level; likewise
    films (N, T, H, W, C)."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim not in (4, 5) or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
        raise PictureError(f"images must have shape (N, H, W, 1) or (N, H, W, 3), not {images.shape}")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise PictureError(f"images must be uint8 or float in [0, 1], not {images.dtype}")
    if images.size and not (images.min() >= -1e-3 and images.max() <= 1.001):  # written so that NaN fails too
        raise PictureError(f"float images must lie in [0, 1], not in [{images.min():.3g}, {images.max():.3g}]")
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def grid(
    images: np.ndarray, columns: int | None = None, captions: Sequence[str] | None = None, title: str = ""
) -> Image.Image:
    """All images as one picture, row by row, each above its caption; near-square unless `columns` says otherwise."""
    tiles, count = to_uint8(images), len(images)
    if count == 0:
        raise PictureError("a grid needs at least one image")
    if captions is not None and len(captions) != count:
        raise PictureError(f"{count} images need {count} captions, not {len(captions)}")
    height, width, gap = _sizes(tiles)
    columns = min(columns or _near_square(count), count)
    font, title_font, margin = _font(width / 7), _font(max(15, width / 5)), gap * 3
    texts = [_wrap(caption, font, width) for caption in captions or [""] * count]
    starts = range(0, count, columns)
    longest = [max(map(len, texts[start : start + columns])) for start in starts]  # each row is as tall as this needs
    below = [lines * _line(font) + (gap * 2 if lines else 0) for lines in longest]
    top = margin + (_line(title_font) + gap * 2 if title else 0)
    picture, draw, depths = _sheet([tiles[start : start + columns] for start in starts], margin, top, margin, below)
    if title:
        draw.text((margin, margin), _shorten(title, title_font, picture.width - 2 * margin), TEXT, title_font)
    for index, lines in enumerate(texts):
        x = margin + index % columns * (width + gap) + width / 2
        _lines(draw, x, depths[index // columns] + height + gap, lines, font, TEXT)
    return picture


def rows(images: Mapping[str, np.ndarray], columns: Sequence[str] = ()) -> Image.Image:
    """One row of images for each title: families side by side, a film strip, an edit before and after.

    `images` maps a row's title to (N, H, W, C); rows may differ in length, not in the size of their images. `columns`
    are titles above the columns. A film strip is one row, or two: what is there and what is predicted.
    """
    strips = [to_uint8(strip) for strip in images.values()]
    shapes, count = {strip.shape[1:] for strip in strips}, max(map(len, strips), default=0)
    if len(shapes) != 1 or count == 0:
        raise PictureError(f"rows need at least one image, and images of one shape, not of {sorted(shapes)}")
    if len(columns) > count:
        raise PictureError(f"{len(columns)} column titles for at most {count} images in a row")
    height, width, gap = _sizes(strips[0])
    font, margin = _font(max(13, width / 6)), gap * 4
    heads = [_wrap(head, font, width) for head in columns]
    top = margin + max(map(len, heads), default=0) * _line(font) + (gap * 2 if heads else 0)
    side = max(map(font.getlength, images))
    left = margin + (math.ceil(side) + margin if side else 0)
    picture, draw, depths = _sheet(strips, left, top, margin, [0] * len(strips))
    for column, lines in enumerate(heads):
        x = left + column * (width + gap) + width / 2
        _lines(draw, x, top - gap * 2 - len(lines) * _line(font), lines, font, FAINT)
    for y, name in zip(depths, images, strict=True):
        draw.text((left - margin, y + height / 2), name, TEXT, font, anchor="rm")
    return picture


def _sizes(tiles: np.ndarray) -> tuple[int, int, int]:
    """(height, width, gap) of tiles (N, H, W, C) as they are drawn, pixels."""
    scale = _scale(*tiles.shape[1:3])
    return tiles.shape[1] * scale, tiles.shape[2] * scale, max(2, 2 * scale)


def _sheet(strips: list[np.ndarray], left: int, top: int, margin: int, below: list[int]):
    """Strips of tiles on paper, from (left, top) on, one below the other; `below`: pixels left free under each.

    Returns the picture, what draws on it, and how far down each strip begins.
    """
    height, width, gap = _sizes(strips[0])
    *depths, end = itertools.accumulate((height + gap + free for free in below), initial=top)
    size = left + max(map(len, strips)) * (width + gap) - gap + margin, end - gap + margin
    picture = Image.new("L" if strips[0].shape[-1] == 1 else "RGB", size, 0)
    for strip, y in zip(strips, depths, strict=True):
        for column, image in enumerate(strip):
            picture.paste(_tile(image, height // len(image)), (left + column * (width + gap), y))
    return picture, ImageDraw.Draw(picture), depths


# Films


def gif_bytes(frames: np.ndarray | Sequence[Image.Image], milliseconds: int = 80, hold: int = 1200) -> bytes:
    """A GIF that plays for ever and rests on its last frame for `hold` ms; `frames` are images, or ready pictures of
    one size (`grid` of each moment, say)."""
    if isinstance(frames, np.ndarray):
        tiles = to_uint8(frames)
        frames = [_tile(image, _scale(*image.shape[:2], target=2 * TILE)) for image in tiles]
    if len(frames) == 0:
        raise PictureError("a film needs at least one frame")
    if len({frame.size for frame in frames}) != 1:
        raise PictureError("the frames of a film must have one size")
    durations = [milliseconds] * (len(frames) - 1) + [hold]
    return _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def film_of_grids(
    frames: np.ndarray, columns: int | None = None, captions: Sequence[str] | None = None, title: str = "",
    milliseconds: int = 80, hold: int = 1200,
) -> bytes:  # fmt: skip
    """A GIF of frames (T, N, H, W, C): in each moment a `grid` of N images."""
    return gif_bytes([grid(images, columns, captions, title) for images in frames], milliseconds, hold)


# Files


def png_bytes(picture: Image.Image) -> bytes:
    return _encoded(picture, "PNG", optimize=True)


def _encoded(picture: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def write_samples(
    path: str | Path, images: np.ndarray, captions: Sequence[str] | None = None, labels: Sequence[int] | None = None,
    picture: Callable[[], Image.Image] | None = None, film: Callable[[], bytes] | None = None,
    originals: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Write images as the ending of `path` says, see `kind_of`.

    picture, film: draw what a picture shows, and a film, where that is not a grid with captions, or image after image.
    images, originals: (N, H, W, C), or films (N, T, H, W, C), for which picture and film are needed
    originals: of which the images were made; kept beside them in arrays and, as `originals/`, in folders.

    The arrays are `images` (and `originals`) uint8 (N, H, W) or (N, H, W, 3), of films with T behind N, `captions` of
    fixed-width text and `labels` int64, -1 where no class is known; no pickle is in them. The files of a folder are
    00000.png, 00001.png and so on. Raises PictureError for another ending or lengths that disagree.
    """
    sets = {"images": to_uint8(images)} | ({} if originals is None else {"originals": to_uint8(originals)})
    tiles, kind = sets["images"], kind_of(path)
    captions = [""] * len(tiles) if captions is None else list(captions)
    labels = np.full(len(tiles), -1) if labels is None else np.asarray(labels)
    if not len(tiles) == len(captions) == len(labels):
        raise PictureError(f"{len(tiles)} images came with {len(captions)} captions and {len(labels)} labels")
    if kind == "folder":
        for name, stack in sets.items():
            folder = Path(path) / ("" if name == "images" else name)
            for number, tile in enumerate(stack):
                tile = np.concatenate(tile, axis=1) if tile.ndim == 4 else tile  # of a film its frames, side by side
                files.write(folder / f"{number:05}.png", png_bytes(_tile(tile, 1)))
        return
    if kind == "film":
        content = film() if film else gif_bytes(tiles)
    elif kind == "picture":
        shared = len(set(captions)) == 1  # then it stands once, above them
        texts = {"title": captions[0]} if shared else {"captions": captions}
        drawn = picture() if picture else grid(tiles, **texts)
        content = png_bytes(drawn) if Path(path).suffix.lower() == ".png" else _encoded(drawn, "JPEG", quality=95)
    else:
        file = io.BytesIO()
        plain = {name: stack[..., 0] if stack.shape[-1] == 1 else stack for name, stack in sets.items()}
        texts = np.array(captions, dtype=np.str_)
        np.savez_compressed(file, captions=texts, labels=labels.astype(np.int64), **plain)
        content = file.getvalue()
    files.write(path, content)


def kind_of(path: str | Path) -> str:
    """What `path` asks for by its ending: a "picture" (.png, .jpg, .jpeg), a "film" (.gif), "arrays" (.npz), or, by a
    slash, a "folder" of single pictures. To be called before the work: nobody waits for what cannot be written.

    Raises PictureError for another ending or a folder that is not empty, OSError or PictureError as `check_target`.
    """
    if str(path).endswith(("/", os.sep)):
        with contextlib.suppress(FileNotFoundError):
            if os.listdir(path):
                raise PictureError(f"{path} is not empty; name a new folder for the pictures")
        return "folder"
    kind = KINDS.get(Path(path).suffix.lower())
    if kind is None:
        raise PictureError(
            f"cannot tell what to write from the name {str(path)!r}: end it in .png or .jpg for a picture, .gif for a "
            "film, .npz for the arrays, or / for a folder of single pictures"
        )
    check_target(path)
    return kind


def check_target(path: str | Path) -> None:
    """OSError unless `path` is free or a plain file; PictureError if that is a checkpoint, which nothing replaces."""
    files.require_plain(path)
    if checkpoint.begins(path):
        raise PictureError(f"{path} is a checkpoint, and what is written would take its place; choose another name")


def read_mask(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """What a picture of this size (H, W) says is to stay as it is, bool (H, W): where it is black, and not white.

    Raises PictureError for another size, or if it is all black or all white, OSError if it cannot be read.
    """
    with Image.open(path) as image:
        if (image.height, image.width) != size:
            given = f"{image.width}x{image.height}"
            raise PictureError(f"{path} must be of the images' size, {size[1]}x{size[0]} pixels; it has {given}")
        known = np.asarray(image.convert("L")) < 128
    if known.all() or not known.any():
        told = "black, so there is nothing to paint" if known.all() else "white, so nothing of the images is known"
        raise PictureError(f"{path} is all {told}; make white what is to be painted anew, and black what is to stay")
    return known


# Drawing


def _near_square(count: int) -> int:
    """Columns for `count` tiles: 8 -> 4, 9 -> 3, 10 -> 5, 64 -> 8; rows that come out full are preferred."""
    side = math.ceil(math.sqrt(count))
    return next((columns for columns in range(side, 2 * side + 1) if count % columns == 0), side)


def _scale(height: int, width: int, target: int = TILE) -> int:
    return max(1, round(target / max(height, width)))


def _tile(image: np.ndarray, scale: int) -> Image.Image:
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(max(11, round(size)))


def _line(font: ImageFont.FreeTypeFont) -> int:
    return round(font.size * 1.3)


def _lines(draw, x, y, lines, font, gray) -> None:
    """Lines of text from y on, one below the other, around x."""
    for number, line in enumerate(lines):
        draw.text((x, y + number * _line(font)), line, gray, font, anchor="ma")


def _shorten(text: str, font, width: float) -> str:
    """`text`, or as much of it as fits with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    kept = bisect.bisect_right(range(1, len(text)), width, key=lambda length: font.getlength(text[:length] + "…"))
    return text[:kept].rstrip(" ,") + "…"


def _wrap(text: str, font, width: float) -> list[str]:
    """`text` in lines that fit `width`, broken at spaces; what does not fit LINES lines ends in an ellipsis."""
    lines: list[str] = []
    words = text.split()
    for number, word in enumerate(words):
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
        elif len(lines) < LINES:
            lines.append(word)
        else:
            lines[-1] = " ".join([lines[-1], *words[number:]])
            break
    return [_shorten(line, font, width) for line in lines]
