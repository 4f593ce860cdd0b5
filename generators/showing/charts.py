"""Line charts as SVG text: they stand in an HTML page as they are, follow its light or dark, and need no matplotlib.

    svg = line_chart({"loss": (steps, losses)}, x_label="step", y_label="nats")

Colours come from the page: `currentColor` for ink, the CSS variables `--series-0` to `--series-5` for lines, each with
a fallback so that the SVG also stands alone.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from generators.showing.pictures import PictureError

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 120, 14, 44  # margins; the right one holds the names of the lines
COLOURS = ("#3f6fb5", "#c2603f", "#4c8a57", "#8a5aa8", "#a58a1f", "#5f6b73")
STRETCHES = 160  # a line of more points is drawn as the means of this many stretches


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_label: str = "", y_label: str = "",
    log: bool = False,
) -> str:  # fmt: skip
    """An SVG of named lines, each (x, y) of equal lengths; points that are not finite, or, where `log` makes both axes
    logarithmic, not positive, are left out.

    A long noisy line is shown as the mean of each of 160 stretches, over a pale band from the lowest to the highest
    value there. Every line is named at its end, in its colour. Raises PictureError where nothing is left to draw.
    """
    points = {name: _clean(name, x, y, log) for name, (x, y) in series.items()}
    points = {name: (x, y) for name, (x, y) in points.items() if len(x)}
    if not points:
        raise PictureError("a chart needs at least one finite point")
    x_axis = _Axis([x for x, _ in points.values()], log, LEFT, WIDTH - RIGHT, padding=0.0)
    lines = {name: _reduce(x, y) for name, (x, y) in points.items()}
    bands = [band for _, low, _, high in lines.values() for band in (low, high)]
    y_axis = _Axis(bands, log, HEIGHT - BOTTOM, TOP, padding=0.05)
    parts = [*_frame(x_axis, y_axis, x_label, y_label)]
    ends = []
    for number, (name, (x, low, mean, high)) in enumerate(lines.items()):
        colour = f"var(--series-{number % len(COLOURS)}, {COLOURS[number % len(COLOURS)]})"
        across = x_axis.place(x)
        if not np.array_equal(low, high):
            outline = _points(np.r_[across, across[::-1]], np.r_[y_axis.place(high), y_axis.place(low)[::-1]])
            parts.append(f'<polygon points="{outline}" style="fill:{colour}" fill-opacity="0.16"/>')
        down = y_axis.place(mean)
        parts.append(
            f'<polyline points="{_points(across, down)}" fill="none" style="stroke:{colour}" stroke-width="1.8" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )
        for point in zip(across, down, strict=True) if len(x) <= 16 else ():
            parts.append('<circle cx="{:.1f}" cy="{:.1f}" r="3" style="fill:{}"/>'.format(*point, colour))
        ends.append([down[-1], across[-1], name, colour])
    parts += _names(ends)
    label = escape(f"{', '.join(lines)}: {y_label} against {x_label}", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">' + "".join(parts) + "</svg>"
    )


class _Axis:
    """Maps values to positions, from `start` to `stop`, and chooses round numbers to mark."""

    def __init__(self, values: list[np.ndarray], log: bool, start: float, stop: float, padding: float):
        self.log, self.start, self.stop = log, start, stop
        low, high = self._scaled(min(v.min() for v in values)), self._scaled(max(v.max() for v in values))
        room = (high - low) * padding or (0.5 if high == low else 0.0)
        self.low, self.high = low - room, high + room

    def _scaled(self, values):
        return np.log10(values) if self.log else np.asarray(values, dtype=float)

    def place(self, values) -> np.ndarray:
        fraction = (self._scaled(values) - self.low) / (self.high - self.low)
        return self.start + fraction * (self.stop - self.start)

    def ticks(self) -> list[float]:
        if self.log:
            for multiples in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
                powers = range(math.floor(self.low), math.ceil(self.high) + 1)
                marks = [multiple * 10.0**power for power in powers for multiple in multiples]
                marks = [mark for mark in marks if self.low - 1e-9 <= math.log10(mark) <= self.high + 1e-9]
                if len(marks) >= 4:
                    return marks[:: math.ceil(len(marks) / 8)]
            return marks or [10**self.low, 10**self.high]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough)
        return [step * n for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _clean(name, x, y, log) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise PictureError(f"the line {name!r} needs as many x as y, not shapes {x.shape} and {y.shape}")
    kept = np.isfinite(x) & np.isfinite(y) & (not log or (np.minimum(x, y) > 0))
    return x[kept], y[kept]


def _reduce(x, y) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x, lowest, mean, highest) of each stretch; of each point where there are few."""
    if len(x) <= STRETCHES:
        return x, y, y, y
    summaries = (x, np.mean), (y, np.min), (y, np.mean), (y, np.max)
    return tuple(np.array([of(part) for part in np.array_split(values, STRETCHES)]) for values, of in summaries)


def _points(across: np.ndarray, down: np.ndarray) -> str:
    return " ".join(f"{a:.1f},{d:.1f}" for a, d in zip(across, down, strict=True))


def _frame(x_axis: _Axis, y_axis: _Axis, x_label: str, y_label: str):
    """Grid lines, numbers and titles of both axes."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def line(y: float, opacity: float) -> str:
        ends = f'x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"'
        return f'<line {ends} stroke="currentColor" stroke-opacity="{opacity}"/>'

    def text(words: str, x: float, y: float, how: str = 'text-anchor="middle"') -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" {how} opacity="0.65">{escape(words)}</text>'

    for tick in y_axis.ticks():
        y = float(y_axis.place(tick))
        yield line(y, 0.12) + text(_number(tick), LEFT - 8, y + 4, 'text-anchor="end"')
    for tick in x_axis.ticks():
        yield text(_number(tick), float(x_axis.place(tick)), bottom + 18)
    centre = (TOP + bottom) / 2
    yield line(bottom, 0.4) + text(x_label, (LEFT + right) / 2, HEIGHT - 6)
    yield text(y_label, 12, centre, f'text-anchor="middle" transform="rotate(-90 12 {centre})"')


def _names(ends: list[list]) -> list[str]:
    """The name of each line beside its end, pushed down where two would overlap."""
    ends.sort(key=lambda end: end[0])
    floor = -math.inf
    for end in ends:
        end[0] = floor = max(end[0], floor + 15)
    overflow = max(0, floor - (HEIGHT - BOTTOM))
    return [
        f'<text x="{x + 8:.1f}" y="{y - overflow + 4:.1f}" style="fill:{colour}">{escape(name)}</text>'
        for y, x, name, colour in ends
    ]


def _number(value: float) -> str:
    """1500 -> 1,500; 0.25 -> 0.25; 0.00001 -> 1e-05."""
    value = 0.0 if abs(value) < 1e-12 else value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
