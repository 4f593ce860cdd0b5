"""Pictures and pages: the pixels are the data's own, the files are whole, and no text becomes markup."""

import io
import os
import xml.etree.ElementTree as xml
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from generators.showing import pictures
from generators.showing.charts import _number, line_chart
from generators.showing.page import Page
from generators.showing.pictures import PictureError
from nn import checkpoint


@pytest.fixture
def images():
    return np.random.default_rng(0).random((6, 7, 5, 1), dtype=np.float32)


def test_to_uint8_rounds_to_the_nearest_level_and_leaves_uint8_alone():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    # float32 levels / 255 truncated instead of rounded would come back one too low.
    assert np.array_equal(pictures.to_uint8((levels / np.float32(255)).astype(np.float32)), levels)
    assert np.array_equal(pictures.to_uint8(levels[..., 0]), levels)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (np.zeros((2, 4, 4, 2)), "shape"),
        (np.zeros((4, 4)), "shape"),
        (np.zeros((2, 4, 4, 1), dtype=int), "int64"),
        (np.full((1, 4, 4, 1), 200.0), r"\[0, 1\]"),
        (np.full((1, 4, 4, 1), np.nan), r"\[0, 1\]"),
    ],
)
def test_to_uint8_names_what_is_wrong(wrong, word):
    with pytest.raises(PictureError, match=word):
        pictures.to_uint8(wrong)


@settings(max_examples=20)
@given(count=st.integers(1, 12), columns=st.integers(1, 5), enlarged=st.integers(1, 3), colour=st.booleans())
def test_grid_shows_every_pixel_row_by_row(count, columns, enlarged, colour):
    shape = count, 28 // enlarged, 5, 3 if colour else 1
    tiles = np.random.default_rng(count).integers(1, 256, shape, dtype=np.uint8)
    picture = np.asarray(pictures.grid(tiles, columns=columns))
    picture = picture if colour else picture[..., None]
    height, scale = tiles.shape[1], 3 * enlarged  # to 84 pixels
    gap = 2 * scale
    for number, tile in enumerate(tiles):
        y = 3 * gap + number // columns * (height * scale + gap)
        x = 3 * gap + number % columns * (5 * scale + gap)
        shown = picture[y : y + height * scale, x : x + 5 * scale]
        assert np.array_equal(shown, tile.repeat(scale, 0).repeat(scale, 1))


def test_grid_prefers_full_rows():
    assert [pictures._near_square(n) for n in (1, 2, 3, 8, 9, 10, 16, 64)] == [1, 2, 3, 4, 3, 5, 4, 8]


def test_captions_make_room_and_long_ones_are_shortened(images):
    plain = pictures.grid(images, columns=3)
    assert pictures.grid(images, columns=3, captions=["a bold seven"] * 6).height > plain.height
    assert pictures.grid(images, columns=3, captions=["word " * 500] * 6).height < 3 * plain.height
    with pytest.raises(PictureError, match="6 captions, not 2"):
        pictures.grid(images, captions=["one", "two"])
    with pytest.raises(PictureError, match="at least one"):
        pictures.grid(images[:0])


def test_rows_place_unequal_rows_below_each_other(images):
    picture = pictures.rows({"": images[:4]})
    longer = pictures.rows({"": images[:4], "below": images[4:]}, columns=["first", "second"])
    assert longer.height > picture.height and longer.width > picture.width
    pixels, margin = np.asarray(picture), 4 * 24
    assert np.array_equal(pixels[margin : margin + 84, margin : margin + 60].mean(axis=1) > 0, [True] * 84)
    assert pixels[:, :margin].max() == 0  # no column for titles
    with pytest.raises(PictureError, match="one shape"):
        pictures.rows({"a": images, "b": images[:, :4]})
    with pytest.raises(PictureError, match="column titles"):
        pictures.rows({"a": images[:1]}, columns=["first", "second"])


def test_gif_has_all_frames_in_order_and_rests_on_the_last():
    frames = np.stack([np.full((4, 4, 1), level, np.uint8) for level in (0, 80, 160, 240)])
    with Image.open(io.BytesIO(pictures.gif_bytes(frames, milliseconds=50, hold=900))) as film:
        assert film.n_frames == 4 and film.info["loop"] == 0
        levels, durations = [], []
        for number in range(4):
            film.seek(number)
            levels.append(film.convert("L").getpixel((9, 9)))
            durations.append(film.info["duration"])
    assert levels == [0, 80, 160, 240] and durations == [50, 50, 50, 900]


@pytest.mark.parametrize("channels", [1, 3])
def test_npz_holds_plain_arrays(tmp_path, channels):
    images = np.random.default_rng(1).integers(0, 256, (3, 4, 4, channels), dtype=np.uint8)
    path = tmp_path / "new folder" / "samples.npz"
    pictures.write_samples(path, images, ["seven", "", "a bold two, small"], [7, -1, 2])
    with np.load(path, allow_pickle=False) as arrays:
        assert np.array_equal(arrays["images"], images[..., 0] if channels == 1 else images)
        assert arrays["captions"].tolist() == ["seven", "", "a bold two, small"]
        assert arrays["labels"].tolist() == [7, -1, 2] and arrays["labels"].dtype == np.int64
    assert [entry.name for entry in path.parent.iterdir()] == ["samples.npz"]


def test_the_ending_decides(tmp_path, images):
    for name, kind in (("a.png", "PNG"), ("b.GIF", "GIF"), ("c.jpg", "JPEG"), ("d.JPEG", "JPEG")):
        pictures.write_samples(tmp_path / name, images, ["seven"] * 6)
        with Image.open(tmp_path / name) as opened:
            assert opened.format == kind
    for name in ("e.bmp", "e"):
        with pytest.raises(PictureError, match=r"\.png.*\.gif.*\.npz.* / for"):
            pictures.write_samples(tmp_path / name, images)
    with pytest.raises(PictureError, match="6 images came with 1 captions"):
        pictures.write_samples(tmp_path / "e.npz", images, ["seven"])
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.png", "b.GIF", "c.jpg", "d.JPEG"}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_gets_single_pictures(tmp_path, channels):
    """Pixel by pixel.  Catches enlarged pictures, originals mixed with what was made of them, and a folder of somebody
    else's pictures that is added to."""
    images, originals = np.random.default_rng(1).integers(0, 256, (2, 11, 4, 4, channels), dtype=np.uint8)
    out = f"{tmp_path / 'new'}/"
    pictures.write_samples(out, images, originals=originals)
    for folder, stack in ((tmp_path / "new", images), (tmp_path / "new" / "originals", originals)):
        files = sorted(folder.glob("*.png"))
        assert [file.name for file in files] == [f"{number:05}.png" for number in range(11)]
        for file, image in zip(files, stack, strict=True):
            assert np.array_equal(np.asarray(Image.open(file)).reshape(image.shape), image)
    with pytest.raises(PictureError, match="not empty"):
        pictures.kind_of(out)
    with pytest.raises(NotADirectoryError):
        pictures.kind_of(f"{tmp_path / 'new' / '00000.png'}/")


@pytest.mark.parametrize("name", ["checkpoint.npz", "of-a-run.npz", "checkpoint.png"])
def test_no_picture_takes_the_place_of_a_checkpoint(tmp_path, name):
    """Catches a check by the name alone, and a trained model that is lost to a slip of the hand."""
    path = tmp_path / name
    checkpoint.save(path, {"w": np.ones(3)}, {})
    before = path.read_bytes()
    with pytest.raises(pictures.PictureError, match="is a checkpoint"):
        pictures.write_samples(path, np.zeros((1, 4, 4, 1), np.uint8))
    assert path.read_bytes() == before
    with np.load(path) as archive:
        assert archive["w"].sum() == 3


def test_samples_may_be_written_again(tmp_path):
    """Catches a refusal of every .npz that is there."""
    for level in (0, 1):
        pictures.write_samples(tmp_path / "x.npz", np.full((1, 4, 4, 1), level, np.uint8))
    with np.load(tmp_path / "x.npz") as archive:
        assert archive["images"].max() == 1


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("elsewhere", path)])
def test_links_pipes_and_folders_are_refused_before_the_work(tmp_path, make):
    make(tmp_path / "x.png")
    with pytest.raises(OSError, match="choose another name"):
        pictures.kind_of(tmp_path / "x.png")


class _Audit(HTMLParser):
    """Collects elements and text, and checks that elements close in order."""

    VOID = {"meta", "img", "line", "circle", "polyline", "polygon"}

    def __init__(self):
        super().__init__()
        self.seen, self.open, self.words = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_a_page_escapes_everything_and_needs_no_other_file(tmp_path, images):
    evil = "<script>alert('x')</script>\"><img src=http://x> `<b>`"
    page = Page(evil, evil)
    page.section(evil, evil + "\n\n" + evil)
    page.markdown(f"## {evil}\n\n[`x`](http://x) [`x`](javascript:x)\n\n| {evil} |\n|---|\n| 1 |", tmp_path)
    page.picture(pictures.grid(images, captions=[evil] * 6), evil)
    page.picture(pictures.gif_bytes(images), evil)
    page.table([evil, "FID"], [[evil, "1.5 ± 0.1"], ["plain", "-"]])
    page.picture(line_chart({evil: ([1, 2], [3, 4])}, x_label=evil, y_label=evil).encode(), evil)
    page.write(tmp_path / "index.html")
    audit = _Audit()
    audit.feed((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert not audit.open
    tags = [tag for tag, _ in audit.seen]
    assert "script" not in tags and "b" not in tags and tags.count("img") == 2
    assert all(a["src"].startswith("data:image/") for tag, a in audit.seen if tag == "img")
    assert not any({"href", "src"} & set(a) for tag, a in audit.seen if tag not in ("img", "a"))
    assert "alert('x')" in "".join(audit.words)


def test_gray_is_shown_as_ink_and_colour_is_left_alone(images):
    page = Page("ink")
    page.picture(pictures.grid(images))
    page.picture(pictures.gif_bytes(images))
    assert page.html().count('class="ink"') == 2
    page = Page("colour")
    page.picture(pictures.grid(np.random.default_rng(0).random((2, 4, 4, 3))))
    assert 'class="ink"' not in page.html()


def test_a_page_of_markdown(tmp_path, images):
    (tmp_path / "a.png").write_bytes(pictures.png_bytes(pictures.grid(images)))
    (tmp_path / "b.svg").write_text(line_chart({"x": ([1, 2], [3, 4])}))
    page = Page("text")
    blocks = ("A [link](../a/b.py).", "## Two", "![A.](a.png)", "![B.](b.svg)", "| a | b |\n|---|---|\n| x | 1 |")
    page.markdown("\n\n".join(blocks), tmp_path)
    html = page.html()
    for part in ('A <a href="../a/b.py">link</a>.', "<h2>Two</h2>", 'alt="A."', "<svg", "B.</figcaption>",
                 '<td>x</td><td class="number">1</td>'):  # fmt: skip
        assert part in html


def test_a_column_of_figures_stands_right_and_ragged_rows_are_refused():
    page = Page("figures")
    page.table(["family", "FID", "time"], [["vae", "1,234.5", "3 min"], ["gan", "—", "1e-3 s"]])
    assert page.html().count('<td class="number">') == 4
    with pytest.raises(ValueError, match="argument 2"):
        page.table(["a", "b", "c"], [[1, 2]])
    with pytest.raises(PictureError, match="PNG, GIF or SVG"):
        page.picture(b"no picture")


def test_captions_stand_below_their_images(images):
    """Catches lines of text that are drawn over the pictures."""
    plain, said = (np.asarray(pictures.grid(images, columns=6, captions=words)) for words in (None, ["a b\nc"] * 6))
    upper = (len(plain) + 84) // 2  # one row of images, 84 pixels high, between two margins
    assert len(said) > len(plain) and (said[:upper] != plain[:upper]).sum() == 0 and (said[upper:] != said[0, 0]).any()


def test_what_stands_in_a_figure_can_be_styled_by_its_kind(images):
    """Catches a picture or a table whose class of the page's style is lost."""
    page = Page("kinds")
    page.picture(pictures.grid(images))
    page.table(["a"], [["b"]])
    page.picture(line_chart({"x": ([1, 2], [3, 4])}).encode())
    html = page.html()
    assert '<figure><div class="picture"><img' in html and '<figure><div class="wide"><table' in html
    assert "<figure><svg" in html


def test_chart_is_xml_with_its_lines_inside_the_frame():
    x = np.arange(5000)
    svg = line_chart({"noisy <a>": (x, np.sin(x) + x / 1e3), "flat": ([0, 5000], [2, 2])}, x_label="step", y_label="&")
    root = xml.fromstring(svg)
    lines = root.findall("{*}polyline")
    assert len(lines) == 2 and len(lines[0].get("points").split()) == 160 and root.find("{*}polygon") is not None
    _, _, width, height = map(float, root.get("viewBox").split())
    for line in lines:
        for point in line.get("points").split():
            across, down = map(float, point.split(","))
            assert 0 <= across <= width and 0 <= down <= height
    assert {"noisy <a>", "flat", "step", "&", "0", "5,000"} <= {text.text for text in root.findall("{*}text")}


@settings(max_examples=25)
@given(
    low=st.floats(-1e6, 1e6), spread=st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e4]), log=st.booleans(),
    count=st.integers(1, 20),
)
def test_chart_survives_any_range(low, spread, log, count):
    y = low + spread * np.random.default_rng(count).random(count)
    if log:
        y = np.abs(y) + 1e-8
    root = xml.fromstring(line_chart({"a": (np.arange(count) + 1, y)}, log=log))
    assert "nan" not in xml.tostring(root, encoding="unicode")


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("text", ["1,500", "100", "99.5", "0.25", "1e-05"])
def test_numbers_beside_an_axis(sign, text):
    """Catches: large negative numbers as powers of ten, and what rounding left of a zero."""
    assert _number(float(sign + text.replace(",", ""))) == sign + text
    assert _number(float(sign + "1e-13")) == "0"


def test_chart_leaves_out_what_is_not_finite():
    root = xml.fromstring(line_chart({"a": ([0, 1, 2, 3], [1, np.nan, np.inf, 2]), "gone": ([1], [np.nan])}))
    (line,) = root.findall("{*}polyline")
    assert len(line.get("points").split()) == 2
    with pytest.raises(PictureError, match="finite"):
        line_chart({"a": ([1], [-1])}, log=True)
    with pytest.raises(PictureError, match="as many x as y"):
        line_chart({"a": ([1, 2], [1])})
