"""Configs: frozen dataclasses whose fields say beside their defaults which values they take.

    @dataclass(frozen=True)
    class PainterConfig(Config):
        width: int = number(32, least=8, multiple=8)  # channels
        rate: float = number(1e-2)  # 0 or more
        kind: str = choice("sharp", "soft")  # the first is the default
        words: tuple[str, ...] = from_data(())  # set by the program, not by hand

`with_text` puts in what --set says, `from_json` what a checkpoint says.  No family is known here.
"""

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace

from generators.errors import Refusal


class ConfigError(Refusal):
    """A config cannot have this value, or this setting."""


def number(
    default=MISSING, least: float = 0, most: float | None = None, multiple: int = 1, length: tuple[int, int] = (1, 8)
):
    """A field that holds a number, or a tuple of `length` (least, most) numbers, each from `least` to `most`.

    most: None: 100,000 for whole numbers; any finite number for others.
    """
    return field(default=default, metadata={"range": (least, most, multiple), "length": length})


def choice(default: str, *others: str):
    """A field that holds one of these words."""
    return field(default=default, metadata={"choices": (default, *others)})


def from_data(default, least: float = 1, most: float | None = None):
    """A field that follows from the data: it cannot be set by hand."""
    return field(default=default, metadata={"range": (least, most, 1), "from data": True})


@dataclass(frozen=True)
class Config:
    """Raises ConfigError for a value that its field does not take."""

    def __post_init__(self):
        for one in fields(self):
            _check(one.name, getattr(self, one.name), one.metadata)


def _check(name: str, value, metadata: Mapping) -> None:
    if value not in (choices := metadata.get("choices", (value,))):
        raise ConfigError(f"{name} is one of {', '.join(map(repr, choices))}; given {value!r}")
    shortest, longest = metadata.get("length", (0, math.inf))
    if isinstance(value, tuple) and not shortest <= len(value) <= longest:
        count = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        raise ConfigError(f"{name} must have {count} numbers; given {len(value)}")
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, bool) or not isinstance(one, int | float):
            continue
        least, most, multiple = metadata.get("range", (0, None, 1))
        if most is None:
            most = 100_000 if isinstance(one, int) else math.inf
        if isinstance(one, float) and not math.isfinite(one):
            raise ConfigError(f"{name} must be a finite number; given {one}")
        if not least <= one <= most:
            allowed = f"be at least {least}" if most == math.inf else f"lie between {least:,} and {most:,}"
            raise ConfigError(f"{name} must {allowed}; given {one:,}")
        if isinstance(one, int) and one % multiple:
            raise ConfigError(f"{name} must be a multiple of {multiple}; given {one:,}")


def with_text(config: Config, settings: Mapping[str, str]) -> Config:
    """The config with `settings` (dotted name -> text) put in.  Raises ConfigError for an unknown name or bad value."""
    for name, text in settings.items():
        config = _with_text(config, name.split("."), text, name)
    return config


def _with_text(config: Config, path: list[str], text: str, name: str) -> Config:
    known = {one.name: one for one in fields(config) if not one.metadata.get("from data")}
    if path[0] not in known:
        if path[0] in {one.name for one in fields(config)}:
            raise ConfigError(f"{name} follows from the data and cannot be set")
        raise ConfigError(f"the config has no {name!r}; it has {', '.join(known)}")
    value = getattr(config, path[0])
    if is_dataclass(value):
        if len(path) == 1:
            inner = ", ".join(f"{name}.{one.name}" for one in fields(value))
            raise ConfigError(f"{name!r} is a group of settings; set one of {inner}")
        return replace(config, **{path[0]: _with_text(value, path[1:], text, name)})
    if len(path) > 1:
        raise ConfigError(f"{path[0]!r} is a single setting, so there is no {name!r}")
    return replace(config, **{path[0]: _parse(text, typing.get_type_hints(type(config))[path[0]], value, name)})


def _parse(text: str, hint, default, name: str):
    """The value of a field of this type that a text stands for."""
    if hint is str:
        return text
    try:
        return _from_json(hint, json.loads(text.lower() if text in ("True", "False") else text), name)
    except (ValueError, RecursionError):
        raise ConfigError(f"{name} is {json.dumps(default)} by default; {text!r} is not a value of the same kind and "
                          "form") from None  # fmt: skip


def from_json(kind: type[Config], values) -> Config:
    """The inverse of `dataclasses.asdict`.  Raises ConfigError on an unknown name or a wrong type or size."""
    hints = typing.get_type_hints(kind)
    if not isinstance(values, dict):
        raise ConfigError(f"the config of a {kind.__name__} is a JSON object; given {values!r:.40}")
    if unknown := sorted(values.keys() - hints.keys()):
        raise ConfigError(f"{kind.__name__} has no {unknown[0]!r:.40}")
    return kind(**{name: _from_json(hints[name], value, name) for name, value in values.items()})


def _from_json(hint, value, name: str):
    if is_dataclass(hint):
        return value if isinstance(value, hint) else from_json(hint, value)
    kind = hint if isinstance(hint, types.UnionType) else typing.get_origin(hint) or hint
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(_from_json(typing.get_args(hint)[0], one, name) for one in value)
    if kind is float and type(value) is int:
        value = float(str(value))  # infinite if it is too large for one
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name} is {value!r:.40}; expected {getattr(kind, '__name__', kind)}")
    return value
