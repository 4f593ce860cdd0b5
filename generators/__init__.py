"""Four ways to make an image from a sentence: auto-encoders, flows, diffusion, GANs (`registry.py` has them all).

    import generators  # before NumPy, which it sets up
    import numpy as np

    model = generators.load("runs/x")
    images = model.sample(["a bold seven"] * 8, np.random.default_rng(0))
"""
import importlib.metadata
import importlib.util
import os
import signal
import sys

from generators.apps import program

if os.path.basename(sys.argv[0]) in ("inkling", "-m"):  # the command line, which ends this in `cli`
    program.interrupts(signal.default_int_handler, program.stop_at_once)

import nn  # noqa: E402  before NumPy: it prepares the process

__version__ = "0.1.0"
__all__ = ["FAMILIES", "able", "build", "load"]


def foreign_datasets() -> str | None:
    """A sentence if what would be imported as `datasets` is not ours alone: another project's package has that name."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(nn.__file__)))
    found = importlib.util.find_spec("datasets")  # not imported: it may be large, or broken
    if found is None or found.origin is None:
        return f"Inkling's package 'datasets' is gone from {root}; install Inkling again, in an environment of its own"
    theirs = os.path.dirname(os.path.dirname(os.path.abspath(found.origin)))
    if theirs != root:
        return (
            f"the package 'datasets' in {theirs} hides Inkling's own in {root}; "
            "uninstall it, or run Inkling in an environment of its own"
        )
    if any(importlib.metadata.distributions(name="datasets", path=[root])):
        return (
            f"another project's package 'datasets' is installed in {root}, too, where it and Inkling's overwrite each "
            "other; uninstall both, then install Inkling in an environment of its own"
        )
    return None


def __getattr__(name: str):
    """The public names, from `registry`.  Raises ImportError, in one sentence, where it could not be imported."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if foreign := foreign_datasets():
        raise ImportError(foreign)
    from generators import registry

    return getattr(registry, name)
