"""Wrong solutions made by hand: what people really get wrong, and the cause that the checker should name for each.

Among them are the classic mistakes of small repositories: a time index that is off by one and wraps around, captions
dropped for the whole batch, the sign of the guidance, a KL weight that is never used, a log-determinant with the wrong
sign, a largest noise level that is never drawn, a softmax whose backward returns zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.exercises.catalogue import Course
from tests.exercises.mistakes_engine import ENGINE
from tests.exercises.mistakes_families import FAMILIES
from tests.exercises.mistakes_kinds import KINDS_OF_FAMILIES
from tests.exercises.mistakes_kinds_engine import KINDS_OF_ENGINE
from tests.exercises.variants import Variant
from tests.exercises.workspace import library_cut


@dataclass(frozen=True)
class Mistake:
    exercise: str
    about: str
    cause: str  # a piece of the cause that must be named
    old: str  # the piece of the solution, as it is written in the library ...
    new: str  # ... and what the mistake puts there; an old piece of "" means the whole body


def variant(course: Course, mistake: Mistake) -> Variant:
    """The library with this mistake in it; raises ValueError where the solution has no such piece any more."""
    exercise = course.get(mistake.exercise)
    text = library_cut(course, exercise).text
    if mistake.old not in text:
        raise ValueError(f"{mistake.exercise}: {mistake.about}: the solution does not contain {mistake.old!r} any more")
    body = text.replace(mistake.old, mistake.new, 1) if mistake.old else mistake.new
    return Variant(exercise, mistake.about, ((exercise, body),))


# Mutants that are no mistakes: (exercise, what was changed) -> why no test can or should fail them.
_CHUNK = "only how many draws are decoded at a time"
_SCALE = "any scale will do, save for numbers whose squares are lost: the Gram matrix's norm is divided out"
HARMLESS: dict[tuple[str, str], str] = {
    ("he-initialisation", "sign: return normal(shape, rng) * np.float32(math.sqrt(2 / fan_...  ->  "
     "return -(normal(shape, rng) * np.float32(math.sqrt(2 / fa..."): "normal numbers are as often negative",
    ("polar", "sign: return np.zeros_like(matrix)  ->  return -np.zeros_like(matrix)"): "minus zero is zero",
    ("polar", "function: np.abs(matrix).max()  ->  np.abs(matrix).min()"): _SCALE,
    ("polar", "drop: np.abs(matrix)  ->  matrix"): _SCALE,
    ("polar", "operator: matrix * scalar(1 / largest)  ->  matrix / scalar(1 / largest)"): _SCALE,
    ("polar", "swap: 1 / largest  ->  largest / 1"): _SCALE,
    ("importance-weighted-bound", "function: min(k, 64)  ->  max(k, 64)"): _CHUNK,
    ("importance-weighted-bound", "constant: 64  ->  65"): _CHUNK,
    ("importance-weighted-bound", "sign: mean.data + np.exp(0.5 * log_var.data) * noise  ->  "
     "mean.data - np.exp(0.5 * log_var.data) * noise"): "the noise is as often negative",
    ("importance-weighted-bound", "slice: i:i + chunk  ->  :i + chunk"): "some draws count more than once",
    ("drawing-times", "sign: rng.random() + np.arange(count) / count  ->  rng.random() - np.arange(count) / count"):
     "around the circle the other way",
    ("inpainting", "sign: return rng.standard_normal(x.shape).astype(x.dtype)  ->  "
     "return -rng.standard_normal(x.shape).astype(x.dtype)"): "normal numbers are as often negative",
    ("dropping-captions", "compare: rng.random(len(tokens)) < probability  ->  rng.random(len(tokens)) <= probability"):
     "they are equal once in 2^53 draws",
    ("attention-backward", "constant: 2  ->  3"): "the guard of a case without keys",
    ("discriminator-step", "sign: both + np.float32(step) * rng.standard_normal(both.shape,...  ->  "
     "both - np.float32(step) * rng.standard_normal(both.shape,..."): "normal numbers are as often negative",
    ("discriminator-step", "compare: on_real.data > on_fake.data  ->  on_real.data >= on_fake.data"):
     "a metric, where two verdicts are equal to the last bit",
}  # fmt: skip

ALL = [
    Mistake(exercise, *rest)
    for table in (ENGINE, FAMILIES, KINDS_OF_ENGINE, KINDS_OF_FAMILIES)
    for exercise, several in table.items()
    for rest in several
]
