"""The little language of the built-in digits: its vocabulary, its sentences, their meaning.

A caption says some of five attributes: the digit, the variant (a way to write it that has a name), the stroke, the
slant and the size. What it leaves out is open, so "seven" is true of every seven and the empty caption of everything.

    full      "a bold seven with a bar, slanting right, small"
    partial   "a small digit, slanting right" or "an open four, bold": any attributes, in any order
    short     "seven"
    empty     ""

Training draws them in the proportions of MIX. Meaning does not depend on order, commas or capitals.
"""

import difflib
import functools

import numpy as np

from datasets.errors import CaptionError
from datasets.glyphs import DIGITS, VARIANTS, VARIANTS_OF

ATTRIBUTES = {
    "digit": DIGITS,
    "variant": VARIANTS,
    "stroke": ("thin", "bold"),
    "slant": ("left", "upright", "right"),
    "size": ("small", "large"),
}
MIX = {"full": 0.30, "partial": 0.40, "short": 0.25, "empty": 0.05}

# (stroke, slant) that never meets this digit in training. Every word, and every pair of words, is still seen.
HELD_OUT = {
    "zero": ("bold", "left"),
    "one": ("thin", "right"),
    "two": ("bold", "upright"),
    "three": ("thin", "left"),
    "four": ("bold", "right"),
    "five": ("thin", "upright"),
    "six": ("bold", "left"),
    "seven": ("thin", "right"),
    "eight": ("bold", "right"),
    "nine": ("thin", "left"),
}

_SPOKEN = {("slant", "left"): "slanting left", ("slant", "right"): "slanting right"}
_PHRASE = [[_SPOKEN.get((name, value), value) for value in values] for name, values in ATTRIBUTES.items()]
_NAMES = tuple(ATTRIBUTES)
_MEANING = {
    tuple(phrase.split()): (name, ATTRIBUTES[name][code])
    for name, phrases in zip(_NAMES, _PHRASE, strict=True)
    for code, phrase in enumerate(phrases)
}
_LONGEST = max(map(len, _MEANING))
_FILLERS = ("a", "an", "digit")
_VARIANT_CODES = [[VARIANTS.index(variant) for variant in VARIANTS_OF[digit]] for digit in DIGITS]
_HELD_OUT_CODES = {
    (DIGITS.index(digit), ATTRIBUTES["stroke"].index(stroke), ATTRIBUTES["slant"].index(slant))
    for digit, (stroke, slant) in HELD_OUT.items()
}
VOCABULARY = tuple(sorted({word for phrase in _MEANING for word in phrase} | set(_FILLERS)))


def words(text: str) -> list[str]:
    """The words of any caption: split at spaces and commas, in small letters."""
    return text.lower().replace(",", " ").split()


def check(text: str, vocabulary) -> list[str]:
    """The words of a caption, all in the vocabulary; else CaptionError with the unknown word and the nearest known."""
    found = words(text)
    known = set(vocabulary)
    for word in found:
        if word not in known:
            near = _nearest(word, vocabulary)
            raise CaptionError(f"unknown word {_quote(word)} in the caption {_quote(text)}; {near}")
    return found


@functools.lru_cache(maxsize=1 << 12)  # true captions come again and again; false ones are many, and cost 9 us each
def _parse(text: str) -> tuple[tuple[str, str], ...]:
    tokens = check(text, VOCABULARY)
    said: dict[str, str] = {}
    position = 0
    while position < len(tokens):
        for size in range(min(_LONGEST, len(tokens) - position), 0, -1):
            meaning = _MEANING.get(tuple(tokens[position : position + size]))
            if meaning:
                break
        else:
            size = 1
            if tokens[position] not in _FILLERS:
                raise CaptionError(_alone(tokens[position], text))
        if meaning:
            name, value = meaning
            if said.setdefault(name, value) != value:
                both = f"{said[name]!r} and {value!r}"
                raise CaptionError(f"the caption {_quote(text)} says two things about the {name}: {both}")
        position += size
    digit, variant = said.get("digit"), said.get("variant")
    if digit and variant and variant not in VARIANTS_OF[digit]:
        choices = " or ".join(repr(choice) for choice in VARIANTS_OF[digit])
        raise CaptionError(f"a {digit} is never {variant!r}, as in the caption {_quote(text)}; it can be {choices}")
    return tuple(said.items())


def parse(text: str) -> dict[str, str]:
    """What a caption says: attribute -> value, a subset of ATTRIBUTES.

    CaptionError if it holds an unknown word, half a phrase, two values of one attribute or a variant that its digit
    does not have.
    """
    return dict(_parse(text))


def contradicts(text: str, attributes: dict[str, str]) -> bool:
    """Whether a caption says anything that is false of a picture with these attributes (name -> value)."""
    return any(attributes[name] != value for name, value in _parse(text))


def held_out(attributes: dict[str, str]) -> bool:
    """Whether pictures with these attributes are kept out of training."""
    return HELD_OUT[attributes["digit"]] == (attributes["stroke"], attributes["slant"])


def full(codes) -> str:
    """The caption that says everything about a picture; codes (5,) index the values of ATTRIBUTES, in its order."""
    return _sentence(codes, (2, 1, 0, 3, 4), (True, True, True, False, False))


def change(text: str, wanted: str, vocabulary) -> str:
    """The caption `text` with what `wanted` says in the place of what it said of the same attributes.

    A caption that says it already comes back word for word. A variant goes with its digit unless the new one has it
    too. In another language than the digits' a caption is a single name, and the answer is `wanted`. CaptionError as
    from `parse`.
    """
    check(wanted, vocabulary)
    if set(vocabulary) != set(VOCABULARY):
        return wanted
    before = parse(text)
    said = before | parse(wanted)
    if said == before:
        return text
    if "digit" in said and said.get("variant") not in VARIANTS_OF[said["digit"]]:
        said.pop("variant", None)
    return _compose(said)


def silence(text: str, names) -> str:
    """The caption `text` without what it says of these attributes.  CaptionError as from `parse`."""
    return _compose({name: value for name, value in _parse(text) if name not in names})


def _compose(said: dict[str, str]) -> str:
    """A caption that says this and no more."""
    row = [values.index(said.get(name, values[0])) for name, values in ATTRIBUTES.items()]
    order = [_NAMES.index(name) for name in ("size", "stroke", "variant", "digit", "slant") if name in said]
    return _sentence(row, order, (True, True, True, True, False)) if order else ""


def draw(codes: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Training captions of pictures with codes (n, 5): kinds as in MIX, partial ones at random."""
    n = len(codes)
    kinds = np.searchsorted(np.cumsum(list(MIX.values()))[:-1], rng.random(n), side="right")
    subsets, orders, fronts = _partials(n, rng)
    drawn = []
    for row, kind, subset, order, front in zip(codes.tolist(), kinds.tolist(), subsets, orders, fronts, strict=True):
        if kind == 0:
            drawn.append(full(row))
        elif kind == 1:
            drawn.append(_partial(row, subset, order, front))
        else:
            drawn.append(_PHRASE[0][row[0]] if kind == 2 else "")
    return drawn


def contradicting(codes: np.ndarray, captions: list[str], rng: np.random.Generator) -> list[str]:
    """For each picture a caption like the given one in form and extent, but false in one of the things it says.

    Half of them, where the given caption names the digit, name another; an empty caption becomes another digit's name.
    No false caption describes what is held out of training: else a discriminator would learn that it is always false.
    """
    subsets, orders, fronts = _partials(len(codes), rng)
    answers = []
    for row, caption, order, front in zip(codes.tolist(), captions, orders, fronts, strict=True):
        said = [_NAMES.index(name) for name, _ in _parse(caption)] or [0]
        lie = _lie(row, said, rng)
        if caption == full(row):
            answers.append(full(lie))
        elif said == [0] and caption in ("", _PHRASE[0][row[0]]):
            answers.append(_PHRASE[0][lie[0]])
        else:
            answers.append(_partial(lie, sum(1 << name for name in said), order, front))
    return answers


def _lie(row, said, rng):
    """Codes that differ from row in one attribute of said, and may be trained on."""
    while True:
        lie = list(row)
        digit_or_any, which, value = rng.random(3).tolist()
        name = 0 if 0 in said and digit_or_any < 0.5 else _pick(said, which)
        if name == 1:
            options = _VARIANT_CODES[row[0]] if 0 in said else range(len(VARIANTS))
        else:
            options = range(len(_PHRASE[name]))
        lie[name] = _pick([option for option in options if option != row[name]], value)
        if name == 0:
            lie[1] = _pick(_VARIANT_CODES[lie[0]], which)
        if (lie[0], lie[2], lie[3]) not in _HELD_OUT_CODES or 0 not in said:
            return lie


def _pick(options, uniform):
    return options[int(uniform * len(options))]


def _partials(n, rng):
    """For n partial captions: what is said, as bits 1..31, the order, and which attributes like to stand first."""
    subsets = rng.integers(1, 1 << len(_NAMES), n).tolist()
    orders = np.argsort(rng.random((n, len(_NAMES))), axis=1).tolist()
    fronts = (rng.random((n, len(_NAMES))) < 0.5).tolist()
    return subsets, orders, fronts


def _partial(row, subset, order, front):
    return _sentence(row, [name for name in order if subset >> name & 1], front)


def _sentence(row, order, front):
    """The attributes of order: one-word ones that like to stand in front before the noun, the rest after it."""
    noun, before, after = "digit", [], []
    for name in order:
        phrase = _PHRASE[name][row[name]]
        if name == 0:
            noun = phrase
        elif front[name] and " " not in phrase:
            before.append(phrase)
        else:
            after.append(phrase)
    head = " ".join([*before, noun])
    head = ("an " if head[0] in "aeiou" and not head.startswith("one") else "a ") + head
    if after and after[0].startswith("with"):
        head += " " + after.pop(0)
    return ", ".join([head, *after])


def _quote(text):
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _nearest(word, vocabulary):
    numerals = dict(zip("0123456789", DIGITS, strict=True))
    near = [numerals[word]] if numerals.get(word) in vocabulary else []
    near = near or difflib.get_close_matches(word[:40], vocabulary, n=3, cutoff=0.55)
    if near:
        return "did you mean " + " or ".join(repr(word) for word in near) + "?"
    if not vocabulary:
        return "the data knows no words, only the empty caption"
    shown = list(vocabulary)[:40]
    return "the known words are " + ", ".join(shown) + (", ..." if len(vocabulary) > len(shown) else "")


def _alone(word, text):
    phrases = [" ".join(phrase) for phrase in _MEANING if word in phrase]
    choices = " or ".join(repr(phrase) for phrase in phrases)
    return f"{word!r} is not complete in the caption {_quote(text)}; say {choices}"
