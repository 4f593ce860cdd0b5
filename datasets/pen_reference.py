"""The pen once more, in plain Python and NumPy and one picture at a time: what pen.py computes, in its shortest words.

Same streams, same names; the numbers agree up to rounding, so a pixel differs by one grey level at most.
"""

import numpy as np

from datasets import pen
from datasets.glyphs import Hands

MASK = 2**64 - 1


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * int(pen.MIX_1) & MASK
    z = (z ^ (z >> 27)) * int(pen.MIX_2) & MASK
    return z ^ (z >> 31)


class Stream:
    """splitmix64 (Steele et al. 2014)."""

    def __init__(self, key: int, purpose: np.uint64):
        self.state = mix(int(key) ^ int(purpose))

    def uniform(self) -> float:
        self.state = self.state + int(pen.GOLDEN) & MASK
        return (mix(self.state) >> 11) * 2.0**-53

    def normal(self) -> float:
        return 2 * (self.uniform() + self.uniform() + self.uniform()) - 3

    def between(self, bounds) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * self.uniform()


def key(stream: int, index: int) -> int:
    """The key of picture `index` of a stream of pictures."""
    return mix(mix((stream + 1) * int(pen.GOLDEN) & MASK) + index & MASK)


def skeleton(stream, forms, lift):
    """(P, 2) from forms (F, P, 2) and lift (P,)."""
    weights = np.array([stream.uniform() ** 4 for _ in forms])
    points = np.tensordot(weights / weights.sum(), forms, 1)
    at_end = lift | np.append(lift[1:], True)
    jitter = np.array([[stream.normal(), stream.normal()] for _ in points])
    return points + jitter * (pen.POINT_JITTER + pen.END_JITTER * at_end)[:, None]


def curve(points, corner, lift):
    """The spline through points (P, 2): a list of strokes (T, 2)."""
    s = np.arange(pen.SAMPLES)[:, None] / pen.SAMPLES
    hermite = 2 * s**3 - 3 * s**2 + 1, s**3 - 2 * s**2 + s, -2 * s**3 + 3 * s**2, s**3 - s**2
    strokes = []
    starts = np.append(np.flatnonzero(lift), len(points))
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        stroke = []
        for p in range(start, end - 1):
            chord = points[p + 1] - points[p]
            leave = chord if p == start or corner[p] else (points[p + 1] - points[p - 1]) / 2
            arrive = chord if p + 1 == end - 1 or corner[p + 1] else (points[p + 2] - points[p]) / 2
            parts = points[p], leave, points[p + 1], arrive
            stroke.append(sum(basis * part for basis, part in zip(hermite, parts, strict=True)))
        strokes.append(np.vstack([*stroke, points[end - 1 : end]]))
    return strokes


def deform(stream, path, shear):
    """Bend, wave, stretch, slant and turn path (T, 2)."""
    waist, lean = pen.WAIST * stream.normal(), pen.LEAN * stream.normal()
    stretch, turn = np.exp(pen.STRETCH * stream.normal()), pen.TURN * stream.normal()
    x, y = path.T
    x, y = x + lean * y * (1 - y), y + waist * y * (1 - y)
    for _ in range(pen.WAVES):
        to_x, to_y = pen.WAVE * stream.normal(), pen.WAVE * stream.normal()
        over_x, over_y, phase = (2 * np.pi * stream.uniform() for _ in range(3))
        wave = np.sin(over_x * x + over_y * y + phase)
        x, y = x + to_x * wave, y + to_y * wave
    y = y - 0.5
    x = x * stretch - shear * y
    return np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], 1)


def place(stream, path, segments, extent, width, shift):
    """The path in pixels (T, 2) and the pen's radius (T,); segments (S, 2) index the path."""
    low, high = path.min(0), path.max(0)
    scale = (extent - width) / (high - low).max()
    ends = path[segments]  # (S, 2 ends, 2 axes)
    lengths = np.hypot(*(ends[:, 1] - ends[:, 0]).T)
    centre = (lengths[:, None] * ends.mean(1)).sum(0) / lengths.sum()
    offset = pen.SIDE / 2 - scale * centre + shift * (2 * np.array([stream.uniform(), stream.uniform()]) - 1)
    margin = pen.MARGIN + width / 2
    offset = np.minimum(np.maximum(offset, margin - scale * low), pen.SIDE - margin - scale * high)
    shake = pen.TREMOR * stream.uniform()
    rates = np.array([0.5 + stream.uniform(), 0.5 + stream.uniform()])
    rate_r = 0.1 + 0.2 * stream.uniform()
    phases = 2 * np.pi * np.array([stream.uniform(), stream.uniform()])
    phase_r = 2 * np.pi * stream.uniform()
    press = pen.PRESSURE * stream.normal()
    t = np.arange(len(path))
    radius = width / 2 * (1 + press * np.sin(rate_r * t + phase_r))
    return scale * path + offset + shake * np.sin(rates * t[:, None] + phases), radius


def ink(path, radius, segments):
    """Coverage (SIDE, SIDE) uint8: the distance from every pixel's centre to every segment, nothing left out."""
    centres = np.arange(pen.SIDE) + 0.5
    pixels = np.stack(np.meshgrid(centres, centres), -1)[:, :, None]  # (SIDE, SIDE, 1, 2), x before y
    start, step = path[segments[:, 0]], path[segments[:, 1]] - path[segments[:, 0]]
    square = np.maximum((step**2).sum(-1), 1e-12)
    s = np.clip(((pixels - start) * step).sum(-1) / square, 0, 1)  # (SIDE, SIDE, S)
    distance = np.hypot(*np.moveaxis(pixels - start - s[..., None] * step, -1, 0))
    reach = radius[segments[:, 0]] + s * (radius[segments[:, 1]] - radius[segments[:, 0]])
    cover = np.clip((reach - distance) / pen.EDGE + 0.5, 0, 1).max(-1)
    return np.uint8(255 * cover + 0.5)


def draw(key: int, attributes: np.ndarray, hands: Hands) -> np.ndarray:
    """The picture uint8 (SIDE, SIDE) of a key and attributes (5,)."""
    digit, variant, stroke_width, slant, size = attributes
    stream = Stream(key, pen.INK_STREAM)
    hand = hands.first[digit, variant] + int(stream.uniform() * hands.count[digit, variant])
    width = stream.between(pen.WIDTH[size, stroke_width])
    shear = stream.between(pen.SHEAR[slant])
    extent = stream.between(pen.EXTENT[size])
    count = hands.point_count[hand]
    corner, lift = hands.corner[hand, :count], hands.lift[hand, :count]
    points = skeleton(stream, hands.points[hand, : hands.form_count[hand], :count], lift)
    strokes = curve(points, corner, lift)
    begins = np.cumsum([0, *map(len, strokes)])
    inner = np.setdiff1d(np.arange(begins[-1]), begins)  # the points that a segment leads to
    segments = np.stack([inner - 1, inner], 1)
    path = deform(stream, np.vstack(strokes), shear)
    path, radius = place(stream, path, segments, extent, width, pen.SHIFT[size])
    return ink(path, radius, segments)
