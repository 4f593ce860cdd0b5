"""Directions in the noise, on a model whose noise is known: it is the list of an image's attributes."""
from dataclasses import replace

import numpy as np
import pytest

from datasets import DataError
from datasets import captions as language
from generators.editing import Directions
from tests.generators.toys import toy_data

DATA = toy_data(600)
SIZES = [len(values) for values in language.ATTRIBUTES.values()]
STARTS = dict(zip(language.ATTRIBUTES, np.cumsum([0, *SIZES]), strict=False))


class Transparent:
    """Encodes an image of DATA as what it shows, one number for each value of each attribute; decodes to the noise."""

    def __init__(self):
        self.known = {image.tobytes(): DATA.describe(i) for i, image in enumerate(DATA.images)}
        self.asked = []

    def encode(self, images, captions, threads=None):
        self.asked.append(list(captions))
        noise = np.zeros((len(images), sum(SIZES)), np.float32)
        for row, image in zip(noise, images, strict=True):
            for name, value in self.known[np.rint(image * 255).astype(np.uint8).tobytes()].items():
                row[STARTS[name] + language.ATTRIBUTES[name].index(value)] = 1
        return noise

    def decode(self, noise, captions, threads=None):
        self.asked.append(list(captions))
        return noise


def some(chosen, *changes):
    """Images, their captions, and these with the changes, in turn."""
    captions = DATA.captions(chosen)
    wanted = [language.change(c, changes[i % len(changes)], DATA.vocabulary) for i, c in enumerate(captions)]
    return DATA.images[chosen] * np.float32(1 / 255), captions, wanted


def seen(noise):
    """What a noise says: of each attribute the value with the largest number."""
    return {
        name: values[int(np.argmax(noise[STARTS[name] : STARTS[name] + len(values)]))]
        for name, values in language.ATTRIBUTES.items()
    }


def noise_of(having, lacking=None):
    """The mean noise of DATA's images that are so, and not so, counted one by one."""
    def fits(attributes):
        return having.items() <= attributes.items() and not (lacking and lacking.items() <= attributes.items())

    return Transparent().encode(
        DATA.images[[i for i in range(len(DATA)) if fits(DATA.describe(i))]] / 255, []
    ).mean(axis=0)  # fmt: skip


def test_each_image_goes_its_own_way():
    """Catches one direction for all, a change in the wrong sense, another attribute changed, images spoilt."""
    model, chosen = Transparent(), np.arange(60)
    images, captions, wanted = some(chosen, "bold", "slanting left", "upright", "small", "thin, slanting right")
    before = images.copy()
    edited = Directions(model, DATA, examples=10**6).edit(images, captions, wanted)
    for noise, caption in zip(edited, wanted, strict=True):
        assert seen(noise) == language.parse(caption)
    np.testing.assert_array_equal(images, before)
    same = [language.parse(caption) == language.parse(change) for caption, change in zip(captions, wanted, strict=True)]
    assert 5 < sum(same) < 40
    np.testing.assert_array_equal(edited[same], model.encode(images, captions)[same])


@pytest.mark.parametrize("digit", language.DIGITS)
def test_a_variant_is_changed_among_images_of_its_digit(digit):
    """Catches a round zero made of an eight, and a variant of which a digit has three taken for one of two."""
    directions = Directions(Transparent(), DATA, examples=10**6)
    variants = language.VARIANTS_OF[digit]
    for old, new in zip(variants, variants[1:] + variants[:1], strict=True):
        way = directions.between(f"a thin {digit} {old}, small", f"a thin {digit} {new}, small")
        expected = noise_of({"digit": digit, "variant": new}) - noise_of({"digit": digit, "variant": old})
        np.testing.assert_allclose(way, expected, atol=1e-5)


def test_the_caption_is_silent_about_the_change():
    """Catches noise read under a caption that says what it is to hold; and a digit called what it no longer is."""
    model, chosen = Transparent(), np.flatnonzero(DATA.labels == 7)[:3]
    Directions(model, DATA).edit(*some(chosen, "bold", "slanting left", "with a bar"))
    assert {caption for captions in model.asked for caption in captions} <= set(language.DIGITS)
    assert model.asked[0] == model.asked[-1] == ["seven"] * 3
    model.asked.clear()
    edited = Directions(model, DATA, examples=10**6).edit(*some(chosen, "two with a loop"))
    assert {caption for captions in model.asked for caption in captions} == {""}
    assert [(seen(noise)["digit"], seen(noise)["variant"]) for noise in edited] == [("two", "with a loop")] * 3


def test_the_amount_is_a_factor():
    images, captions, wanted = some(np.arange(20), "bold", "thin")
    directions = Directions(Transparent(), DATA)
    still, once, twice, back = (directions.edit(images, captions, wanted, amount) for amount in (0.0, 1.0, 2.0, -1.0))
    np.testing.assert_array_equal(still, Transparent().encode(images, captions))
    assert (once != still).any()
    np.testing.assert_allclose(twice - still, 2 * (once - still), atol=1e-5)
    np.testing.assert_allclose(back - still, still - once, atol=1e-5)


def test_what_a_caption_does_not_mention_is_left_from_all_that_lack_it():
    """Of real handwriting only the digit is known."""
    way = Directions(Transparent(), DATA, examples=10**6).between("seven", "a bold seven with a bar")
    bar = {"digit": "seven", "variant": "with a bar"}
    expected = noise_of({"stroke": "bold"}) - noise_of({}, {"stroke": "bold"})
    expected += noise_of(bar) - noise_of({"digit": "seven"}, bar)
    np.testing.assert_allclose(way, expected, atol=1e-5)


def test_a_mean_is_over_no_more_images_than_it_says():
    model = Transparent()
    Directions(model, DATA, examples=7).between("a thin two", "a bold two")
    assert [len(captions) for captions in model.asked] == [7, 7]


def test_one_sentence_where_there_is_nothing_to_measure():
    with pytest.raises(DataError, match="mnist no attributes are known"):
        Directions(Transparent(), replace(DATA, name="mnist", attributes={}, attribute_values={}))
    first = replace(
        DATA, images=DATA.images[:1], labels=DATA.labels[:1], attributes={n: c[:1] for n, c in DATA.attributes.items()}
    )
    other = next(value for value in ("thin", "bold") if value != DATA.describe(0)["stroke"])
    with pytest.raises(DataError, match=f"none of the 1 images of digits is {other}"):
        Directions(Transparent(), first).between("", f"a {other} digit")
