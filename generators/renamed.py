"""Checkpoints that were written under older names: what is called otherwise today is given its name of today.

A checkpoint holds the names of a config's fields and of a model's weights, so both may only change together with an
entry here.
"""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from nn import checkpoint

FIELDS = {"text": "features"}  # of configs
GONE = {"weighting": "simple", "snr_limit": 5.0, "schedule": "cosine"}  # fields, with what is always so now
WEIGHTS = (  # families, a part of a weight's name, instead
    (("vae", "vaegan"), r"^decoder\.quarter\.(weight|bias)$", r"decoder.grow.\1"),
    (("vae", "vaegan"), r"^decoder\.blocks\.", "decoder.quarter."),
    (("vae", "vaegan"), r"^encoder\.place\.output\.", "encoder.prior."),
    (("ddpm",), r"\.sketch\.", ".layout."),
)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the description of a checkpoint, as `nn.checkpoint.load` gives them, under today's names."""
    arrays, meta = checkpoint.load(path)
    renamed = {}
    for name, array in arrays.items():
        kind, slash, weight = name.partition("/")  # weights, ema, or what only training needs
        for families, old, new in WEIGHTS:
            if meta.get("family") in families:
                weight = re.sub(old, new, weight)
        renamed[f"{kind}{slash}{weight}"] = array
    for place in (meta, meta.get("plan")):
        if isinstance(place, dict) and isinstance(place.get("config"), dict):
            kept = {name: value for name, value in place["config"].items() if (name, value) not in GONE.items()}
            place["config"] = {FIELDS.get(name, name): value for name, value in kept.items()}
    return renamed, meta
