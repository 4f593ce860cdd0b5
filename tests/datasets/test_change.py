"""Changing a caption: what an edit asks for."""
import numpy as np
import pytest

import datasets
from datasets import CaptionError
from datasets.captions import HANDWRITING, Names

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
    assert HANDWRITING.parse(HANDWRITING.change(FULL, wanted)) == HANDWRITING.parse(FULL) | meaning


def test_a_variant_goes_with_its_digit():
    """Catches a six with a bar."""
    changed = HANDWRITING.parse(HANDWRITING.change(FULL, "six"))
    expected = HANDWRITING.parse(FULL) | {"digit": "six"}
    del expected["variant"]
    assert changed == expected


def test_other_languages_have_names_only():
    names = Names((), ("sneaker", "boot"))
    assert names.change("sneaker", "The boot.") == "boot"
    with pytest.raises(CaptionError, match="bot"):
        names.change("sneaker", "bot")


def test_the_empty_caption_changes_into_what_is_wanted():
    assert HANDWRITING.parse(HANDWRITING.change("", "a bold two")) == {"digit": "two", "stroke": "bold"}
    assert HANDWRITING.change("", "") == ""


def test_a_caption_that_says_it_already_comes_back_word_for_word():
    """Catches the same said in other words: images whose caption "changes" are painted anew."""
    digits = datasets.load("digits", limit=300)
    for drawn in (None, np.random.default_rng(0)):
        for caption in digits.captions(np.arange(300), drawn):
            for name in HANDWRITING.parse(caption):
                others = HANDWRITING.attributes.keys() - {name, "digit" if name == "variant" else name}
                said = HANDWRITING.silence(caption, others)
                assert HANDWRITING.change(caption, said) == caption
