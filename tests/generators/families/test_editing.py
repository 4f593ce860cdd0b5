"""Directions in the noise, on a model whose noise is known: what an image shows and its caption does not say."""
from dataclasses import replace

import numpy as np
import pytest

from datasets import DataError
from datasets.captions import HANDWRITING as language
from datasets.glyphs import DIGITS, VARIANTS_OF
from generators.families import editing
from generators.families.editing import Directions
from tests.generators.toys import toy_data

DATA = toy_data(1200)
ALL = 10**6
SIZES = [len(values) for values in language.attributes.values()]
STARTS = dict(zip(language.attributes, np.cumsum([0, *SIZES]), strict=False))


class Transparent:
    """Its noise has one number for each value of each attribute: 1 for what DATA's image shows, unless it is said.

    Decoded, it is what is said and shown.
    """

    direction_amount, direction_guidance = 1.0, None

    def __init__(self, examples=100):
        self.direction_examples = examples
        self.known = {image.tobytes(): DATA.describe(i) for i, image in enumerate(DATA.images)}
        self.asked = []

    def encode(self, images, captions, threads=None):
        self.asked.append(list(captions))
        shown = [self.known[np.rint(image * 255).astype(np.uint8).tobytes()] for image in images]
        said = [language.parse(caption) for caption in captions]
        return one_hot([{n: v for n, v in a.items() if n not in says} for a, says in zip(shown, said, strict=True)])

    def decode(self, noise, captions, threads=None):
        self.asked.append(list(captions))
        return noise + one_hot([language.parse(caption) for caption in captions])


def one_hot(attributes):
    table = np.zeros((len(attributes), sum(SIZES)), np.float32)
    for row, values in zip(table, attributes, strict=True):
        for name, value in values.items():
            row[STARTS[name] + language.attributes[name].index(value)] = 1
    return table


def some(chosen, *changes):
    """Images, their captions, and these with the changes, in turn."""
    captions = DATA.captions(chosen)
    wanted = [language.change(c, changes[i % len(changes)]) for i, c in enumerate(captions)]
    return DATA.images[chosen] * np.float32(1 / 255), captions, wanted


def seen(numbers):
    """Of each attribute the value with the largest number."""
    return {
        name: values[int(np.argmax(numbers[STARTS[name] : STARTS[name] + len(values)]))]
        for name, values in language.attributes.items()
    }


def mean_of(names, having, lacking=None):
    """What these attributes are on average in DATA's images that are so, and not so, counted one by one."""
    rows = [DATA.describe(i) for i in range(len(DATA))]
    rows = [row for row in rows if having.items() <= row.items() and not (lacking and lacking.items() <= row.items())]
    return one_hot([{name: row[name] for name in names} for row in rows]).mean(axis=0)


def test_each_image_goes_its_own_way():
    """Catches one direction for all, a change in the wrong sense, another attribute changed, images spoilt.

    A four that is to slant right stays bold, although the fours that slant right are thin, every one.
    """
    images, captions, wanted = some(np.arange(120), "bold", "slanting left", "slanting right", "small", "upright")
    before = images.copy()
    edited = Directions(Transparent(ALL), DATA).edit(images, captions, wanted)
    np.testing.assert_allclose(edited, one_hot([language.parse(caption) for caption in wanted]), atol=1e-5)
    np.testing.assert_array_equal(images, before)
    same = [language.parse(caption) == language.parse(change) for caption, change in zip(captions, wanted, strict=True)]
    assert 5 < sum(same) < 80


def test_two_changes_are_two_directions():
    batch = some(np.arange(60), "bold, upright", "thin, slanting left", "large, thin")
    edited = Directions(Transparent(ALL), DATA).edit(*batch)
    np.testing.assert_allclose(edited, one_hot([language.parse(caption) for caption in batch[2]]), atol=1e-5)


@pytest.mark.parametrize("digit", DIGITS)
def test_a_direction_is_measured_among_images_of_its_digit(digit):
    """Catches a narrow zero made by way of eights; one variant of three taken for one of two; its name unsaid."""
    model = Transparent(ALL)
    directions, variants = Directions(model, DATA), VARIANTS_OF[digit]
    for old, new in zip(variants, variants[1:] + variants[:1], strict=True):
        way = directions.between(f"a thin {digit} {old}, small", f"a thin {digit} {new}, small")
        np.testing.assert_allclose(way, np.subtract(*one_hot([{"variant": new}, {"variant": old}])), atol=1e-5)
    directions.between(f"a thin {digit}", f"a bold {digit}")
    assert {language.parse(caption)["digit"] for captions in model.asked for caption in captions} == {digit}


def test_captions_are_silent_about_the_change_and_about_nothing_else():
    """Catches noise read under a caption that says what it is to hold; and a digit called what it no longer is."""
    model, chosen = Transparent(editing.IMAGES_AT_A_TIME), np.flatnonzero(DATA.labels == 7)[:4]
    new = {"thin": "bold", "bold": "thin"}[DATA.describe(chosen[0])["stroke"]]
    for change, silent in ((new, {"stroke"}), ("two with a loop", {"digit", "variant"})):
        model.asked.clear()
        Directions(model, DATA).edit(*some(chosen[:1], change))
        said = [language.parse(caption).keys() for captions in model.asked for caption in captions]
        assert all(names == language.attributes.keys() - silent for names in said) and len(said) > 50
        assert model.asked[0] == model.asked[-1] and len(model.asked) == 4
    model.direction_examples = ALL
    edited = Directions(model, DATA).edit(*some(chosen, "two with a loop"))
    assert [(seen(numbers)["digit"], seen(numbers)["variant"]) for numbers in edited] == [("two", "with a loop")] * 4


def test_the_amount_is_a_factor():
    batch = some(np.arange(20), "bold", "thin")
    directions = Directions(Transparent(), DATA)
    still, once, twice, back = (directions.edit(*batch, amount) for amount in (0.0, 1.0, 2.0, -1.0))
    np.testing.assert_array_equal(still, one_hot([language.parse(caption) for caption in batch[1]]))
    assert (once != still).any()
    np.testing.assert_allclose(twice - still, 2 * (once - still), atol=1e-5)
    np.testing.assert_allclose(back - still, still - once, atol=1e-5)


def test_a_model_says_how_far_to_go_and_with_how_much_emphasis():
    model, batch, emphasis = Transparent(), some(np.arange(20), "bold", "thin"), []
    plain = Directions(model, DATA).edit(*batch)
    model.direction_amount, model.direction_guidance, decode = 3.0, 1.5, model.decode
    model.decode = lambda z, *rest, guidance=1.0: emphasis.append((len(z), guidance)) or decode(z, *rest)
    np.testing.assert_array_equal(Directions(model, DATA).edit(*batch, amount=1.0), plain)
    far = Directions(model, DATA).edit(*batch, amount=3.0)
    np.testing.assert_array_equal(Directions(model, DATA).edit(*batch), far)
    same = sum(language.parse(caption) == language.parse(wanted) for caption, wanted in zip(*batch[1:], strict=True))
    assert 0 < same < 20 and emphasis == [(20, 1.5), (same, 1.0)] * 3


def test_what_a_caption_does_not_mention_is_left_from_all_that_lack_it():
    """Of real handwriting only the digit is known."""
    way = Directions(Transparent(ALL), DATA).between("seven", "a bold seven with a bar")
    seven, bar, bold = ({"digit": "seven"} | more for more in ({}, {"variant": "with a bar"}, {"stroke": "bold"}))
    expected = mean_of(["stroke"], bold) - mean_of(["stroke"], seven, bold)
    expected += mean_of(["variant"], bar) - mean_of(["variant"], seven, bar)
    np.testing.assert_allclose(way, expected, atol=1e-5)


def test_a_mean_is_over_no_more_images_than_it_says():
    model = Transparent(7)
    directions = Directions(model, DATA)
    for _ in range(2):  # and is measured once
        directions.between("a thin two", "a bold two")
    assert [len(captions) for captions in model.asked] == [7, 7]


def test_measuring_tells_how_far_it_is(monkeypatch):
    """Every image is part of one block that the progress is told of.  Catches a rest that is left out of the mean."""
    blocks = []
    monkeypatch.setattr(editing, "tqdm", lambda parts, *a, **k: blocks.append(parts) or parts)
    directions = Directions(Transparent(ALL), DATA)
    directions.between("a thin digit", "a bold digit")
    thin = int((DATA.attributes["stroke"] == language.attributes["stroke"].index("thin")).sum())
    covered = [sum(part.stop - part.start for part in parts) for parts in blocks]
    for whole, count in zip(sorted(covered), sorted((thin, len(DATA) - thin)), strict=True):
        assert count <= whole < count + editing.IMAGES_AT_A_TIME


def test_one_sentence_where_there_is_nothing_to_measure():
    with pytest.raises(DataError, match="mnist no attributes are known"):
        Directions(Transparent(), replace(DATA, name="mnist", attributes={}))
    first = replace(
        DATA, images=DATA.images[:1], labels=DATA.labels[:1], attributes={n: c[:1] for n, c in DATA.attributes.items()}
    )
    other = next(value for value in ("thin", "bold") if value != DATA.describe(0)["stroke"])
    with pytest.raises(DataError, match=f"none of the 1 images of digits is .* and {other}"):
        Directions(Transparent(), first).between("two", f"a {other} two")
