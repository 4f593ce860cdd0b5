"""The languages of captions: what the captions of a data set can say, and what they mean.

    Names        a caption is the name of a class: "boot", "red panda"                MNIST, Fashion-MNIST, folders
    Sentences    it says some of several attributes: "a bold seven, slanting right"   HANDWRITING, the built-in digits,
                                                                                      and MOTION, those that move

A sentence says any of its attributes, in any order. What it leaves out is open, so "seven" is true of every seven and
the empty caption of everything. Training draws four kinds, in the proportions of MIX:

    full      "a bold seven with a bar, slanting right, small"
    partial   "a small digit, slanting right" or "an open four, bold": any attributes, in any order
    short     "seven"
    empty     ""

Capitals and punctuation make no difference, nor do underscores and articles that are not words of the language.
"""

import difflib
import functools
import re
from collections.abc import Mapping, Sequence

import numpy as np

from datasets.errors import CaptionError, DataError
from datasets.glyphs import DIGITS, VARIANTS, VARIANTS_OF

MIX = {"full": 0.30, "partial": 0.40, "short": 0.25, "empty": 0.05}

_ARTICLES = ("a", "an", "the")
_REDUNDANT = {"ankle": "boot", "top": "t-shirt"}  # beside these words: Fashion-MNIST calls its classes so
_BETWEEN = re.compile(r"[\s_!\"#$%&()*+,./:;<=>?@\[\\\]^`{|}~…“”„«»¿¡。、！？]+")


def words(text: str) -> list[str]:
    """The words of any text: split at spaces and commas, in small letters."""
    return text.lower().replace(",", " ").split()


class Language:
    """What captions can say.

    name         by which a checkpoint remembers it, see `language`
    vocabulary   every word, in the order in which models number them
    attributes   name -> the values that a caption can give it; none where captions are names
    """

    attributes: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, name: str, vocabulary: Sequence[str]):
        self.name, self.vocabulary = name, tuple(vocabulary)
        self._known = frozenset(vocabulary)

    @property
    def phrases(self) -> dict[str, list[str]]:
        """Attribute -> how a caption says each of its values, "" for one that it never says; the noun comes first."""
        return {"name": list(self.vocabulary)}

    def words(self, text: str) -> list[str]:
        """The words of a caption, all in the vocabulary; none for the empty caption.

        CaptionError for an unknown word, with the nearest known ones, and for a caption, not empty, that says nothing.
        """
        found = words(text)
        if self._known.issuperset(found) and (found or not text.strip()):  # so are all captions that training draws
            return found
        pieces = [word for token in found for word in ([token] if token in self._known else _pieces(token))]
        found, rest = [], pieces
        while rest:
            word, pair = rest[0], "-".join(rest[:2])
            readings = ([word], 1), ([pair], 2), (word.split("-"), 1)  # "boot", "t shirt", "red-panda"
            said, count = next((way for way in readings if self._known.issuperset(way[0])), ([], 1))
            if not said and word not in _ARTICLES and _REDUNDANT.get(word) not in pieces:
                raise CaptionError(f"unknown word {_quote(word)} in the caption {_quote(text)}; {self._nearest(word)}")
            found += said
            rest = rest[count:]
        if not found:
            raise CaptionError(f"the caption {_quote(text)} has no word in it; say '' for any image")
        return found

    def check(self, text: str) -> None:
        """CaptionError, in one sentence, for a caption that means nothing in this language."""
        self.words(text)

    def _nearest(self, word):
        numerals = dict(zip("0123456789", DIGITS, strict=True))
        near = [numerals[word]] if numerals.get(word) in self._known else []
        near = near or difflib.get_close_matches(word[:40], self.vocabulary, n=3, cutoff=0.55)
        if near:
            return "did you mean " + " or ".join(repr(word) for word in near) + "?"
        if not self.vocabulary:
            return "the data knows no words, only the empty caption"
        shown = [repr(word)[1:-1] for word in self.vocabulary[:40]]
        return "the known words are " + ", ".join(shown) + ", ..." * (len(self.vocabulary) > len(shown))


class Names(Language):
    """A caption is the name of a class. Codes (n, 1) are the classes of images."""

    def __init__(self, classes: Sequence[str], vocabulary: Sequence[str]):
        super().__init__("names", vocabulary)
        self.classes = tuple(classes)

    def full(self, codes) -> str:
        return self.classes[codes[0]]

    def draw(self, codes: np.ndarray, rng: np.random.Generator) -> list[str]:
        """Names, but now and then (MIX) the empty caption, so that a model learns what to paint when told nothing."""
        silent = rng.random(len(codes)) < MIX["empty"]
        return ["" if nothing else self.full(row) for nothing, row in zip(silent, codes.tolist(), strict=True)]

    def contradicting(self, codes: np.ndarray, captions: list[str], rng: np.random.Generator) -> list[str]:
        """For each image the name of another class. DataError if there is none."""
        if len(self.classes) < 2:
            raise DataError("the data set has a single class, so no caption is false of its images")
        others = (codes[:, 0] + rng.integers(1, len(self.classes), len(codes))) % len(self.classes)
        return [self.classes[label] for label in others.tolist()]

    def change(self, text: str, wanted: str) -> str:
        """The caption `text` after an edit: `wanted`. CaptionError as from `words`."""
        return " ".join(self.words(wanted))


class Sentences(Language):
    """A caption says some attributes, the first of which is the noun. Codes (n, k) index the values of all.

    front      the attributes that a full caption says before the noun; the others follow it
    spoken     (attribute, value) -> how it is said, where it is not said as it is called; the value "" never is
    owned      attribute -> (owner, (the owner's value -> the values that it can have)) where it depends on another
    rare       noun -> the values of other attributes that never meet it, all together, in training; the same values
               for all nouns but one would leave no false caption
    """

    def __init__(self, name: str, attributes: Mapping[str, tuple[str, ...]], front, spoken, owned, rare):
        self.attributes, self.owned, self.rare = dict(attributes), owned, rare
        self._names = tuple(attributes)
        self._noun = self._names[0]
        self._phrases = [[spoken.get((name, value), value) for value in values] for name, values in attributes.items()]
        self._meaning = {
            tuple(phrase.split()): (name, attributes[name][code])
            for name, phrases in zip(self._names, self._phrases, strict=True)
            for code, phrase in enumerate(phrases)
            if phrase
        }
        self._longest = max(map(len, self._meaning))
        self._fillers = ("a", "an", self._noun)
        self._order = [self._names.index(name) for name in (*front, *(n for n in self._names if n not in front))]
        self._front = [name in front for name in self._names]
        super().__init__(name, sorted({word for phrase in self._meaning for word in phrase} | set(self._fillers)))
        # True captions come again and again; false ones are many, and cost 9 us each.
        self._parse = functools.lru_cache(maxsize=1 << 12)(self._read)

    @property
    def phrases(self) -> dict[str, list[str]]:
        return dict(zip(self._names, self._phrases, strict=True))

    def check(self, text: str) -> None:
        self._parse(text)

    def parse(self, text: str) -> dict[str, str]:
        """What a caption says: attribute -> value, a subset of `attributes`.

        CaptionError for an unknown word, half a phrase, two values of one attribute, or one that its noun cannot have.
        """
        return dict(self._parse(text))

    def _read(self, text):
        tokens = self.words(text)
        said: dict[str, str] = {}
        position = 0
        while position < len(tokens):
            ahead = (tuple(tokens[position : position + size]) for size in range(self._longest, 0, -1))
            phrase = next((run for run in ahead if run in self._meaning), None)
            if phrase is None:
                word = tokens[position]
                if word not in self._fillers:
                    choices = " or ".join(repr(" ".join(phrase)) for phrase in self._meaning if word in phrase)
                    raise CaptionError(f"{word!r} is not complete in the caption {_quote(text)}; say {choices}")
                position += 1
                continue
            name, value = self._meaning[phrase]
            if said.setdefault(name, value) != value:
                both = f"{said[name]!r} and {value!r}"
                raise CaptionError(f"the caption {_quote(text)} says two things about the {name}: {both}")
            position += len(phrase)
        for name, (owner, values_of) in self.owned.items():
            if owner in said and name in said and said[name] not in (allowed := values_of[said[owner]]):
                what = f"a {said[owner]}" if owner == self._noun else f"what is {said[owner]!r}"
                it_can_be = " or ".join(map(repr, filter(None, allowed))) or "nothing of the kind"
                wrong = f"{what} is never {said[name]!r}, as in the caption {_quote(text)}"
                raise CaptionError(f"{wrong}; it can be {it_can_be}")
        return tuple(said.items())

    def contradicts(self, text: str, attributes: Mapping[str, str]) -> bool:
        """Whether a caption says anything that is false of a picture with these attributes (name -> value)."""
        return any(attributes[name] != value for name, value in self._parse(text))

    def held_out(self, attributes: Mapping[str, str]) -> bool:
        """Whether pictures with these attributes are kept out of training."""
        rare = self.rare.get(attributes[self._noun])
        return bool(rare) and all(attributes[name] == value for name, value in rare.items())

    def full(self, codes) -> str:
        """The caption that says everything about a picture with these codes (k,)."""
        return self._sentence(codes, self._order, self._front)

    def change(self, text: str, wanted: str) -> str:
        """The caption `text` with what `wanted` says in the place of what it said of the same attributes.

        A caption that says it already comes back word for word. What depends on another thing goes with it unless the
        new one can have it too. CaptionError as from `parse`.
        """
        before = self.parse(text)
        said = before | self.parse(wanted)
        if said == before:
            return text
        for name, (owner, values_of) in self.owned.items():
            if said.get(name) not in values_of.get(said.get(owner), self.attributes[name]):
                said.pop(name, None)
        return self._compose(said)

    def silence(self, text: str, names) -> str:
        """The caption `text` without what it says of these attributes. CaptionError as from `parse`."""
        return self._compose({name: value for name, value in self._parse(text) if name not in names})

    def _compose(self, said):
        """A caption that says this and no more."""
        row = [values.index(said.get(name, values[0])) for name, values in self.attributes.items()]
        order = [name for name in self._order if self._names[name] in said]
        return self._sentence(row, order, self._front) if order else ""

    def draw(self, codes: np.ndarray, rng: np.random.Generator) -> list[str]:
        """Training captions of pictures: kinds as in MIX, partial ones at random."""
        kinds = np.searchsorted(np.cumsum(list(MIX.values()))[:-1], rng.random(len(codes)), side="right")
        partials = self._partials(len(codes), rng)
        drawn = []
        for row, kind, *partial in zip(codes.tolist(), kinds.tolist(), *partials, strict=True):
            if kind == 0:
                drawn.append(self.full(row))
            elif kind == 1:
                drawn.append(self._partial(row, *partial))
            else:
                drawn.append(self._phrases[0][row[0]] if kind == 2 else "")
        return drawn

    def contradicting(self, codes: np.ndarray, captions: list[str], rng: np.random.Generator) -> list[str]:
        """For each picture a caption like the given one in form and extent, but false in one of the things it says.

        Half of them, where the given caption says the noun, say another; an empty caption becomes another noun. No
        false caption describes what is held out of training: else a discriminator would learn that it is always false.
        """
        _, orders, fronts = self._partials(len(codes), rng)
        answers = []
        for row, caption, order, front in zip(codes.tolist(), captions, orders, fronts, strict=True):
            said = [self._names.index(name) for name, _ in self._parse(caption)] or [0]
            lie = self._lie(row, said, rng)
            if caption == self.full(row):
                answers.append(self.full(lie))
            elif said == [0] and caption in ("", self._phrases[0][row[0]]):
                answers.append(self._phrases[0][lie[0]])
            else:
                answers.append(self._partial(lie, sum(1 << name for name in said), order, front))
        return answers

    def _lie(self, row, said, rng):
        """Codes that differ from row in one attribute of said, and may be trained on."""
        while True:
            lie = list(row)
            noun_or_any, which, value = rng.random(3).tolist()
            name = 0 if 0 in said and noun_or_any < 0.5 else _pick(said, which)
            phrases, options = self._phrases[name], self._choices(name, row, said)
            lie[name] = _pick([code for code in options if code != row[name] and phrases[code]], value)
            for owned, (owner, _) in self.owned.items():
                if owner == self._names[name]:
                    owned = self._names.index(owned)
                    lie[owned] = _pick(self._choices(owned, lie, [name]), which)
            pairs = zip(self.attributes.items(), lie, strict=True)
            if 0 not in said or not self.held_out({name: values[code] for (name, values), code in pairs}):
                return lie

    def _choices(self, name, row, said):
        """The codes that an attribute can have beside the others of row, as far as they are said."""
        values = self.attributes[self._names[name]]
        owner, values_of = self.owned.get(self._names[name], (None, {}))
        if owner is None or (place := self._names.index(owner)) not in said:
            return range(len(values))
        return [values.index(value) for value in values_of[self.attributes[owner][row[place]]]]

    def _partials(self, n, rng):
        """For n partial captions: what is said, as bits, the order, and which attributes like to stand first."""
        k = len(self._names)
        subsets = rng.integers(1, 1 << k, n).tolist()
        orders = np.argsort(rng.random((n, k)), axis=1).tolist()
        fronts = (rng.random((n, k)) < 0.5).tolist()
        return subsets, orders, fronts

    def _partial(self, row, subset, order, front):
        return self._sentence(row, [name for name in order if subset >> name & 1], front)

    def _sentence(self, row, order, front):
        """The attributes of order: one-word ones that like to stand in front before the noun, the rest after it."""
        noun, before, after = self._noun, [], []
        for name in order:
            phrase = self._phrases[name][row[name]]
            if name == 0:
                noun = phrase
            elif front[name] and phrase and " " not in phrase and not phrase.endswith("ly"):  # a noun has no adverbs
                before.append(phrase)
            elif phrase:
                after.append(phrase)
        head = " ".join([*before, noun])
        head = ("an " if head[0] in "aeiou" and not head.startswith("one") else "a ") + head
        if after and after[0].startswith("with"):
            head += " " + after.pop(0)
        return ", ".join([head, *after])


def _pieces(token):
    return [piece for part in _BETWEEN.split(token) if (piece := part.strip("-'‘’–—"))]


def _pick(options, uniform):
    return options[int(uniform * len(options))]


def _quote(text):
    return repr(text if len(text) <= 60 else text[:57] + "...")


# (stroke, slant) that never meets this digit in training. Every word, and every pair of words, is still seen.
HELD_OUT = {
    "zero": ("bold", "left"), "one": ("thin", "right"), "two": ("bold", "upright"), "three": ("thin", "left"),
    "four": ("bold", "right"), "five": ("thin", "upright"), "six": ("bold", "left"), "seven": ("thin", "right"),
    "eight": ("bold", "right"), "nine": ("thin", "left"),
}  # fmt: skip

# A variant is a way to write a digit that has a name: "with a bar".
HANDWRITING = Sentences(
    name="digits",
    attributes={
        "digit": DIGITS,
        "variant": VARIANTS,
        "stroke": ("thin", "bold"),
        "slant": ("left", "upright", "right"),
        "size": ("small", "large"),
    },
    front=("stroke", "variant", "digit"),
    spoken={("slant", "left"): "slanting left", ("slant", "right"): "slanting right"},
    owned={"variant": ("digit", VARIANTS_OF)},
    rare={digit: {"stroke": stroke, "slant": slant} for digit, (stroke, slant) in HELD_OUT.items()},
)

DIRECTIONS = ("left", "right", "up", "down", "up and left", "up and right", "down and left", "down and right", "still")
# The direction in which this digit never moves in training.
NEVER_MOVES = {
    "zero": "right", "one": "up", "two": "left", "three": "down and right", "four": "up and right",
    "five": "down", "six": "up and left", "seven": "down and left", "eight": "left", "nine": "right",
}  # fmt: skip

# What stands still has no speed and meets no wall.
MOTION = Sentences(
    name="moving",
    attributes={
        "digit": DIGITS,
        "stroke": ("thin", "bold"),
        "direction": DIRECTIONS,
        "speed": ("slowly", "fast", ""),
        "walls": ("bouncing", "wrapping", ""),
    },
    front=("stroke", "digit"),
    spoken={("direction", way): f"moving {way}" for way in DIRECTIONS[:-1]},
    owned={
        name: ("direction", {way: ("",) if way == "still" else values for way in DIRECTIONS})
        for name, values in {"speed": ("slowly", "fast"), "walls": ("bouncing", "wrapping")}.items()
    },
    rare={digit: {"direction": way} for digit, way in NEVER_MOVES.items()},
)
LANGUAGES = {language.name: language for language in (HANDWRITING, MOTION)}


def language(name: str, vocabulary: Sequence[str]) -> Language:
    """The language that a checkpoint has under this name, with these words. DataError if there is none.

    Older checkpoints have no name, "": then the words tell.
    """
    if name == "names" or (not name and set(vocabulary) != set(HANDWRITING.vocabulary)):
        return Names((), vocabulary)
    found = LANGUAGES.get(name or HANDWRITING.name)
    if found is None or not set(found.vocabulary) <= set(vocabulary):
        known = ", ".join([*LANGUAGES, "names"])
        raise DataError(f"there is no language {name!r} with the vocabulary that is given; known are {known}")
    return found
