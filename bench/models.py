"""The models that are measured: every family at its size for gray images, the larger, and that size changed.

They are timed on the digits, or on films of them, which are at hand everywhere.
"""
from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from types import MappingProxyType

import numpy as np

import datasets
from datasets.dataset import Dataset
from generators import plans
from generators.family import Family
from generators.registry import FAMILIES, build, family, resolve
from generators.training import Trainer, planned
from nn.parallel import Threads, derive_rng

WITH_TWIN = tuple(name for name in FAMILIES if find_spec(f"bench.peers.{name}"))
IMAGES = 2000  # of the data set: enough for its captions to be all there, and little beside what training takes
# Of diffusion the network is used ten times for one picture; guidance, which asks every network twice, is left out.
TIMED = {"steps": 10, "guidance": 1.0}
SAMPLING = {name: {option: value for option, value in TIMED.items() if option in row.sampling}
            for name, row in FAMILIES.items()}  # fmt: skip
TOTAL_STEPS = 100_000  # of the run that is timed, so that the schedule of its rate hardly moves


def digits(size: int = 28) -> Dataset:
    """The built-in digits, cut or padded with paper to size x size: for timing alone."""
    dataset = datasets.load("digits", limit=IMAGES)
    images = dataset.images[:, :size, :size]
    room = [(0, 0), (0, size - images.shape[1]), (0, size - images.shape[2]), (0, 0)]
    return replace(dataset, images=np.pad(images, room))


def data_for(name: str, size: int = 28) -> Dataset:
    """What a family is timed on: `digits` of this size, or films, which have one."""
    row = FAMILIES[name]
    return digits(size) if row.data == "digits" else datasets.load(row.data, limit=IMAGES)


def width_settings(name: str, width: int, settings: Mapping = MappingProxyType({})) -> dict:
    """The settings with which a family, otherwise with these, is `width` channels wide where it is widest in space."""
    widths = getattr(family(name).Config(**settings), "widths", None)
    if widths is None:
        return {"width": width}
    return {"widths": tuple(width * round(w / widths[0]) for w in widths)}


def add_families(parser: argparse.ArgumentParser, default: Sequence[str], choices: Sequence[str]) -> None:
    """The option --families, which takes every name that a family has."""

    def known(name: str) -> str:
        try:
            return resolve(name)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    parser.add_argument(
        "--families", nargs="+", type=known, default=list(default), choices=list(choices), metavar="NAME",
        help=f"of {', '.join(choices)} (default: {', '.join(default)})",
    )  # fmt: skip


def make_model(name: str, dataset: Dataset, settings: dict) -> Family:
    """A new model with these settings (lists, as JSON has them, become tuples).

    The rest is as for gray images: where ink has a network of its own (diffusion), it is not the one that is measured.
    """
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    return build(name, planned(replace(plans.plain_config(name, dataset), **settings)), derive_rng(0, "weights"))


def make_trainer(name: str, dataset: Dataset, threads: int, settings: dict | None = None) -> Trainer:
    """A new model and what trains it, before its first step."""
    return Trainer(make_model(name, dataset, settings or {}), dataset, 0, TOTAL_STEPS, Threads(threads))
