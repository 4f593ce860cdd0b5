"""Runs that were saved under older names."""
import re

import numpy as np
import pytest

import generators
from generators.registry import config_to_json, family
from nn import checkpoint
from tests.generators.toys import build, toy_data

DATA = toy_data(8)
OLDER = {  # family: settings, and names of today with those of then
    "vae": (
        {"latent": 3, "width": 8},
        ((r"^decoder\.quarter\.", "decoder.blocks."), (r"^decoder\.grow\.", "decoder.quarter.")),
    ),
}
OLDER["vaegan"] = OLDER["vae"]


@pytest.mark.parametrize("name", OLDER)
def test_a_run_saved_under_older_names_is_read_as_it_was(name, tmp_path):
    """Catches: a layer that was renamed without a word; two layers that exchange their weights."""
    settings, names = OLDER[name]
    model = build(family(name), DATA, **settings)
    old = {}
    for weight, array in model.state().items():
        then = [re.sub(today, was, weight) for today, was in names if re.search(today, weight)]
        old[f"ema/{(then or [weight])[0]}"] = array
    assert old.keys() != {f"ema/{weight}" for weight in model.state()}
    checkpoint.save(tmp_path / "checkpoint.npz", old, {"family": name, "config": config_to_json(model.config)})
    for weight, array in generators.load(tmp_path).state().items():
        np.testing.assert_array_equal(array, model.state()[weight], err_msg=weight)
