"""Four ways to make an image from a sentence: auto-encoders, flows, diffusion, GANs (`registry.py` has them all).

    import generators  # before NumPy, which it sets up
    import numpy as np

    model = generators.load("runs/x")
    images = model.sample(["a bold seven"] * 8, np.random.default_rng(0))
"""
import importlib.util
import os
import signal
import sys

from generators import program

if os.path.basename(sys.argv[0]) in ("inkling", "-m"):  # the command line, which ends this in `cli`
    program.interrupts(signal.default_int_handler, program.stop_at_once)

import nn  # noqa: E402  before NumPy: it prepares the process

__version__ = "0.1.0"
__all__ = ["FAMILIES", "able", "build", "load"]


def foreign_datasets() -> str | None:
    """A sentence if the package `datasets` that would be imported is not ours: another project's has the same name."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(nn.__file__)))
    found = importlib.util.find_spec("datasets")  # not imported: it may be large, or broken
    theirs = os.path.dirname(os.path.dirname(os.path.abspath(found.origin or "")))
    if theirs == ours:
        return None
    return (
        f"the package 'datasets' in {theirs} hides Inkling's own in {ours}; "
        "uninstall it, or run Inkling in an environment of its own"
    )


def __getattr__(name: str):
    """The public names, from `registry`.  Raises ImportError, in one sentence, where it could not be imported."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if foreign := foreign_datasets():
        raise ImportError(foreign)
    from generators import registry

    return getattr(registry, name)
