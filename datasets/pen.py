"""The pen: from the attributes of a digit and a random stream to gray pixels.

skeleton   the control points: a random mean of the forms of a hand, each point moved a little
curve      a spline through the points
deform     bends, stretches and slants the curve
place      scales the curve to its size, centres it, adds the tremor of a hand and the varying width of a pen
ink        draws the curve as antialiased strokes

Each picture has a random stream of its own, splitmix64 (Steele et al. 2014) started from a hash of (seed, index), so
that picture i never depends on what else is drawn. tests/datasets/pen_reference.py has skeleton, curve and ink as
formulas on whole arrays.
"""

import numba
import numpy as np

kernel = numba.njit(nogil=True, cache=True, error_model="numpy")

SIDE = 28  # pixels
DIGIT, VARIANT, STROKE, SLANT, SIZE = range(5)  # columns of an array of attributes

# What the words of a caption mean: ranges, with a gap between neighbouring words, so that they can be told apart.
EXTENT = np.array([[13.5, 15.5], [18.5, 20.5]])  # small, large: the longer side of the inked box, pixels
WIDTH = np.array([[[1.1, 1.5], [2.5, 3.1]], [[1.2, 1.9], [3.1, 4.2]]])  # [size][thin, bold]: stroke width, pixels
SHEAR = np.array([[-0.55, -0.32], [-0.07, 0.09], [0.34, 0.62]])  # left, upright, right: run over rise

# How much else varies, of which captions say nothing.
POINT_JITTER = 0.022  # of the digit's height
END_JITTER = 0.025  # additional, where a stroke begins or ends
WAIST = 0.28  # moves the middle of the digit up or down
LEAN = 0.10  # bows the digit sideways
WAVE = 0.018  # amplitude of two slow waves across the digit, of its height
STRETCH = 0.10  # log of width over height
TURN = 0.03  # radians
TREMOR = 0.14  # pixels
PRESSURE = 0.10  # of the stroke width
SHIFT = np.array([2.5, 1.2])  # small, large: pixels either way
EDGE = 1.15  # pixels from full ink to none
MARGIN = 2.0  # pixels: no ink comes nearer to the border, save by tremor and pressure

SAMPLES = 6  # points of the curve per pair of control points
WAVES = 2

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
WORDS_STREAM = np.uint64(0x5EED0F1A77B17E50)  # attributes and ink draw from separate streams of a picture's key,
INK_STREAM = np.uint64(0x5EED0F0000001A4B)  # so that one key gives the same hand under other attributes
MOTION_STREAM = np.uint64(0x5EED0F0000F117A5)  # of films (moving.py)


@kernel
def mix(z):
    """The finaliser of splitmix64: a bijection of 64-bit words that scatters neighbours."""
    z = (z ^ (z >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return z ^ (z >> np.uint64(31))


@kernel
def uniform(stream):
    """The next number of the stream in [0, 1)."""
    stream[0] += GOLDEN
    return np.float64(mix(stream[0]) >> np.uint64(11)) * 2.0**-53


@kernel
def normal(stream):
    """Mean 0, variance 1, never beyond 3: a sum of three uniforms, since handwriting has no outliers at 5 sigma."""
    return 2.0 * (uniform(stream) + uniform(stream) + uniform(stream)) - 3.0


@kernel
def between(stream, bounds):
    """Uniform between the two bounds."""
    return bounds[0] + (bounds[1] - bounds[0]) * uniform(stream)


@kernel
def draw_keys(stream, indices, out):
    """Fill out (n,) uint64 with the keys of the pictures `indices` (n,) uint64; stream: a number for seed and split."""
    for i in range(len(indices)):
        out[i] = mix(mix(stream * GOLDEN + GOLDEN) + indices[i])


@kernel
def draw_attributes(keys, hand_count, allowed, out):
    """Fill out (n, 5) int64 with the attributes of the pictures with these keys (n,) uint64.

    hand_count (digits, variants): 0 where there is none; allowed (digits, strokes, slants) bool: what may appear.
    """
    digits, strokes, slants = allowed.shape
    stream = np.empty(1, np.uint64)
    for i in range(len(keys)):
        stream[0] = mix(keys[i] ^ WORDS_STREAM)
        digit = int(uniform(stream) * digits)
        variants = np.flatnonzero(hand_count[digit])
        out[i, VARIANT] = variants[int(uniform(stream) * len(variants))]
        out[i, SIZE] = int(uniform(stream) * len(EXTENT))
        while True:
            stroke = int(uniform(stream) * strokes)
            slant = int(uniform(stream) * slants)
            if allowed[digit, stroke, slant]:
                break
        out[i, DIGIT], out[i, STROKE], out[i, SLANT] = digit, stroke, slant


@kernel
def skeleton(stream, hand, hands, points):
    """Fill points (P, 2) with a random blend of the hand's forms, each point moved a little; returns their number."""
    forms, count = hands.form_count[hand], hands.point_count[hand]
    points[:count] = 0.0
    total = 0.0
    for form in range(forms):
        weight = uniform(stream) ** 4  # mostly near one of the forms, at times between them
        total += weight
        for p in range(count):
            points[p, 0] += weight * hands.points[hand, form, p, 0]
            points[p, 1] += weight * hands.points[hand, form, p, 1]
    for p in range(count):
        spread = POINT_JITTER
        if hands.lift[hand, p] or p == count - 1 or hands.lift[hand, p + 1]:
            spread += END_JITTER
        points[p, 0] = points[p, 0] / total + spread * normal(stream)
        points[p, 1] = points[p, 1] / total + spread * normal(stream)
    return count


@kernel
def curve(points, count, corner, lift, path, begins):
    """Catmull-Rom spline through points, sharp at corners, into path (T, 2) and begins (T,); returns T."""
    t = 0
    for p in range(count):
        last = p == count - 1 or lift[p + 1]
        begins[t] = lift[p]
        if last:
            path[t] = points[p]
            t += 1
            continue
        ahead_ends = p + 1 == count - 1 or lift[p + 2] or corner[p + 1]
        for k in range(SAMPLES):
            begins[t] = lift[p] and k == 0
            s = k / SAMPLES
            for axis in range(2):
                a, b = points[p, axis], points[p + 1, axis]
                leave = b - a if lift[p] or corner[p] else 0.5 * (b - points[p - 1, axis])
                arrive = b - a if ahead_ends else 0.5 * (points[p + 2, axis] - a)
                # The cubic Hermite polynomial with these ends and tangents.
                square, cube = 3 * (b - a) - 2 * leave - arrive, leave + arrive - 2 * (b - a)
                path[t, axis] = a + s * (leave + s * (square + s * cube))
            t += 1
    return t


@kernel
def deform(stream, path, length, shear):
    """Bend, wave, stretch, slant and turn path (T, 2), in place."""
    waist, lean = WAIST * normal(stream), LEAN * normal(stream)
    stretch = np.exp(STRETCH * normal(stream))
    turn = TURN * normal(stream)
    for t in range(length):
        x, y = path[t]
        path[t, 0] = x + lean * y * (1.0 - y)
        path[t, 1] = y + waist * y * (1.0 - y)
    for _ in range(WAVES):
        to_x, to_y = WAVE * normal(stream), WAVE * normal(stream)
        over_x, over_y = 2 * np.pi * uniform(stream), 2 * np.pi * uniform(stream)
        phase = 2 * np.pi * uniform(stream)
        for t in range(length):
            wave = np.sin(over_x * path[t, 0] + over_y * path[t, 1] + phase)
            path[t, 0] += to_x * wave
            path[t, 1] += to_y * wave
    cos, sin = np.cos(turn), np.sin(turn)
    for t in range(length):
        y = path[t, 1] - 0.5
        x = path[t, 0] * stretch - shear * y
        path[t, 0] = cos * x - sin * y
        path[t, 1] = sin * x + cos * y


@kernel
def place(stream, path, begins, length, extent, width, shift, radius):
    """Scale path (T, 2) to pixels so that its ink spans extent; centre it, shift it, add tremor; fill radius (T,)."""
    low_x, high_x = path[:length, 0].min(), path[:length, 0].max()
    low_y, high_y = path[:length, 1].min(), path[:length, 1].max()
    scale = (extent - width) / max(high_x - low_x, high_y - low_y)
    mass, mass_x, mass_y = 0.0, 0.0, 0.0
    for t in range(1, length):
        if not begins[t]:
            step = np.hypot(path[t, 0] - path[t - 1, 0], path[t, 1] - path[t - 1, 1])
            mass += step
            mass_x += 0.5 * step * (path[t, 0] + path[t - 1, 0])
            mass_y += 0.5 * step * (path[t, 1] + path[t - 1, 1])
    # Where the centre of mass comes to lie, unless that would push ink over the border.
    margin = MARGIN + 0.5 * width
    shift_x = 0.5 * SIDE - scale * mass_x / mass + shift * (2.0 * uniform(stream) - 1.0)
    shift_y = 0.5 * SIDE - scale * mass_y / mass + shift * (2.0 * uniform(stream) - 1.0)
    shift_x = min(max(shift_x, margin - scale * low_x), SIDE - margin - scale * high_x)
    shift_y = min(max(shift_y, margin - scale * low_y), SIDE - margin - scale * high_y)
    shake = TREMOR * uniform(stream)
    rate_x, rate_y, rate_r = 0.5 + uniform(stream), 0.5 + uniform(stream), 0.1 + 0.2 * uniform(stream)
    phase_x, phase_y = 2 * np.pi * uniform(stream), 2 * np.pi * uniform(stream)
    phase_r = 2 * np.pi * uniform(stream)
    press = PRESSURE * normal(stream)
    for t in range(length):
        path[t, 0] = scale * path[t, 0] + shift_x + shake * np.sin(rate_x * t + phase_x)
        path[t, 1] = scale * path[t, 1] + shift_y + shake * np.sin(rate_y * t + phase_y)
        radius[t] = 0.5 * width * (1.0 + press * np.sin(rate_r * t + phase_r))


@kernel
def ink(path, begins, radius, length, out):
    """Draw into out (SIDE, SIDE) uint8: 255 well inside a stroke, 0 outside, a ramp of EDGE pixels between."""
    for t in range(1, length):
        if begins[t]:
            continue
        x0, y0, r0 = path[t - 1, 0], path[t - 1, 1], radius[t - 1]
        dx, dy, dr = path[t, 0] - x0, path[t, 1] - y0, radius[t] - r0
        square = max(dx * dx + dy * dy, 1e-12)
        reach = max(r0, r0 + dr) + 0.5 * EDGE
        left = max(int(np.floor(min(x0, x0 + dx) - reach - 0.5)), 0)
        right = min(int(np.ceil(max(x0, x0 + dx) + reach + 0.5)), SIDE)
        top = max(int(np.floor(min(y0, y0 + dy) - reach - 0.5)), 0)
        bottom = min(int(np.ceil(max(y0, y0 + dy) + reach + 0.5)), SIDE)
        for row in range(top, bottom):
            for column in range(left, right):
                px, py = column + 0.5 - x0, row + 0.5 - y0
                s = min(max((px * dx + py * dy) / square, 0.0), 1.0)
                distance = np.sqrt((px - s * dx) ** 2 + (py - s * dy) ** 2)
                cover = min(max((r0 + s * dr - distance) / EDGE + 0.5, 0.0), 1.0)
                gray = np.uint8(255.0 * cover + 0.5)
                if gray > out[row, column]:
                    out[row, column] = gray


@kernel
def draw(keys, attributes, hands, out):
    """Draw into out (n, SIDE, SIDE) uint8, zero on entry, the pictures of keys (n,) uint64, attributes (n, 5) int64."""
    stream = np.empty(1, np.uint64)
    points = np.empty((hands.points.shape[2], 2))
    length_max = SAMPLES * hands.points.shape[2]
    path, radius, begins = np.empty((length_max, 2)), np.empty(length_max), np.empty(length_max, np.bool_)
    for i in range(len(keys)):
        stream[0] = mix(keys[i] ^ INK_STREAM)
        digit, variant, size = attributes[i, DIGIT], attributes[i, VARIANT], attributes[i, SIZE]
        hand = hands.first[digit, variant] + int(uniform(stream) * hands.count[digit, variant])
        width = between(stream, WIDTH[size, attributes[i, STROKE]])
        shear = between(stream, SHEAR[attributes[i, SLANT]])
        extent = between(stream, EXTENT[size])
        count = skeleton(stream, hand, hands, points)
        length = curve(points, count, hands.corner[hand], hands.lift[hand], path, begins)
        deform(stream, path, length, shear)
        place(stream, path, begins, length, extent, width, SHIFT[size], radius)
        ink(path, begins, radius, length, out[i])


@kernel
def draw_motions(keys, numbers, allowed, motions, places):
    """Fill motions (n, 3) with direction, speed and walls, and places (n, 2), of films with these keys and digits.

    allowed (digits, directions) bool says which pairs may appear.
    """
    stream = np.empty(1, np.uint64)
    for i in range(len(keys)):
        stream[0] = mix(keys[i] ^ MOTION_STREAM)
        motions[i, 1], motions[i, 2] = int(uniform(stream) * 2), int(uniform(stream) * 2)
        places[i, 0], places[i, 1] = uniform(stream), uniform(stream)
        while True:
            motions[i, 0] = int(uniform(stream) * allowed.shape[1])
            if allowed[numbers[i], motions[i, 0]]:
                break
