"""The caption language: what is said is true, what contradicts is false, and errors help."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasets
from datasets import captions
from datasets.captions import HANDWRITING, CaptionError, Names
from datasets.glyphs import VARIANTS_OF

ATTRIBUTES, parse, contradicts = HANDWRITING.attributes, HANDWRITING.parse, HANDWRITING.contradicts


@pytest.fixture(scope="module")
def dataset():
    return datasets.load("digits", limit=3000)


@pytest.fixture(scope="module")
def drawn(dataset):
    return dataset.captions(range(3000), np.random.default_rng(0))


def every_picture():
    for digit, variants in VARIANTS_OF.items():
        for rest in itertools.product(variants, *list(ATTRIBUTES.values())[2:]):
            yield dict(zip(ATTRIBUTES, (digit, *rest), strict=True))


def test_the_full_caption_says_everything():
    texts = set()
    for attributes in every_picture():
        text = HANDWRITING.full([values.index(attributes[name]) for name, values in ATTRIBUTES.items()])
        assert parse(text) == attributes
        texts.add(text)
    assert len(texts) == len(list(every_picture()))
    assert "a bold seven with a bar, slanting right, small" in texts
    assert "a thin open four, upright, large" in texts


def test_captions_drawn_are_true_and_in_the_vocabulary(dataset, drawn):
    for index, text in enumerate(drawn):
        assert not contradicts(text, dataset.describe(index)), text
        assert dataset.language.words(text) == captions.words(text)
    assert {word for text in drawn for word in captions.words(text)} == set(dataset.vocabulary)


def test_captions_are_drawn_in_the_documented_mix(dataset, drawn):
    full = dataset.captions(range(3000))
    counts = {
        "full": sum(a == b for a, b in zip(drawn, full, strict=True)),
        "short": sum(text in dataset.classes for text in drawn),
        "empty": drawn.count(""),
    }
    for kind, count in counts.items():
        assert abs(count / 3000 - captions.MIX[kind]) < 0.04, kind
    partial = [text for a, text in zip(full, drawn, strict=True) if text not in (a, "", *dataset.classes)]
    said = {frozenset(parse(text)) for text in partial}
    assert len(said) == 31  # every subset of the attributes but none at all


def test_partial_captions_come_in_any_order():
    row = [7, ATTRIBUTES["variant"].index("with a bar"), 1, 2, 0]
    texts = set(HANDWRITING.draw(np.array([row] * 40_000), np.random.default_rng(1)))
    same = {text for text in texts if len(parse(text)) == 5}
    assert {"a small bold seven with a bar, slanting right", "a seven, slanting right, with a bar, bold, small"} <= same
    assert len(same) > 20


def test_articles_agree(drawn):
    for text in drawn:
        for article, noun in re.findall(r"\b(an?) (\w+)", text):
            assert (article == "an") == (noun in ("open", "upright", "eight")), text


def test_the_same_rng_draws_the_same_captions(dataset):
    draws = [dataset.captions([5, 3, 9], np.random.default_rng(seed)) for seed in (4, 4)]
    assert draws[0] == draws[1]


def test_contradicting_captions_are_false_in_one_thing(dataset, drawn):
    """A false caption that is true after all would teach a discriminator nonsense."""
    rng = np.random.default_rng(2)
    full = dataset.captions(range(3000))
    changed = set()
    for index, (true, false) in enumerate(zip(drawn, dataset.contradicting(range(3000), drawn, rng), strict=True)):
        attributes, said, lie = dataset.describe(index), parse(true), parse(false)
        assert contradicts(false, attributes), (true, false)
        assert set(lie) == (set(said) or {"digit"})
        differing = {name for name in lie if lie[name] != attributes[name]}
        assert len(differing) == 1 or differing == {"digit", "variant"}
        assert (true == full[index]) == (len(lie) == 5 and false == HANDWRITING.full(codes_of(lie)))
        assert (true in ("", *dataset.classes)) == (false in dataset.classes)
        changed |= differing
        if {"digit", "stroke", "slant"} <= set(lie):
            assert not HANDWRITING.held_out(lie)
    assert changed == set(ATTRIBUTES)


def codes_of(said):
    return [values.index(said[name]) for name, values in ATTRIBUTES.items()]


@given(
    st.permutations(["seven", "with a bar", "bold", "slanting right", "small", "a"]), st.sampled_from([" ", ", ", " ,"])
)
def test_order_commas_and_capitals_mean_nothing(phrases, joint):
    text = joint.join(phrases)
    expected = {"digit": "seven", "variant": "with a bar", "stroke": "bold", "slant": "right", "size": "small"}
    assert parse(text) == parse(text.upper()) == expected


def test_contradiction():
    seven = {"digit": "seven", "variant": "with a bar", "stroke": "bold", "slant": "right", "size": "small"}
    for true in ("", "seven", "a digit", "with a bar", "small, bold", "a bold seven with a bar, slanting right, small"):
        assert not contradicts(true, seven), true
    for false in ("one", "a digit without a bar", "a thin seven", "upright", "a large digit with a bar", "open"):
        assert contradicts(false, seven), false
    flagged = {**seven, "digit": "one", "variant": "with a flag and a foot"}
    assert contradicts("a one with a flag but no foot", flagged)
    assert not contradicts("a one with a flag and a foot", flagged)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a bold sevn", "'sevn' .*'seven'"),
        ("8", "'8' .*'eight'"),
        ("qqqq", "'qqqq' .*the known words are"),
        ("a seven with", "'with' .*'with a bar'"),
        ("slanting", "'slanting left' or 'slanting right'"),
        ("seven with a bar without a bar", "two things about the variant: 'with a bar' and 'without a bar'"),
        ("a bold thin two", "two things about the stroke: 'bold' and 'thin'"),
        ("...", "'...' has no word"),
        ("a three with a bar", "a three is never 'with a bar'.*'with a round top' or 'with a flat top'"),
    ],
)
def test_errors_name_the_word_and_help(text, words):
    for read in (HANDWRITING.check, parse):
        with pytest.raises(CaptionError, match=words) as error:
            read(text)
    assert "\n" not in str(error.value)


ODD = "aeinosvwx 7,.-'\"\\\n\t\0éß–\u2003\ud800😀"


@given(st.one_of(st.text(ODD), st.lists(st.sampled_from([*HANDWRITING.vocabulary, ",", "7", "x"])).map(" ".join)))
def test_any_text_is_parsed_or_refused(text):
    """Never another exception, and never an endless message."""
    try:
        said = parse(text)
    except CaptionError as error:
        assert len(str(error)) < 600
    else:
        assert all(value in ATTRIBUTES[name] for name, value in said.items())


FASHION = ("t-shirt", "trouser", "shirt", "boot")


@pytest.mark.parametrize(
    ("vocabulary", "text", "words"),
    [
        (HANDWRITING.vocabulary, "The seven. (Bold!)", "seven bold"),
        (HANDWRITING.vocabulary, "a_bold/seven;small", "a bold seven small"),
        (FASHION, "T-Shirt, shirt", "t-shirt shirt"),
        (FASHION, "T-shirt/top", "t-shirt"),
        (FASHION, "a t shirt", "t-shirt"),
        (FASHION, "Ankle_boot.", "boot"),
        (("seven", "eight"), "a seven", "seven"),
        (("red", "panda"), "“Red_Panda”", "red panda"),
        (("red", "panda"), "the red-panda?", "red panda"),
        (("ankle", "boot"), "ankle boot", "ankle boot"),
        (("c++", "c", "a"), "C++ a", "c++ a"),
        (("\U0001f408", "rock-'n'-roll"), "\U0001f408. rock-'n'-roll!", "\U0001f408 rock-'n'-roll"),
    ],
)
def test_what_a_caption_may_be_written_like(vocabulary, text, words):
    """Also catches words of a vocabulary that lose their punctuation, and so become unknown or one another."""
    assert Names((), vocabulary).words(text) == words.split()


@pytest.mark.parametrize(
    ("vocabulary", "text", "words"),
    [
        (FASHION, "shirts", "'shirts' .*'shirt' or 't-shirt'"),
        (FASHION, "seven", "'seven' .*the known words are t-shirt, trouser, shirt, boot$"),
        (FASHION, "ankle", "'ankle'"),
        (FASHION, "--", "'--' has no word"),
        (FASHION, "a", "'a' has no word"),
        (("red", "panda"), "blue_panda", "'blue'"),
        ((), "cat", "knows no words"),
        (("\x1b[31m",), "qqqq", r"words are \\x1b\[31m$"),
    ],
)
def test_what_names_refuse(vocabulary, text, words):
    with pytest.raises(CaptionError, match=words):
        Names((), vocabulary).check(text)


def test_a_language_is_found_by_its_name_or_for_older_checkpoints_by_its_words():
    shuffled = HANDWRITING.vocabulary[::-1]
    for name, vocabulary in (("digits", shuffled), ("", shuffled), ("digits", (*shuffled, "more"))):
        assert captions.language(name, vocabulary) is HANDWRITING
    for name, vocabulary in (("names", shuffled), ("", FASHION), ("", ())):
        found = captions.language(name, vocabulary)
        assert found.name == "names" and found.vocabulary == vocabulary
    for name, vocabulary in (("digits", FASHION), ("latin", shuffled)):
        with pytest.raises(datasets.DataError, match=f"no language '{name}'"):
            captions.language(name, vocabulary)


def test_silence_leaves_out_what_is_named_and_nothing_else():
    for attributes in itertools.islice(every_picture(), 0, None, 7):
        text = HANDWRITING.full([values.index(attributes[name]) for name, values in ATTRIBUTES.items()])
        for names in ({"stroke"}, {"digit", "variant"}, {"slant", "size"}, set()):
            left = {name: value for name, value in attributes.items() if name not in names}
            assert parse(HANDWRITING.silence(text, names)) == left
    assert HANDWRITING.silence("bold", {"stroke"}) == HANDWRITING.silence("", {"size"}) == ""


def test_another_language_is_made_of_its_attributes_alone():
    """As films would have it.  Catches what is taken for granted of digits: variants, five attributes, the noun."""
    ways = ("left", "right", "up")
    films = captions.Sentences(
        "films",
        {
            "thing": ("ball", "owl", "cat"), "stroke": ("thin", "bold"), "way": (*ways, "still"),
            "speed": ("slowly", "fast"),
        },
        front=("stroke", "thing"),
        spoken={("way", way): f"moving {way}" for way in ways},
        owned={},
        rare={"owl": {"way": "up"}},
    )
    owl = {"thing": "owl", "stroke": "bold", "way": "left", "speed": "fast"}
    assert films.parse("a bold owl moving left, fast") == owl
    assert films.full([1, 1, 0, 1]) == "a bold owl, moving left, fast"
    assert films.change("a bold owl moving left, fast", "a still ball") == "a bold ball, still, fast"
    assert films.silence("a bold owl moving left, fast", {"thing"}) == "a bold thing, moving left, fast"
    assert films.held_out({**owl, "way": "up"}) and not films.held_out(owl)
    with pytest.raises(CaptionError, match="say 'moving left' or 'moving right' or 'moving up'"):
        films.check("an owl moving")
    rng = np.random.default_rng(0)
    codes = rng.integers(0, [3, 2, 4, 2], (500, 4))
    true = films.draw(codes, rng)
    for row, said, lie in zip(codes.tolist(), true, films.contradicting(codes, true, rng), strict=True):
        attributes = {name: values[code] for (name, values), code in zip(films.attributes.items(), row, strict=True)}
        assert not films.contradicts(said, attributes)
        assert sum(attributes[name] != value for name, value in films.parse(lie).items()) == 1
        assert not films.parse(lie).items() >= {("thing", "owl"), ("way", "up")} or attributes["way"] == "up"
