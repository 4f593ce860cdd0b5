"""The models that are measured: every family at its size for gray images, the larger, and that size changed.

They are timed on the digits, which are at hand everywhere.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

import datasets
from datasets.dataset import Dataset
from generators import runs
from generators.registry import build
from generators.training import Family, Trainer
from nn.parallel import Threads, derive_rng

FAMILIES = ("vae", "realnvp", "ddpm", "dit", "gan", "vaegan")
IMAGES = 2000  # of the data set: enough for its captions to be all there, and little beside what training takes
# Of diffusion the network is used ten times for one picture; guidance, which asks every network twice, is left out.
SAMPLING: dict[str, dict] = {
    **dict.fromkeys(("ddpm", "dit"), {"steps": 10, "guidance": 1.0}), "realnvp": {"guidance": 1.0},
}  # fmt: skip
TOTAL_STEPS = 100_000  # of the run that is timed, so that the schedule of its rate hardly moves


def digits(size: int = 28) -> Dataset:
    """The built-in digits, cut or padded with paper to size x size: for timing alone."""
    dataset = datasets.load("digits", limit=IMAGES)
    images = dataset.images[:, :size, :size]
    room = [(0, 0), (0, size - images.shape[1]), (0, size - images.shape[2]), (0, 0)]
    return replace(dataset, images=np.pad(images, room))


def width_settings(family: str, width: int) -> dict:
    """The settings with which a family is `width` channels wide where it is widest in space."""
    return {
        "vae": {"width": width},
        "dit": {"width": width},
        "gan": {"width": width},
        "vaegan": {"width": width},
        "realnvp": {"widths": (width, width)},
        "ddpm": {"widths": (width, 2 * width, 4 * width)},
    }[family]


def make_model(family: str, dataset: Dataset, settings: dict) -> Family:
    """A new model with these settings (lists, as JSON has them, become tuples).

    The rest is as for gray images: where ink has a network of its own (diffusion), it is not the one that is measured.
    """
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return build(family, replace(runs.plain_config(family, dataset), **settings), derive_rng(0, "weights"))


def make_trainer(family: str, dataset: Dataset, threads: int, settings: dict | None = None) -> Trainer:
    """A new model and what trains it, before its first step."""
    return Trainer(make_model(family, dataset, settings or {}), dataset, 0, TOTAL_STEPS, Threads(threads))
