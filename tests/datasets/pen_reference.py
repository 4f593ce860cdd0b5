"""Three steps of the pen as formulas on whole arrays: `skeleton`, `curve` and `ink`.

The other two, `deform` and `place`, are formulas in pen.py already. Results agree with the pen's up to rounding, so a
pixel differs by one gray level at most.
"""

import numpy as np

from datasets import pen


def skeleton(stream, forms, lift):
    """Control points (P, 2): a random blend of forms (F, P, 2), each point moved a little; lift (P,) begins strokes."""
    weights = np.array([pen.uniform(stream) ** 4 for _ in forms])
    points = np.tensordot(weights / weights.sum(), forms, 1)
    at_end = lift | np.append(lift[1:], True)
    jitter = np.array([[pen.normal(stream), pen.normal(stream)] for _ in points])
    return points + jitter * (pen.POINT_JITTER + pen.END_JITTER * at_end)[:, None]


def curve(points, corner, lift):
    """The Catmull-Rom spline through points (P, 2): path (T, 2), and begins (T,), where its strokes begin."""
    s = np.arange(pen.SAMPLES)[:, None] / pen.SAMPLES
    hermite = 2 * s**3 - 3 * s**2 + 1, s**3 - 2 * s**2 + s, -2 * s**3 + 3 * s**2, s**3 - s**2
    path, begins = [], []
    starts = np.append(np.flatnonzero(lift), len(points))
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        stroke = []
        for p in range(start, end - 1):
            chord = points[p + 1] - points[p]
            leave = chord if p == start or corner[p] else (points[p + 1] - points[p - 1]) / 2
            arrive = chord if p + 1 == end - 1 or corner[p + 1] else (points[p + 2] - points[p]) / 2
            parts = points[p], leave, points[p + 1], arrive
            stroke.append(sum(basis * part for basis, part in zip(hermite, parts, strict=True)))
        path += [*stroke, points[end - 1 : end]]
        begins += [True] + [False] * (len(stroke) * pen.SAMPLES)
    return np.vstack(path), np.array(begins)


def ink(path, begins, radius):
    """Coverage (SIDE, SIDE) uint8: the distance from every pixel's centre to every segment of path (T, 2)."""
    centres = np.arange(pen.SIDE) + 0.5
    pixels = np.stack(np.meshgrid(centres, centres), -1)[:, :, None]  # (SIDE, SIDE, 1, 2), x before y
    ends = np.flatnonzero(~begins)  # S segments lead from the points before these to these
    start, step = path[ends - 1], path[ends] - path[ends - 1]
    square = np.maximum((step**2).sum(-1), 1e-12)
    s = np.clip(((pixels - start) * step).sum(-1) / square, 0, 1)  # (SIDE, SIDE, S)
    distance = np.hypot(*np.moveaxis(pixels - start - s[..., None] * step, -1, 0))
    reach = radius[ends - 1] + s * (radius[ends] - radius[ends - 1])
    cover = np.clip((reach - distance) / pen.EDGE + 0.5, 0, 1).max(-1)
    return np.uint8(255 * cover + 0.5)
