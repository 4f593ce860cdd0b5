"""From a name to a family, from a config to JSON and back, and from a run's folder to a model that can sample."""
from __future__ import annotations

import dataclasses
import importlib
import typing
from pathlib import Path

import numpy as np

from generators.training import Family, FamilyConfig, part_of
from nn import checkpoint, init
from nn.checkpoint import CheckpointError

FAMILIES = {
    "vae": "generators.families.vae:VAE",
    "realnvp": "generators.families.flow.realnvp:RealNVP",
    "ddpm": "generators.families.diffusion.ddpm:DDPM",
    "dit": "generators.families.diffusion.dit:DiT",
    "gan": "generators.families.gan:GAN",
    "vaegan": "generators.families.vaegan:VAEGAN",
    "regression": "generators.families.regression:Regression",
    "classifier": "generators.judging.classifier:Classifier",
}

MOST_NUMBERS = 30_000_000  # in a model that is to be trained


def family(name: str) -> type[Family]:
    """The class of a family; its module is imported only now, so that a run loads no more than it uses."""
    module, _, attribute = FAMILIES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def build(name: str, config: FamilyConfig, rng: np.random.Generator) -> Family:
    """A new model with weights drawn from `rng`.  Raises ValueError if the config describes none, or one too large."""
    return _construct(family(name), config, rng, MOST_NUMBERS)


def _construct(kind: type[Family], config: FamilyConfig, rng: np.random.Generator, numbers: int) -> Family:
    try:
        with init.at_most(numbers):
            return kind(config, rng)
    except (ArithmeticError, LookupError, TypeError) as error:
        raise ValueError(f"no {kind.name} can be built from this config: {error}") from error


def config_to_json(config) -> dict:
    """A config dataclass as plain JSON values."""
    return dataclasses.asdict(config)


def config_from_json(kind: type, values: dict):
    """The inverse of `config_to_json`.  Raises CheckpointError on an unknown name or a wrong type or size."""
    hints = typing.get_type_hints(kind)
    if not isinstance(values, dict) or (unknown := sorted(values.keys() - hints.keys())):
        named = f"{unknown[0]!r}" if isinstance(values, dict) else repr(values)
        raise CheckpointError(f"the config of this checkpoint has {named}, which {kind.__name__} does not know")
    try:
        return kind(**{name: _from_json(hints[name], value, name) for name, value in values.items()})
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"the config of this checkpoint makes no sense: {error}") from error


def _from_json(hint, value, name: str):
    if dataclasses.is_dataclass(hint):
        return config_from_json(hint, value)
    origin = typing.get_origin(hint) or hint
    if origin is tuple and isinstance(value, list | tuple):
        inner = typing.get_args(hint)
        return tuple(_from_json(inner[0] if inner else object, element, name) for element in value)
    accepted = (int, float) if origin is float else origin
    if origin is not object and (not isinstance(value, accepted) or (isinstance(value, bool) and origin is not bool)):
        raise CheckpointError(f"{name!r} in the config of this checkpoint is {value!r}; expected {origin.__name__}")
    return value


def load(run: str | Path) -> Family:
    """The model of a run's folder (or of a checkpoint file), with its averaged weights, ready to sample.

    Raises CheckpointError, in one sentence, if there is no checkpoint or it is not one of ours.
    """
    return open_run(run)[0]


def open_run(run: str | Path) -> tuple[Family, dict]:
    """The model as `load` gives it, and what the checkpoint says about the run: its plan, step and machine."""
    path = Path(run)
    if path.is_dir():
        path = path / "checkpoint.npz"
    arrays, meta = checkpoint.load(path)
    return restore(arrays, meta, path), meta


def restore(arrays: dict[str, np.ndarray], meta: dict, path: Path) -> Family:
    """The model described by what `checkpoint.load` returned."""
    name = meta.get("family")
    if not isinstance(name, str) or name not in FAMILIES:
        raise CheckpointError(f"{path} holds a model of family {name!r}; known are {', '.join(FAMILIES)}")
    kind = family(name)
    weights = part_of(arrays, "ema/")
    try:
        config = config_from_json(kind.Config, meta.get("config"))
        model = _construct(kind, config, np.random.default_rng(0), 2 * sum(array.size for array in weights.values()))
        model.load_state(weights)
    except ValueError as error:
        raise CheckpointError(
            f"{path} was written by another version of Inkling, or is damaged ({error}); "
            "use that version, or train again"
        ) from error
    return model
