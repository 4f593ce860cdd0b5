"""Changing a caption: what an edit asks for."""
import numpy as np
import pytest

import datasets
from datasets import CaptionError, captions

FULL = "a bold seven with a bar, slanting right, small"


@pytest.mark.parametrize(
    ("wanted", "meaning"),
    [
        ("a thin digit", {"stroke": "thin"}),
        ("large", {"size": "large"}),
        ("seven without a bar", {"variant": "without a bar"}),
        ("", {}),
    ],
)
def test_only_what_is_wanted_changes(wanted, meaning):
    """Catches attributes that are lost or left as they were."""
    assert captions.parse(captions.change(FULL, wanted, captions.VOCABULARY)) == captions.parse(FULL) | meaning


def test_a_variant_goes_with_its_digit():
    """Catches a six with a bar."""
    changed = captions.parse(captions.change(FULL, "six", captions.VOCABULARY))
    expected = captions.parse(FULL) | {"digit": "six"}
    del expected["variant"]
    assert changed == expected


def test_other_languages_have_names_only():
    assert captions.change("sneaker", "boot", ("sneaker", "boot")) == "boot"
    with pytest.raises(CaptionError, match="bot"):
        captions.change("sneaker", "bot", ("sneaker", "boot"))


def test_the_empty_caption_changes_into_what_is_wanted():
    assert captions.parse(captions.change("", "a bold two", captions.VOCABULARY)) == {"digit": "two", "stroke": "bold"}
    assert captions.change("", "", captions.VOCABULARY) == ""


def test_a_caption_that_says_it_already_comes_back_word_for_word():
    """Catches the same said in other words: images whose caption "changes" are painted anew."""
    digits = datasets.load("digits", limit=300)
    for drawn in (None, np.random.default_rng(0)):
        for caption in digits.captions(np.arange(300), drawn):
            for name in captions.parse(caption):
                others = captions.ATTRIBUTES.keys() - {name, "digit" if name == "variant" else name}
                said = captions.silence(caption, others)
                assert captions.change(caption, said, captions.VOCABULARY) == caption
