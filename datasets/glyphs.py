"""How people write the ten digits: control points of pen strokes, as data.

A *variant* is a way to write a digit that has a name in the captions ("a seven with a bar"). A variant lists one or
more *hands*, ways to write it that have no name. A hand lists *forms* of the same topology; a pen blends them, so that
two forms span a whole family of shapes.

A form is a line of points `x,y` in hundredths of the digit's height, y pointing down. A point ending in `!` is a
corner, where the pen changes direction at once; `/` lifts the pen. Otherwise the pen runs smoothly through the points.
"""

from typing import NamedTuple

import numpy as np

GLYPHS = {
    "zero": {
        "round": [
            [
                "55,6 30,2 8,22 2,52 10,82 34,98 60,90 74,62 72,30 56,8 44,4",
                "66,16 40,0 14,12 0,46 8,80 36,98 66,92 84,62 80,30 60,6 34,8",
                "30,8 18,22 4,44 10,76 30,98 56,96 78,74 80,42 66,12 40,2 20,14",
            ],
        ],
        "narrow": [
            [
                "30,4 14,8 4,30 0,58 6,86 20,99 34,90 42,64 42,34 34,10 22,3",
                "26,8 12,14 4,36 2,62 8,88 18,98 32,92 42,70 44,40 36,6 20,6",
            ],
        ],
    },
    "one": {
        "plain": [
            ["50,0 49,33 48,66 47,100", "46,0 50,33 50,66 46,100", "50,0 46,33 46,66 50,100"],
        ],
        "with a flag but no foot": [
            ["22,24 38,14 52,0! 52,33 51,66 50,100", "10,34 34,20 52,0! 50,33 50,66 52,100"],
        ],
        "with a flag and a foot": [
            [
                "22,24 38,14 50,0! 51,33 51,66 50,98 / 20,99 50,98 80,98",
                "8,32 34,18 50,0! 50,33 50,66 50,98 / 14,98 50,99 86,96",
            ],
        ],
    },
    "two": {
        "with a loop": [
            [
                "10,22 24,4 48,2 60,20 52,48 34,74 14,92 2,86 10,74 30,82 50,94 76,90",
                "4,26 20,4 46,0 64,22 56,52 36,80 14,96 0,88 8,72 28,78 52,90 84,80",
            ],
        ],
        "without a loop": [
            [
                "8,24 22,4 48,2 62,18 56,42 32,70 4,96! 36,95 72,94",
                "4,18 20,2 50,0 66,22 54,50 28,78 6,98! 38,97 80,98",
                "6,34 16,8 42,0 60,16 52,48 30,72 2,92! 34,88 74,96",
            ],
        ],
    },
    "three": {
        "with a round top": [
            [
                "6,14 26,1 50,4 58,22 46,40 24,47! 48,50 64,68 54,92 28,100 4,88",
                "4,20 22,2 52,0 64,20 48,40 30,46! 52,48 70,66 60,92 30,100 0,92",
            ],
        ],
        "with a flat top": [
            [
                "8,4 34,3 62,2! 46,22 28,40! 54,46 66,68 54,92 28,100 4,88",
                "2,2 34,2 64,4! 42,24 24,38! 56,42 70,68 56,94 26,100 2,94",
            ],
        ],
    },
    "four": {
        "open": [
            [
                "12,2 6,22 2,46! 30,50 70,46 / 54,2 53,34 50,66 46,100",
                "16,0 8,20 4,50! 34,52 76,44 / 60,6 56,36 52,68 48,100",
            ],
            [
                "10,4 4,22 8,44 26,50 46,44 60,30 / 62,2 58,34 54,66 50,100",
                "6,2 2,24 10,48 30,54 50,46 62,30 / 66,4 62,34 60,66 58,100",
            ],
        ],
        "closed": [
            [
                "50,0 28,32 2,66! 36,66 76,64 / 52,0 50,34 49,68 47,100",
                "46,2 24,28 4,56! 34,58 72,54 / 48,0 48,34 48,68 48,100",
            ],
        ],
    },
    "five": {
        "angular": [
            [
                "14,2 12,22 8,44! 30,36 58,46 62,72 42,96 18,98 2,88 / 14,2 38,2 68,0",
                "20,4 16,24 12,44! 36,40 60,52 60,78 38,98 14,100 0,92 / 20,4 46,4 78,2",
            ],
        ],
        "curved": [
            [
                "64,4 42,2 20,8 10,26 18,42 42,50 58,68 50,92 26,100 2,90",
                "70,6 48,4 28,8 18,26 26,42 46,54 54,74 42,94 20,100 0,92",
            ],
        ],
    },
    "six": {
        "straight": [
            [
                "44,0 28,22 12,48 4,72 12,94 32,100 52,86 48,64 28,58 8,74",
                "30,0 18,24 8,48 4,74 14,96 36,100 54,84 46,64 26,62 8,80",
            ],
        ],
        "curved": [
            [
                "62,14 48,0 26,8 8,34 2,66 14,94 38,100 58,82 50,58 26,54 6,70",
                "68,12 50,0 28,8 10,32 4,62 14,92 40,100 64,84 54,62 28,60 6,78",
            ],
        ],
    },
    "seven": {
        "with a bar": [
            [
                "2,6 30,4 64,2! 50,34 38,66 28,100 / 16,52 42,50 70,48",
                "2,10 30,2 66,4! 56,34 44,66 38,100 / 22,50 46,50 74,48",
            ],
        ],
        "without a bar": [
            [
                "2,6 30,4 64,2! 50,34 38,66 28,100",
                "0,8 30,2 66,4! 58,34 46,66 40,100",
            ],
            [
                "4,22 6,4! 34,4 66,4! 50,34 38,66 30,100",
                "0,20 2,6! 34,6 70,2! 56,34 46,66 42,100",
            ],
        ],
    },
    "eight": {
        "round": [
            [
                "64,14 42,0 14,8 14,32 40,48 68,64 74,86 42,100 8,90 8,66 38,48 66,30 66,12",
                "74,10 50,0 20,8 16,30 42,46 66,64 66,86 36,100 6,90 8,68 40,48 70,30 76,12",
            ],
        ],
        "narrow": [
            [
                "32,12 22,0 8,8 8,30 20,48 34,66 38,86 22,100 6,90 6,68 20,48 34,30 34,12",
                "36,10 26,0 12,8 8,28 20,46 32,66 32,88 18,100 4,90 6,70 20,48 34,30 38,12",
            ],
        ],
    },
    "nine": {
        "straight": [
            [
                "58,18 40,2 14,8 4,30 18,46 42,40 58,18! 56,44 54,72 50,100",
                "56,14 36,0 10,10 2,34 18,48 42,38 58,14! 54,44 48,72 40,100",
            ],
        ],
        "curved": [
            [
                "58,18 40,2 14,8 4,28 18,44 42,40 58,18! 60,46 56,78 40,98 20,100 4,90",
                "60,20 40,0 12,8 2,30 18,46 44,40 62,18! 64,48 62,80 46,98 22,98 2,86",
            ],
        ],
    },
}

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
    points, corner, lift = [], [], []
    for stroke in form.split("/"):
        for place, token in enumerate(stroke.split()):
            x, y = token.rstrip("!").split(",")
            points.append((int(x) / 100, int(y) / 100))
            corner.append(token.endswith("!"))
            lift.append(place == 0)
    return points, corner, lift


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
    corner = np.zeros((len(hands), point_max), bool)
    lift = np.zeros((len(hands), point_max), bool)
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
