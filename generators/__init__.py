"""Four ways to make an image from a sentence, one family per file: vae, realnvp, ddpm, gan.

    model = generators.load("runs/x")
    images = model.sample(["a bold seven"] * 8, np.random.default_rng(0))
"""
import nn  # noqa: F401  first of all: it prepares the process before NumPy is imported
from generators.registry import FAMILIES, build, load

__all__ = ["FAMILIES", "build", "load"]
