"""Weights that come along: the default models, trained on the built-in digits, each one `.npz` beside this file.

    model = generators.load("vae")                     # a name that is no folder is the model that comes along
    inkling sample vae --caption "a bold seven"

A checkpoint holds every weight in single precision three times over (the weights, their average, the optimiser's
state). To sample only the average is needed, and of that seven binary digits of each number, in half precision; critics
are left out, but for the GAN's, which the lecture asks. Training can begin with these weights (`train --from`).
`docs/pretrained.md` has the command, the steps and the figures of each, measured on these very files.
"""

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The models that come along."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def find(name: str) -> Path | None:
    """The file of a model that comes along, or None if there is none of that name."""
    return FOLDER / f"{name}.npz" if name in names() else None
