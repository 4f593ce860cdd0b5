"""Four ways to make an image from a sentence, one family per file: vae, realnvp, ddpm (or dit), gan (or vaegan).

    import generators  # before NumPy, which it sets up
    import numpy as np

    model = generators.load("runs/x")
    images = model.sample(["a bold seven"] * 8, np.random.default_rng(0))
"""
import nn  # noqa: F401  first of all: it prepares the process before NumPy is imported

__all__ = ["FAMILIES", "build", "load"]


def __getattr__(name: str):
    """The public names, from `registry` once asked for: before that is imported `cli` has something to check."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from generators import registry

    return getattr(registry, name)
