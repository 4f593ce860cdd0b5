"""Weights that come along: the default models, trained on the built-in digits, each one `.npz` beside this file.

    model = generators.load("vae")                     # a name that is no folder is the model that comes along
    inkling sample vae --caption "a bold seven"

A checkpoint holds every weight in single precision three times over (the weights, their average, the optimiser's
state). To sample only the average is needed, and of that half precision is enough: three decimal digits of each number.
`docs/pretrained.md` has the command, the steps and the figures of each, measured on these very files.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from generators import renamed
from nn import checkpoint

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The models that come along."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def find(name: str) -> Path | None:
    """The file of a model that comes along, or None if there is none of that name."""
    return FOLDER / f"{name}.npz" if name in names() else None


def pack(run: Path, target: Path) -> None:
    """Write the averaged weights of a run's folder, in half precision, and what sampling needs to know, to `target`.

    Raises CheckpointError if the folder holds no checkpoint, or a weight is too large for half precision.
    """
    arrays, meta = renamed.load(run / "checkpoint.npz")
    averaged = {name: array for name, array in arrays.items() if name.startswith("ema/")}
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found below
        half = {name: a.astype(np.float16) if a.dtype.kind == "f" else a for name, a in averaged.items()}
    for name, array in half.items():
        if not np.isfinite(array).all():
            raise checkpoint.CheckpointError(f"{name!r} of {run} has numbers that half precision cannot hold (65,504)")
    checkpoint.save(target, half, meta)
