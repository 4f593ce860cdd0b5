"""Checkpoints that were written under older names: what is called otherwise today is given its name of today.

A checkpoint holds the names of a config's fields and of a model's weights, so both may only change together with an
entry here.
"""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from nn import checkpoint

# (family or families, in the name of a weight, instead)
WEIGHTS = (
    (("vae", "vaegan"), re.compile(r"^((?:weights|ema)/decoder)\.quarter\.(weight|bias)$"), r"\1.grow.\2"),
    (("vae", "vaegan"), re.compile(r"^((?:weights|ema)/decoder)\.blocks\."), r"\1.quarter."),
)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the description of a checkpoint, as `nn.checkpoint.load` gives them, under today's names."""
    arrays, meta = checkpoint.load(path)
    renamed = {}
    for name, array in arrays.items():
        for families, old, new in WEIGHTS:
            if meta.get("family") in families:
                name = old.sub(new, name)
        renamed[name] = array
    return renamed, meta
