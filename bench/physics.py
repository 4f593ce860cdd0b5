"""The judge of films: what moves, whither, by which law, and whether it stays the same.

    displacement   between two frames: the shift, at most 3 pixels along each axis, under which the first is most like
                   the second; what goes out of the frame comes in on the other side, as in the films that wrap around
    path           where the box around the ink of the first frame is in each frame: its corner plus all displacements
    law            start, velocity and walls, bouncing or wrapping (`datasets.moving.positions`), whose places are
                   nearest to the path by least squares; a film is lawful within half a pixel, root mean square
    digit, stroke  what the judge of images reads in each frame, with the ink moved to the middle

On real films all of it is exact, but for the judge of images, who may err.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from datasets.captions import MOTION
from datasets.moving import WAYS
from generators.judging.classifier import Classifier
from nn.parallel import Threads

REACH = 3  # pixels a frame, along each axis
INKED = 0.25  # of a pixel, which the box around the ink then holds
SLACK = 2  # pixels: how far walls may be from where the box has them, for its border is gray
LAWFUL = 0.5  # pixels, root mean square
SPEED_WITHIN = 0.25  # pixels a frame
SPEEDS = {"slowly": 1.0, "fast": 2.0}
WALLS = ("bouncing", "wrapping")


@dataclass(frozen=True)
class FilmReading:
    """What the judge saw in N films."""

    digit: np.ndarray  # (N,) index into MOTION's digits, of most frames
    stroke: np.ndarray  # (N,) likewise
    same: np.ndarray  # (N,) bool: whether all frames show the same digit
    ink: np.ndarray  # (N,) standard deviation of the ink over the frames, over its mean
    path: np.ndarray  # (N, T, 2) pixels, down and right
    velocity: np.ndarray  # (N, 2) pixels a frame at first, by the nearest law
    distance: np.ndarray  # (N, 2) pixels from the nearest law that bounces, and that wraps, root mean square
    features: np.ndarray  # (N, D) of the judge: means and standard deviations over the frames

    @property
    def lawful(self) -> np.ndarray:
        return self.distance.min(axis=1) <= LAWFUL

    @property
    def turns(self) -> np.ndarray:
        """(N,) bool: whether it goes one way along an axis and then the other, as at a wall off which it bounces."""
        steps = np.diff(self.path, axis=1)
        return ((steps.min(axis=1) < 0) & (steps.max(axis=1) > 0)).any(axis=1)

    @property
    def direction(self) -> np.ndarray:
        """(N,) index into the directions; an axis counts where it has at least half of the speed."""
        speed = self.speed[:, None]
        ways = np.where((np.abs(self.velocity) >= 0.5 * speed) & (speed >= 0.5), np.sign(self.velocity), 0)
        return (ways[:, None] == WAYS).all(axis=2).argmax(axis=1)

    @property
    def speed(self) -> np.ndarray:
        """(N,) pixels a frame, along the faster axis."""
        return np.abs(self.velocity).max(axis=1)


def read(films: np.ndarray, judge: Classifier, threads: Threads | None = None) -> FilmReading:
    """Read films (N, T, H, W, 1), uint8 or float in [0, 1]."""
    films = films * np.float32(1 / 255) if films.dtype == np.uint8 else films.astype(np.float32)
    n, frames = films.shape[:2]
    ink = films.sum(axis=(2, 3, 4))
    seen = judge.judge(centred(films.reshape(n * frames, *films.shape[2:])), threads)
    digits, strokes = (seen.values[name].reshape(n, frames) for name in ("digit", "stroke"))
    features = seen.features.reshape(n, frames, -1)
    path, room = track(films)
    velocity, distance = nearest_laws(path, room)
    return FilmReading(
        digit=_commonest(digits),
        stroke=_commonest(strokes),
        same=(digits == digits[:, :1]).all(axis=1),
        ink=ink.std(axis=1) / np.maximum(ink.mean(axis=1), 1e-6),
        path=path,
        velocity=velocity,
        distance=distance,
        features=np.concatenate([features.mean(axis=1), features.std(axis=1)], axis=1),
    )


def _commonest(values):
    return np.array([np.bincount(row).argmax() for row in values])


def centred(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, 1), each rolled by whole pixels so that its centre of mass, on a circle, is in the middle."""
    for axis in (1, 2):
        side = images.shape[axis]
        turn = np.exp(2j * np.pi * (np.arange(side) + 0.5) / side)
        mass = images.sum(axis=(3 - axis, 3)) @ turn  # (N,)
        centre = np.angle(mass) / (2 * np.pi) * side
        moved = np.rint(side / 2 - centre).astype(int)
        places = (np.arange(side) - moved[:, None]) % side
        places = places.reshape((-1, side, 1, 1) if axis == 1 else (-1, 1, side, 1))
        images = np.take_along_axis(images, places, axis=axis)
    return images


def displacements(films: np.ndarray) -> np.ndarray:
    """Of films (N, T, H, W, 1): the shift from each frame to the next, pixels down and right, (N, T - 1, 2)."""
    reach = np.arange(-REACH, REACH + 1)
    shifts = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    shifts = shifts[np.argsort((shifts**2).sum(axis=1), kind="stable")]  # of equally good ones the shortest
    before, after = films[:, :-1], films[:, 1:]
    errors = [((np.roll(before, tuple(shift), axis=(2, 3)) - after) ** 2).sum(axis=(2, 3, 4)) for shift in shifts]
    return shifts[np.argmin(errors, axis=0)]


def track(films: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The path of the box around the ink, (N, T, 2), and how far the box can go along each axis, (N, 2)."""
    first = films[:, 0, ..., 0] >= INKED
    inked = np.stack([first.any(axis=2), first.any(axis=1)], axis=1)  # (N, 2, 28): by row, by column
    side = inked.shape[2]
    corner, end = inked.argmax(axis=2), side - inked[:, :, ::-1].argmax(axis=2)
    path = np.cumsum(displacements(films), axis=1)
    path = np.concatenate([np.zeros_like(path[:, :1]), path], axis=1) + corner[:, None]
    return path.astype(float), np.where(inked.any(axis=2), side - (end - corner), 0)


def nearest_laws(path: np.ndarray, room: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Velocity (N, 2) at first of the nearest law, and the distance (N, 2) of the nearest of each kind of walls.

    path (N, T, 2), room (N, 2): as from `track`
    """
    frames = path.shape[1]
    slopes, errors = np.empty((2, *room.shape)), np.empty((2, *room.shape))  # (walls, N, axis)
    t = np.arange(frames) - (frames - 1) / 2
    for axis in (0, 1):
        along = path[..., axis]
        middle = along - along.mean(axis=1, keepdims=True)
        slopes[1, :, axis] = middle @ t / (t @ t)  # followed through the border, a film that wraps goes straight on
        errors[1, :, axis] = ((middle - slopes[1, :, axis, None] * t) ** 2).sum(axis=1)
        for size in np.unique(room[:, axis]):
            chosen = room[:, axis] == size
            velocities, places = _bouncing_laws(int(size), frames)
            squares = (along[chosen] ** 2).sum(axis=1)[:, None] - 2 * along[chosen] @ places.T + (places**2).sum(axis=1)
            best = squares.argmin(axis=1)
            slopes[0, chosen, axis] = velocities[best]
            errors[0, chosen, axis] = np.maximum(squares[np.arange(len(best)), best], 0)
    distance = np.sqrt(errors.sum(axis=2) / frames).T
    return slopes[distance.argmin(axis=1), np.arange(len(path))], distance


@lru_cache(maxsize=64)
def _bouncing_laws(size: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Velocities (L,) and places (L, T) of a box that bounces along one axis, with about `size` pixels to go."""
    velocities, places, t = [], [], np.arange(frames)
    for low in range(-SLACK, SLACK + 1):
        for room in range(max(1, size - 2 * SLACK), size + 2 * SLACK + 1):
            start, velocity = (grid.reshape(-1, 1) for grid in np.meshgrid(np.arange(room + 1), np.arange(-12, 13) / 4))
            into_wall = ((start == 0) & (velocity < 0) | (start == room) & (velocity > 0))[:, 0]  # as good as off it
            start, velocity = start[~into_wall], velocity[~into_wall]
            places.append(low + room - np.abs(room - (start + velocity * t) % (2 * room)))
            velocities.append(velocity[:, 0])
    return np.concatenate(velocities), np.concatenate(places)


def obeyed(reading: FilmReading, captions: list[str]) -> dict[str, np.ndarray]:
    """Of each thing that captions say: whether a film shows it, (N,), 1 or 0, NaN where nothing is said; `all` of it.

    Walls are right where the law with these walls is lawful, or nearer than the other one: a film that meets none shows
    both.
    """
    said = [MOTION.parse(caption) for caption in captions]
    found = {}
    for name, values in MOTION.attributes.items():
        asked = [words.get(name) for words in said]
        if name == "walls":
            near = reading.distance <= np.maximum(LAWFUL, reading.distance.min(axis=1, keepdims=True))
            right = [word and near[i, WALLS.index(word)] for i, word in enumerate(asked)]
        elif name == "speed":
            right = [word and abs(reading.speed[i] - SPEEDS[word]) <= SPEED_WITHIN for i, word in enumerate(asked)]
        else:
            shown = getattr(reading, name)
            right = [word and values[shown[i]] == word for i, word in enumerate(asked)]
        found[name] = np.array([np.nan if answer is None else float(answer) for answer in right])
    return found | {"all": np.nanmin([*found.values(), np.ones(len(said))], axis=0)}
