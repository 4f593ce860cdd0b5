"""How people write the ten digits: control points of pen strokes, read from `glyphs.txt`.

A *variant* is a way to write a digit that has a name in the captions ("a seven with a bar"). A variant has one or more
*hands*, ways to write it that have no name; each is a paragraph below. Each line of a paragraph is a *form*. All forms
of a hand have the same topology, and the pen draws a random weighted mean of them.

A form is a line of points `x,y` in hundredths of the digit's height, y pointing down. A point ending in `!` is a
corner, where the stroke changes direction at once; `/` ends a stroke. Elsewhere the stroke is smooth.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

GLYPHS: dict[str, dict[str, list[list[str]]]] = {}  # digit -> variant -> its hands, each a list of forms
for _hand in Path(__file__).with_suffix(".txt").read_text(encoding="ascii").strip().split("\n\n"):
    _forms = _hand.split("\n")
    if ":" in _forms[0]:
        _digit, _variant = _forms.pop(0).split(": ")
    GLYPHS.setdefault(_digit, {}).setdefault(_variant, []).append(_forms)

DIGITS = tuple(GLYPHS)
VARIANTS = tuple(dict.fromkeys(variant for variants in GLYPHS.values() for variant in variants))
VARIANTS_OF = {digit: tuple(variants) for digit, variants in GLYPHS.items()}


class Hands(NamedTuple):
    """The glyphs as arrays, for the pen. H hands, at most F forms each, at most P points each."""

    points: np.ndarray  # (H, F, P, 2) float64, in units of the digit's height
    corner: np.ndarray  # (H, P) bool: the pen changes direction here
    lift: np.ndarray  # (H, P) bool: a new stroke begins here
    point_count: np.ndarray  # (H,) int64
    form_count: np.ndarray  # (H,) int64
    first: np.ndarray  # (digits, variants) int64: the first hand of a variant of a digit, -1 where there is none
    count: np.ndarray  # (digits, variants) int64: its number of hands


def _parse(form: str) -> tuple[list[tuple[float, float]], list[bool], list[bool]]:
    """Points, corners and lifts of a form, one of each for every point."""
    places = [(token, place == 0) for stroke in form.split("/") for place, token in enumerate(stroke.split())]
    points = [tuple(int(number) / 100 for number in token.rstrip("!").split(",")) for token, _ in places]
    return points, [token.endswith("!") for token, _ in places], [lift for _, lift in places]


@functools.cache
def tabulate() -> Hands:
    """GLYPHS as arrays. Forms of one hand must agree in points, corners and lifts (ValueError)."""
    hands = []
    first = np.full((len(DIGITS), len(VARIANTS)), -1)
    count = np.zeros_like(first)
    for digit, variants in enumerate(GLYPHS.values()):
        for variant, variant_hands in variants.items():
            place = digit, VARIANTS.index(variant)
            first[place], count[place] = len(hands), len(variant_hands)
            hands += [[_parse(form) for form in forms] for forms in variant_hands]
    form_max = max(len(forms) for forms in hands)
    point_max = max(len(forms[0][0]) for forms in hands)
    points = np.zeros((len(hands), form_max, point_max, 2))
    corner, lift = np.zeros((2, len(hands), point_max), bool)
    for hand, forms in enumerate(hands):
        for form, (form_points, form_corner, form_lift) in enumerate(forms):
            if (form_corner, form_lift) != forms[0][1:]:
                raise ValueError(f"forms 0 and {form} of hand {hand} differ in topology")
            points[hand, form, : len(form_points)] = form_points
        corner[hand, : len(form_corner)] = forms[0][1]
        lift[hand, : len(form_lift)] = forms[0][2]
    point_count = np.array([len(forms[0][0]) for forms in hands])
    form_count = np.array([len(forms) for forms in hands])
    return Hands(points, corner, lift, point_count, form_count, first, count)
