"""Folders of pictures: any size and mode, damaged ones named and skipped."""

import io
import os
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


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_every_mode(tmp_path, mode, color):
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
    picture = datasets.load(tmp_path, color=color).images[0]
    assert picture.shape == (28, 28, 3 if color else 1)
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
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert "skipped 6 pictures" in told
    assert all(name in told for name in ("'cut.png'", "'empty.png'", "'huge.png'", "'large.png'", "'new\\nline.gif'"))


def test_whatever_is_left_out_is_counted_and_named(tmp_path, capsys):
    """Every file that was put there is in the set or on stderr."""
    taken = ["cat/a.png", "cat/b.jfif", "cat/e.JPE", "dog/f.pnm"]
    left = ["cat/c.heic", "cat/notes", "dog/Thumbs.db", "readme.txt"]
    folders = ["cat/sub", "empty"]
    for file in [*taken, "cat/sub/d.png"]:
        format = {".jfif": "JPEG", ".JPE": "JPEG", ".pnm": "PPM"}.get((tmp_path / file).suffix)
        paint(tmp_path / file, format=format)
    for file in left:
        (tmp_path / file).write_text("no picture")
    (tmp_path / "empty").mkdir()
    assert len(datasets.load(tmp_path)) == len(taken)
    told = capsys.readouterr().err
    assert "left out 6 items (" in told and "2 'folder'" in told and "1 '.heic'" in told
    assert all(repr(name) in told for name in left + folders) and not any(name in told for name in taken)


@pytest.mark.parametrize("classes", [("",), ("cat", "dog")])
@pytest.mark.parametrize(("training", "testing"), [
    ("train", "val"), ("train", "valid"), ("Training", "Validation"), ("train", "testing"), ("train", "test"),
])  # fmt: skip
def test_splits_have_many_names(tmp_path, training, testing, classes, capsys):
    """Catches a class named "val", and a validation split taken where there is one for testing."""
    for place, name in enumerate(classes):
        paint(tmp_path / training / name / "a.png", 10 + place)
        paint(tmp_path / testing / name / "b.png", 20 + place)
    if testing == "test":
        paint(tmp_path / "val" / "c.png", 30)
    train, test = (datasets.load(tmp_path, split) for split in ("train", "test"))
    assert train.classes == test.classes == classes
    assert train.images[:, 0, 0, 0].tolist() == [10, 11][: len(classes)]
    assert test.images[:, 0, 0, 0].tolist() == [20, 21][: len(classes)]
    assert ("1 item (1 'folder'): 'val'" in capsys.readouterr().err) == (testing == "test")


def test_training_pictures_alone_are_no_class(tmp_path, capsys):
    """Catches a class named "train", or a folder said to hold no pictures, where the test split did not come along, and
    a hidden folder that is taken for a class."""
    for place in range(10):
        paint(tmp_path / "train" / "cat" / f"{place}.png", place)
    (tmp_path / "labels.csv").write_text("")
    (tmp_path / ".thumbnails").mkdir()
    train, test = (datasets.load(tmp_path, split) for split in ("train", "test"))
    assert train.classes == ("cat",) and (len(train), len(test)) == (9, 1) and "labels.csv" in capsys.readouterr().err


@pytest.mark.parametrize("picture", ["val/1.png", "Test/cat/1.png"])
def test_testing_pictures_alone_are_no_data_set(tmp_path, picture):
    """Catches a class named "val", and a folder said to hold no pictures."""
    paint(tmp_path / picture, 1)
    with pytest.raises(DataError, match=f"testing alone, in '{picture.split('/')[0]}'; .* 'train'"):
        datasets.load(tmp_path)


def test_pictures_beside_an_empty_folder_for_testing_are_a_data_set(tmp_path):
    (tmp_path / "test").mkdir()
    paint(tmp_path / "1.png", 1)
    assert len(datasets.load(tmp_path)) == 1


def test_drawings_on_transparency(tmp_path, capsys):
    """Black ink on nothing is black on black, and has to be said; on white paper it is seen, also around it."""
    for place in range(20):
        drawing = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
        drawing.paste((0, 0, 0, 255), (place, 5, place + 10, 15))
        drawing.save(tmp_path / f"{place:02}.png")
    datasets.load(tmp_path)
    told = capsys.readouterr().err
    assert "18 of 18 pictures are blank" in told and "--paper white" in told and "only 1 of 18 differ" in told
    images = datasets.load(tmp_path, paper="white").images
    assert "blank" not in capsys.readouterr().err
    assert (images[:, [0, -1]] == 255).all() and (images.min(axis=(1, 2, 3)) == 0).all()


def test_pictures_that_are_few_or_alike_are_called_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(folder, "MEMORISED", 5)
    for place in range(6):
        Image.linear_gradient("L").rotate(40 * place).save(tmp_path / f"{place}.png")
    datasets.load(tmp_path)
    told = capsys.readouterr().err
    assert "6 pictures for training and 0 for testing, as 28x28 gray, without classes" in told
    assert not any(word in told for word in ("blank", "alike", "memorise"))
    for place in range(3):
        Image.linear_gradient("L").save(tmp_path / f"{place}.png")
    datasets.load(tmp_path, limit=4)
    told = capsys.readouterr().err
    assert "4 pictures for training: the model may memorise so few" in told and "only 2 of 4 differ" in told


def test_a_large_progressive_jpeg_is_refused_by_its_header(tmp_path, capsys, monkeypatch):
    """A decoder holds all of it; of a sequential one it need not."""
    for name, progressive in (("whole.jpg", True), ("strip.jpg", False)):
        paint(tmp_path / name, 99, (64, 64), quality=90, progressive=progressive)
        data = (tmp_path / name).read_bytes()
        at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
        (tmp_path / name).write_bytes(data[:at] + (13_000).to_bytes(2, "big") * 2 + data[at + 4 :])
    decoded = []
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", lambda image: decoded.append(image.filename))
    with pytest.raises(DataError, match="no readable"):
        datasets.load(tmp_path)
    assert {str(name)[-9:] for name in decoded} == {"strip.jpg"}
    assert "skipped 2 pictures" in capsys.readouterr().err


def test_colour_and_size(tmp_path, capsys):
    Image.new("RGB", (100, 50), (200, 100, 50)).save(tmp_path / "a.png")
    image = datasets.load(tmp_path, size=32, color=True).images[0]
    assert image.shape == (32, 32, 3) and image[16, 16].tolist() == [200, 100, 50] and image[0, 0].tolist() == [0] * 3
    assert "32x32 colour (1.3 times the pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 30}, "multiple of 4 from 8 to 256; given 30"),
        ({"size": 1024}, "given 1024"),
        ({"size": 28.0}, "given 28.0"),
        ({"paper": "grey"}, "'black' or 'white'; given 'grey'"),
        ({"color": 3}, "False or True; given 3"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, words):
    paint(tmp_path / "a.png")
    with pytest.raises(DataError, match=words):
        datasets.load(tmp_path, **options)
    with pytest.raises(DataError, match="for a folder of pictures, not for mnist"):
        datasets.load("mnist", **options)


def test_mirror_images_stand_beside_their_pictures_and_only_in_training(tmp_path):
    """Catches an image and its mirror in different halves of the set, and pictures turned upside down."""
    for place in range(10):
        picture = Image.new("L", (28, 28), 0)
        picture.paste(100 + place, (0, 0, 14, 7))
        picture.save(tmp_path / f"{place}.png")
    plain, train = datasets.load(tmp_path), datasets.load(tmp_path, mirror=True)
    test = datasets.load(tmp_path, "test", mirror=True)
    assert len(test) == 1 and len(train.labels) == len(train) == 2 * len(plain) == 18
    assert np.array_equal(train.images[::2], plain.images)
    assert np.array_equal(train.images[1::2], plain.images[:, :, ::-1]) and (train.images[1::2, :7, 14:] > 0).all()
    assert len(datasets.load(tmp_path, limit=4, mirror=True)) == 8


def test_names_that_no_terminal_can_show(tmp_path, capsys):
    for name in (os.fsencode("\U0001f408"), b"caf\xe9", b"a\x1b[31m"):
        place = tmp_path / os.fsdecode(name)
        place.mkdir()
        paint(place / "a.png")
    dataset = datasets.load(tmp_path)
    assert dataset.classes == ("a\x1b[31m", "caf\udce9", "\U0001f408")
    told = capsys.readouterr().err
    assert r"'a\x1b[31m' 1, 'caf\udce9' 1" in told and "\x1b" not in told


@pytest.mark.parametrize(
    ("files", "split", "words"),
    [
        ([], "train", "holds no pictures"),
        (["animals/cat/good.png"], "train", "holds no pictures .*; it holds 1 item .1 'folder'.: 'animals/cat'"),
        (["c.heic"], "train", "holds no pictures .*; it holds 1 item .1 '.heic'.: 'c.heic'"),
        (["train/good.png", "val/cat/good.png"], "test", "one holds pictures and the other folders"),
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
        if file.endswith("good.png"):
            paint(tmp_path / file)
        else:
            (tmp_path / file).write_text("nothing")
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
