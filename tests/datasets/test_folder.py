"""Folders of pictures: any size and mode, damaged ones named and skipped."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import datasets
from datasets import DataError, folder


def paint(path, value=200, size=(40, 40), mode="L", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size, value)
    (image if mode == "L" else image.convert(mode)).save(path, **options)
    return path


def test_subfolders_are_classes(tmp_path):
    for place in range(3):
        paint(tmp_path / "Red_Panda" / f"{place}.png", 100 + place)
        paint(tmp_path / "cat" / f"{place}.jpg", 10)
    (tmp_path / "cat" / "notes.txt").write_text("not a picture, and no cause for alarm")
    paint(tmp_path / ".thumbnails" / "x.png")
    dataset = datasets.load(tmp_path)
    assert dataset.classes == ("red panda", "cat") and dataset.vocabulary == ("cat", "panda", "red")
    assert dataset.images.shape == (6, 28, 28, 1) and dataset.images.dtype == np.uint8
    assert dataset.labels.tolist() == [0, 1] * 3  # in turn, so that a limit cuts all classes alike
    assert dataset.captions([0, 1]) == ["red panda", "cat"]
    assert datasets.load(tmp_path, limit=2).labels.tolist() == [0, 1]
    assert dataset.images[dataset.labels == 0][:, 14, 14, 0].tolist() == [100, 101, 102]


def test_a_flat_folder_has_empty_captions(tmp_path):
    for place in range(10):
        paint(tmp_path / f"{place}.png")
    train, test = datasets.load(str(tmp_path)), datasets.load(str(tmp_path), "test")
    assert (len(train), len(test)) == (9, 1)
    assert train.captions([0, 1]) == ["", ""] and train.vocabulary == ()


def test_splits_of_ones_own(tmp_path):
    paint(tmp_path / "train" / "cat" / "a.png", 10)
    paint(tmp_path / "test" / "cat" / "b.png", 20)
    assert [datasets.load(tmp_path, split).images[0, 0, 0, 0] for split in ("train", "test")] == [10, 20]


def test_both_splits_number_their_classes_alike(tmp_path):
    """Catches a class that has pictures in one split alone, and the next ones taken for it in the other."""
    for file in ("train/ant/a.png", "train/cat/b.png", "test/cat/c.png", "test/dog/d.png"):
        paint(tmp_path / file, 9)
    train, test = (datasets.load(tmp_path, split) for split in ("train", "test"))
    assert train.classes == test.classes == ("ant", "cat", "dog") and train.vocabulary == test.vocabulary
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [1, 2])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_every_mode(tmp_path, mode):
    suffix = ".tif" if mode in ("CMYK", "I", "F", "YCbCr") else ".png"
    image = Image.new("L", (50, 50), 0)
    image.paste(255, (0, 0, 50, 25))
    if mode[0] in "IF":
        values = np.asarray(image, np.float32) / 255
        array = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode](values * (1 if mode == "F" else 65535))
        image = Image.fromarray(array)
    else:
        image = image.convert(mode)
    # compressed, since before version 13 Pillow could not read what it had written as plain YCbCr
    image.save(tmp_path / f"a{suffix}", **({"compression": "tiff_lzw"} if mode == "YCbCr" else {}))
    picture = datasets.load(tmp_path).images[0, ..., 0]
    assert (picture[:13] > 250).all() and (picture[15:] < 5).all()


def test_shape_is_kept_and_transparency_is_black(tmp_path):
    paint(tmp_path / "a.png", 255, (56, 14))
    Image.new("RGBA", (30, 30), (255, 255, 255, 0)).save(tmp_path / "b.png")
    Image.new("RGBA", (30, 30), (255, 255, 255, 128)).save(tmp_path / "c.png")
    wide, clear, half = datasets.load(tmp_path).images[..., 0]
    assert (wide[11:17] == 255).all() and wide[:10].max() == 0 and wide[18:].max() == 0
    assert clear.max() == 0 and (abs(half.astype(int) - 128) <= 1).all()


def test_exif_rotation_is_followed(tmp_path):
    image = Image.new("L", (28, 28), 0)
    image.paste(255, (0, 0, 28, 14))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    assert datasets.load(tmp_path).images[0, 20, 14, 0] == 255


def bomb(path, width=60_000, height=60_000):
    """A PNG of 3.6 thousand million pixels in its header, and hardly any data."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    )


def test_unreadable_pictures_are_named_and_counted(tmp_path, capsys):
    paint(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    bomb(tmp_path / "huge.png")
    bomb(tmp_path / "large.png", 6_000, 6_000)
    (tmp_path / "new\nline.gif").write_bytes(b"GIF89a")
    tracemalloc.start()
    dataset = datasets.load(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()
    assert len(dataset) == 1
    told = capsys.readouterr().err
    assert "skipped 6 pictures" in told and told.count("\n") == 1
    assert all(name in told for name in ("'cut.png'", "'empty.png'", "'huge.png'", "'large.png'", "'new\\nline.gif'"))


@pytest.mark.parametrize(
    ("files", "split", "words"),
    [
        ([], "train", "holds no pictures"),
        (["notes.txt"], "train", "holds no pictures"),
        (["bad.png"], "train", "no readable picture"),
        (["good.png"], "test", "every tenth picture"),
        (["good.png", "cat/good.png"], "train", "mixes pictures and folders"),
        (["Cat/good.png", "cat/good.png"], "train", "'cat' is the caption of two folders"),
        ([",/good.png"], "train", "no caption for the folder ','"),
        (["good.png"], "unseen", "'unseen'; choose train or test"),
    ],
)
def test_folders_that_will_not_do(tmp_path, files, split, words):
    for file in files:
        path = tmp_path / file
        if path.name == "good.png":
            paint(path)
        else:
            path.write_text("nothing")
    with pytest.raises(DataError, match=words) as error:
        datasets.load(tmp_path, split)
    assert "\n" not in str(error.value)


def encoded(kind):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)).save(file, kind)
    return file.getvalue()


SAMPLES = [(f".{kind.lower()}", encoded(kind)) for kind in ("PNG", "GIF", "BMP", "TIFF", "JPEG", "PPM")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@given(
    st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=4)), min_size=1, max_size=6)
)
def test_fuzzed_pictures_are_read_or_skipped(pictures, sample, edits):
    suffix, data = sample[0], bytearray(sample[1])
    for at, change in edits:
        at %= len(data)
        data[at : at + len(change)] = change
    path = pictures / f"fuzzed{suffix}"
    path.write_bytes(data)
    try:
        assert folder.load(pictures).images.shape == (1, 28, 28, 1)
    except DataError as error:
        assert "no readable picture" in str(error)
    path.unlink()
