"""How people write the ten digits: control points of pen strokes, as data.

A *variant* is a way to write a digit that has a name in the captions ("a seven with a bar"). A variant has one or more
*hands*, ways to write it that have no name; each is a paragraph below. Each line of a paragraph is a *form*. All forms
of a hand have the same topology, and the pen draws a random weighted mean of them.

A form is a line of points `x,y` in hundredths of the digit's height, y pointing down. A point ending in `!` is a
corner, where the stroke changes direction at once; `/` ends a stroke. Elsewhere the stroke is smooth.
"""

import functools
from typing import NamedTuple

import numpy as np

_TEXT = """\
zero: round
57,6 30,2 6,22 0,52 8,82 34,98 64,90 80,62 76,30 58,8 44,4
66,16 40,0 14,12 0,46 8,80 36,98 66,92 84,62 80,30 60,6 34,8
30,8 16,22 2,44 8,76 30,98 58,96 80,74 84,42 68,12 40,2 20,14

zero: narrow
28,4 14,8 4,30 0,58 6,86 18,99 31,90 38,64 38,34 31,10 20,3
25,8 12,14 5,36 3,62 8,88 18,98 30,92 39,70 40,40 33,6 19,6

one: plain
50,0 49,33 48,66 47,100
46,0 50,33 50,66 46,100
50,0 46,33 46,66 50,100

one: with a flag but no foot
26,26 40,14 52,0! 52,33 51,66 50,100
14,38 36,20 52,0! 50,33 50,66 52,100

one: with a flag and a foot
24,26 38,14 50,0! 51,33 51,66 50,98 / 18,99 50,98 82,98
12,34 34,18 50,0! 50,33 50,66 50,98 / 10,98 50,99 90,96

two: with a loop
10,22 24,4 48,2 60,20 52,44 36,72 14,96 0,90 4,72 26,70 48,88 76,90
4,26 20,4 46,0 64,22 56,48 38,78 14,98 -2,88 4,68 26,68 52,88 84,82
12,44 8,16 38,0 56,18 50,50 36,78 14,98 0,84 12,64 38,74 56,94 72,92
0,16 24,8 48,10 60,28 50,50 34,72 10,92 4,74 20,62 44,72 70,92 100,90
26,32 8,20 30,0 58,14 52,44 36,74 16,98 0,86 10,66 34,70 52,88 78,88
22,22 34,4 50,4 56,20 48,46 34,72 16,96 2,88 10,70 32,72 58,86 96,84
8,14 24,2 40,4 44,20 38,48 28,74 12,98 -2,88 8,66 28,72 40,86 56,92

two: without a loop
8,24 22,4 48,2 62,18 56,42 32,70 4,96! 36,95 72,94
4,18 20,2 50,0 66,22 54,50 28,78 6,98! 38,97 80,98
6,34 16,8 42,0 60,16 52,48 30,72 2,92! 34,88 74,96
10,36 2,14 26,0 44,16 42,46 30,72 8,94! 28,98 54,98
4,8 26,6 50,8 62,22 50,44 30,66 2,84! 40,90 90,98
26,30 10,20 30,0 56,14 50,44 28,72 4,96! 34,94 70,92

12,20 32,4 52,4 56,24 42,54 22,82 4,98! 38,88 78,80
20,26 32,6 48,2 54,16 46,46 30,72 10,96! 44,94 90,94
16,14 28,4 42,4 46,18 40,46 30,72 16,96! 36,94 58,90
6,16 30,2 62,4 66,26 46,52 26,76 8,98! 28,97 48,96

three: with a round top
4,22 18,2 44,2 56,20 44,40 22,47! 48,50 64,68 54,92 28,100 4,88
2,28 18,2 48,-2 62,18 48,40 30,46! 52,48 70,66 60,92 30,100 0,92
10,26 16,4 36,2 44,18 34,38 16,46! 38,50 50,68 42,92 20,100 4,94
0,24 20,0 54,0 66,18 50,32 26,38! 54,44 74,64 62,92 24,98 -4,84
6,24 18,2 44,0 56,16 46,36 32,44! 46,48 54,64 50,84 36,96 20,98
0,26 16,2 48,0 60,16 52,36 40,46! 58,50 66,70 54,90 28,100 6,96

three: with a flat top
4,3 34,2 66,0! 48,22 28,40! 54,46 66,68 54,92 28,100 4,88
0,2 34,2 68,2! 44,24 24,38! 56,42 70,68 56,94 26,100 2,94
2,2 26,2 52,2! 36,22 20,40! 42,44 52,68 42,94 22,100 6,96
2,3 34,2 66,0! 52,20 36,38! 56,46 60,68 50,88 34,98 18,100

four: open
12,2 6,22 2,46! 30,50 70,46 / 54,2 53,34 50,66 46,100
16,0 8,20 4,50! 34,52 76,44 / 60,6 56,36 52,68 48,100
20,6 12,30 2,60! 30,62 64,58 / 42,12 42,40 40,70 38,100

10,4 4,22 8,44 26,50 46,44 60,30 / 62,2 58,34 54,66 50,100
6,2 2,24 10,48 30,54 50,46 62,30 / 66,4 62,34 60,66 58,100

four: closed
50,0 28,32 2,66! 36,66 76,64 / 52,0 50,34 49,68 47,100
46,2 24,28 4,56! 34,58 72,54 / 48,0 48,34 48,68 48,100
60,0 30,28 2,58! 40,60 84,58 / 62,0 58,34 55,68 52,100

five: with a long top
16,2 14,22 10,44! 30,36 54,46 58,72 42,96 18,98 2,88 / 16,2 46,2 84,0
30,6 24,22 18,38! 38,42 54,56 48,80 30,94 12,98 -4,98 / 30,6 60,4 104,0
16,4 14,22 12,42! 32,34 50,46 54,72 38,98 12,96 0,74 / 16,4 46,4 82,4

90,2 66,3 38,5 26,22 34,40 48,54 52,74 42,92 20,98 -2,94
104,2 76,4 40,6 26,24 36,40 52,54 56,74 42,92 18,98 -4,100

five: with a short top
14,2 12,22 8,44! 30,36 58,46 62,72 42,96 18,98 2,88 / 14,2 26,2 42,0
16,4 14,22 12,40! 34,34 56,46 60,72 38,98 12,96 0,74 / 16,4 26,4 38,3
20,4 16,24 12,44! 36,40 60,52 60,78 38,98 14,100 0,92 / 20,4 30,4 46,2

42,6 34,2 18,8 12,26 22,40 44,48 58,68 48,94 24,100 2,90
38,6 32,2 18,10 12,28 24,40 44,48 56,70 42,96 14,98 0,78

six: straight
44,0 28,22 12,48 4,72 12,94 32,100 52,86 48,64 28,58 8,74
30,0 18,24 8,48 4,74 14,96 36,100 54,84 46,64 26,62 8,80
54,0 30,20 10,44 2,72 14,98 44,98 72,78 62,56 36,56 10,84
24,0 16,22 8,46 4,72 10,94 24,100 36,86 34,68 22,62 8,80
40,0 24,22 10,48 2,74 16,98 46,96 66,76 56,60 38,62 26,76

six: curved
62,14 48,0 26,8 8,34 2,66 14,94 38,100 58,82 50,58 26,54 6,70
68,14 50,0 28,6 10,32 4,62 14,92 40,100 64,84 54,62 28,60 6,78
52,16 38,0 20,8 6,32 2,64 10,92 26,100 42,84 38,60 22,56 6,74
78,14 56,0 28,10 8,38 2,66 18,94 48,98 76,78 64,56 36,54 12,80

seven: with a bar
2,6 30,4 64,2! 50,34 38,66 28,100 / 16,52 42,50 70,48
2,10 30,2 66,4! 56,34 44,66 38,100 / 22,50 46,50 74,48
4,4 24,4 46,6! 38,34 30,66 24,100 / 10,52 32,50 54,46

seven: without a bar
2,6 30,4 64,2! 50,34 38,66 28,100
0,8 30,2 66,4! 58,34 46,66 40,100
6,6 24,4 44,4! 38,34 28,66 20,100
0,4 40,4 84,2! 64,30 44,62 26,100

6,22 14,6 40,2 60,10 54,40 44,70 36,100
2,12 20,8 44,2 54,14 44,42 34,70 24,100
2,34 8,12 36,4 66,12 58,38 44,68 34,100

4,22 6,4! 34,4 66,4! 50,34 38,66 30,100
0,20 2,6! 34,6 70,2! 56,34 46,66 42,100
2,36 6,6! 30,4 52,4! 48,34 42,66 38,100
0,32 10,10! 40,8 74,8! 56,38 44,68 34,100

eight: round
64,14 42,0 14,8 14,32 40,48 68,64 74,86 42,100 8,90 8,66 38,48 66,30 66,12
74,10 50,0 20,8 16,30 42,46 66,64 66,86 36,100 6,90 8,68 40,48 70,30 76,12
70,10 40,0 6,10 6,36 36,54 54,70 54,88 36,100 20,90 22,72 44,52 74,34 74,14
62,14 42,2 20,10 22,28 40,42 70,60 76,84 42,100 6,88 8,62 36,44 58,30 60,16
58,14 42,2 26,10 26,24 42,36 76,56 84,80 46,100 6,86 6,58 38,38 56,26 58,16

84,4 54,0 20,10 22,32 48,48 64,68 58,92 34,100 14,88 20,68 44,48 66,28 84,4
88,20 56,2 16,6 10,28 38,44 62,64 62,88 36,100 12,90 16,68 42,46 66,30 84,12
78,16 50,2 16,4 2,24 30,46 52,62 52,86 32,100 14,88 18,70 38,52 58,38 72,24
62,8 40,0 14,10 18,28 42,46 56,66 48,90 26,100 4,90 10,70 38,50 62,32 84,10

44,46 20,40 8,22 24,4 50,0 68,14 64,34 42,46 14,60 4,82 26,98 56,94 70,76 58,54 40,44
36,44 16,36 10,16 28,2 54,4 66,20 54,38 34,46 10,66 8,88 32,100 60,92 66,70 50,52 32,42

eight: narrow
31,12 22,0 9,8 8,30 20,48 33,66 36,86 22,100 7,90 6,68 20,48 33,30 33,12
34,10 25,0 12,8 9,28 20,46 31,66 31,88 18,100 5,90 7,70 20,48 32,30 35,12

nine: straight
58,18 40,2 14,8 4,30 18,46 42,40 58,18! 56,44 54,72 50,100
56,14 36,0 10,10 2,34 18,48 42,38 58,14! 54,44 48,72 40,100
66,18 44,0 12,14 0,44 20,58 50,44 66,14! 60,44 52,72 40,100
38,16 26,2 8,12 2,34 12,46 28,38 38,16! 38,44 36,72 34,100
84,12 50,0 14,12 2,32 24,42 56,32 80,10! 66,42 52,70 36,100
70,16 44,0 10,18 2,50 22,68 54,46 72,14! 68,44 64,72 60,100
46,8 26,8 8,20 2,34 14,46 34,40 54,14! 54,42 52,70 48,100

nine: curved
58,18 40,2 14,8 4,28 18,44 42,40 58,18! 60,46 56,78 40,98 20,100 4,90
60,20 40,0 12,8 2,30 18,46 44,40 62,18! 64,48 62,80 46,98 22,98 2,86
66,18 42,0 10,14 0,42 18,58 48,44 66,16! 64,46 56,78 40,96 22,100 6,92
"""

GLYPHS: dict[str, dict[str, list[list[str]]]] = {}  # digit -> variant -> its hands, each a list of forms
for _hand in _TEXT.strip().split("\n\n"):
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
