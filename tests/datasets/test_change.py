"""Changing a caption: what an edit asks for."""
import pytest

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
