"""Captions to tokens to embeddings."""
import numpy as np
import pytest

from datasets import CaptionError
from generators.parts.text import TextEncoder, Vocabulary, WordSum

WORDS = ("a", "bold", "seven", "thin", "two")


def encoder(dtype=np.float64):
    return TextEncoder(len(WORDS) + 1, 8, np.random.default_rng(0)).astype(dtype)


def test_tokens():
    """Catches a word numbered 0, which is padding, and commas or capitals taken as part of a word."""
    tokens = Vocabulary(WORDS).encode(["A bold, seven", "", "two"])
    np.testing.assert_array_equal(tokens, [[1, 2, 3], [0, 0, 0], [5, 0, 0]])
    assert Vocabulary(WORDS).encode([""]).shape == (1, 1)


def test_unknown_words_are_named_with_a_suggestion():
    with pytest.raises(CaptionError, match="'sevn'.*'seven'"):
        Vocabulary(WORDS).encode(["a bold sevn"])


def test_padding_says_nothing():
    """Catches an embedding of padding that leaks into short captions beside long ones."""
    alone = encoder()(Vocabulary(WORDS).encode(["two"])).data
    beside = encoder()(Vocabulary(WORDS).encode(["two", "a bold thin seven"])).data
    np.testing.assert_allclose(alone[0], beside[0], rtol=1e-12)


def test_every_word_counts_and_order_does_not():
    """Catches an encoder that reads the first word only, or the last."""
    embed = lambda *captions: encoder()(Vocabulary(WORDS).encode(list(captions))).data  # noqa: E731
    a, b, c, d = embed("bold seven", "seven bold", "thin seven", "bold two")
    np.testing.assert_allclose(a, b, rtol=1e-12)
    assert np.abs(a - c).max() > 1e-3 and np.abs(a - d).max() > 1e-3 and np.abs(c - d).max() > 1e-3


def test_words_add_up():
    """Catches a mean instead of a sum, a word counted once however often it is said, padding that says something."""
    words = WordSum(len(WORDS) + 1, 8, np.random.default_rng(0)).astype(np.float64)
    embed = lambda caption: words(Vocabulary(WORDS).encode([caption])).data[0]  # noqa: E731
    np.testing.assert_allclose(embed("a bold seven"), sum(map(embed, ("a", "bold", "seven"))), rtol=1e-12)
    np.testing.assert_allclose(embed("two two"), 2 * embed("two"), rtol=1e-12)
    np.testing.assert_array_equal(embed(""), 0)


def test_words_begin_quietly_where_nothing_brings_them_to_one_length():
    """Catches words as loud as noise, eight of which would drown it."""
    for kind, deviation in ((WordSum, 0.35), (TextEncoder, 1.0)):
        assert kind(1000, 64, np.random.default_rng(0)).table.data.std() == pytest.approx(deviation, rel=0.02)
