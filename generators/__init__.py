"""Four ways to make an image from a sentence: auto-encoders, flows, diffusion, GANs (`registry.py` has them all).

    import generators  # before NumPy, which it sets up
    import numpy as np

    model = generators.load("runs/x")
    images = model.sample(["a bold seven"] * 8, np.random.default_rng(0))
"""
import gc
import glob
import importlib.util
import os
import signal
import sys

from generators.apps import program

_module = sys.orig_argv[-len(sys.argv) :][:1] if sys.argv[0] == "-m" else []  # that `python -m` is importing
if os.path.basename(sys.argv[0]) == "inkling" or _module in (["generators"], ["-mgenerators"]):
    program.interrupts(signal.default_int_handler, program.stop_at_once)  # the command line, which ends this in `cli`
    gc.disable()  # likewise: hardly anything that importing makes is garbage

__version__ = "0.1.0"
__all__ = ["FAMILIES", "able", "build", "load"]


def foreign() -> str | None:
    """A sentence if a package that we import is not ours alone: another project's package has the same name."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for name in ("disk", "nn", "datasets", "generators"):
        found = importlib.util.find_spec(name)  # not imported: it may be large, or broken
        if found is None or found.origin is None:
            return f"Inkling's package {name!r} is gone from {root}; install it again, in an environment of its own"
        theirs = os.path.dirname(os.path.dirname(os.path.abspath(found.origin)))
        if theirs != root:
            return (
                f"the package {name!r} in {theirs} hides Inkling's own in {root}; "
                "uninstall it, or run Inkling in an environment of its own"
            )
        if glob.glob(f"{glob.escape(root)}/{name}[-.]*info"):  # of packages that pip has installed there
            return (
                f"another project's package {name!r} is installed in {root}, too, where it and Inkling's overwrite "
                "each other; uninstall both, then install Inkling in an environment of its own"
            )
    return None


def __getattr__(name: str):
    """The public names, from `registry`.  Raises ImportError, in one sentence, where it could not be imported."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if sentence := foreign():
        raise ImportError(sentence)
    from generators import registry

    return globals().setdefault(name, getattr(registry, name))  # next time it is found without asking


if not foreign():  # otherwise `cli` and `__getattr__` say so
    import nn  # noqa: F401  before NumPy: it prepares the process
