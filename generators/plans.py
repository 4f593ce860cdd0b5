"""What a run is, and how it is planned: its model's config, and as many steps as fit into the time that there is."""

from __future__ import annotations

import time
import zlib
from contextlib import closing
from dataclasses import dataclass, field, fields, replace

import numpy as np

from datasets.folder import Options
from generators.config import Config, from_json, number
from generators.errors import RunError, UsageError
from generators.family import FamilyConfig, data_fields
from generators.registry import build, family
from generators.training import Diverged, Trainer, planned
from nn.parallel import Threads, derive_rng


@dataclass(frozen=True)
class Plan(Config):
    """What a run is: everything that its bits depend on, but for the code."""

    family: str
    data: str
    seed: int = number(most=2**63 - 1)
    steps: int = number(least=1, most=10**9)
    config: FamilyConfig = field()
    fingerprint: int = number(most=2**32 - 1)  # of the images and labels: training goes on only with the same ones
    limit: int | None = number(None, least=1, most=10**9)  # training pictures, the first ones; mirrored, each is two
    pictures: dict = field(default_factory=dict)  # how those of a folder are read: what folder.Options takes
    origin: str = ""  # the run whose weights it began with

    @classmethod
    def from_json(cls, values: dict) -> Plan:
        """The inverse of `dataclasses.asdict`.  Raises KeyError, TypeError or ValueError for what is no plan."""
        config = from_json(family(str(values["family"])).Config, values["config"])
        Options(**values.get("pictures", {}))
        return from_json(cls, {**values, "config": config})


def fingerprint(dataset) -> int:
    """A checksum of a data set's images and labels; of images that are drawn when indexed, of the first."""
    images = dataset.images if isinstance(dataset.images, np.ndarray) else dataset.images[:100]
    return zlib.crc32(dataset.labels.tobytes(), zlib.crc32(np.ascontiguousarray(images).tobytes()))


def default_config(name: str, dataset) -> FamilyConfig:
    """A family's default config for a data set: its own sizes and words, and what suits such images and so many."""
    config = family(name).suited(plain_config(name, dataset), dataset)
    few = len(dataset) < config.batch_size
    return replace(config, batch_size=max(1, len(dataset) // 2)) if few else config


def plain_config(name: str, dataset) -> FamilyConfig:
    """The same without what suits the images: their sizes and words alone.

    Raises UsageError for films where the family learns from images, and the other way round.
    """
    kind, given = family(name).Config, data_fields(dataset)
    of_films = any(one.name == "frames" for one in fields(kind))
    if of_films != ("frames" in given):
        wants, has = ("films", "images") if of_films else ("images", "films")
        raise UsageError(f"{name} learns from {wants}, and {dataset.name} has {has}; choose other --data or family")
    return kind(**given)


def plan_run(
    name: str, data: str, dataset, config: FamilyConfig, seed: int, threads: Threads, steps: int | None,
    minutes: float | None, limit: int | None = None, pictures: dict | None = None, origin: str = "",
) -> Plan:  # fmt: skip
    """Fix the number of steps: `steps`, or as many as fit into `minutes` by the speed measured now, on a copy.

    Raises ConfigError if the config describes no model, RunError if training diverges while its speed is measured.
    """
    config = planned(config)
    if steps is not None:
        build(name, config, derive_rng(0, "weights"))
    else:
        try:
            steps = max(1, round(60 * minutes / seconds_per_step(name, dataset, config, threads)))
        except Diverged as error:
            raise RunError(f"while the speed was measured, {error}") from error
    return Plan(name, data, seed, steps, config, fingerprint(dataset), limit, pictures or {}, origin)


def seconds_per_step(name: str, dataset, config: FamilyConfig, threads: Threads) -> float:
    """The median time of a training step, on a model that is thrown away; the first two, which compile, left out.

    Where a phase begins in the course of the run, that of the steps before and after, each by its share.
    """
    trainer = Trainer(build(name, config, derive_rng(0, "weights")), dataset, 0, 1000, threads)
    counts, seconds = [len(trainer.family.phases(step)) for step in range(0, 1000, 20)], 0.0
    with closing(trainer):
        for phases in sorted(set(counts)):
            trainer.step_number, times = 20 * counts.index(phases), []
            for _ in range(2):
                trainer.step()
            begin = time.perf_counter()
            while len(times) < 5 or (len(times) < 60 and time.perf_counter() - begin < 4):
                start = time.perf_counter()
                trainer.step()
                times.append(time.perf_counter() - start)
            seconds += float(np.median(times)) * counts.count(phases) / len(counts)
    return seconds
