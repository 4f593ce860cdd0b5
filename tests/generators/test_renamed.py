"""Runs that were saved under older names."""
import re
from dataclasses import asdict

import numpy as np
import pytest

import generators
from generators import plans, runs
from generators.registry import family
from nn import checkpoint
from tests.generators.toys import pool, toy_data

DATA = toy_data(32)
OLDER = {  # family: settings, names of weights today with those of then, and of fields
    "vae": (
        {"latent": 3, "width": 8},
        {r"^decoder\.quarter": "decoder.blocks", r"^decoder\.grow": "decoder.quarter",
         r"^encoder\.prior": "encoder.place.output"},
        {"features": "text"},
    ),
    "gan": ({"width": 8}, {}, {"features": "text"}),
    "flowgan": (
        {"steps": (1, 1), "widths": (8, 8), "depth": 1, "critic_width": 8, "critic_weight": 0.2}, {},
        {"critic_weight": "weight"},
    ),
    "ddpm": ({"widths": (8, 8), "blocks": 1, "heads": 2}, {r"\.layout\.": ".sketch."}, {}),  # and fields that are gone
}  # fmt: skip
OLDER["vaegan"] = (*OLDER["vae"][:2], {"features": "text", "closeness": "weight"})


@pytest.mark.parametrize("name", OLDER)
def test_a_run_saved_under_older_names_is_read_and_goes_on(name, tmp_path):
    """Catches: a layer or a field renamed without a word; two layers that exchange their weights; a run that can be
    sampled and not resumed."""
    settings, weights, fields = OLDER[name]
    config = family(name).Config(vocabulary=tuple(DATA.vocabulary), batch_size=16, **settings)
    plan = plans.Plan(name, "digits", 0, 2, config, plans.fingerprint(DATA), len(DATA))
    run = runs.start(tmp_path, plan, DATA, pool())

    def then(weight):
        kind, _, weight = weight.partition("/")
        for today, was in weights.items():
            if kind in ("weights", "ema") and re.search(today, weight):
                return f"{kind}/{re.sub(today, was, weight)}"
        return f"{kind}/{weight}"

    arrays, meta = checkpoint.load(tmp_path / "checkpoint.npz")
    older = {then(weight): array for weight, array in arrays.items()}
    values = {fields.get(field, field): value for field, value in asdict(config).items()}
    if name == "ddpm":
        values |= {"weighting": "simple", "snr_limit": 5.0, "schedule": "cosine"}
    assert (older.keys(), values.keys()) != (arrays.keys(), asdict(config).keys())
    meta |= {"config": values, "plan": meta["plan"] | {"config": values}}
    checkpoint.save(tmp_path / "checkpoint.npz", older, meta)
    for loaded in (generators.load(tmp_path), runs.Run.resume(tmp_path, pool(), DATA).model):
        assert loaded.config == run.model.config
        for weight, array in loaded.state().items():
            np.testing.assert_array_equal(array, run.model.state()[weight], err_msg=weight)


def test_an_option_that_is_gone_is_not_ignored(tmp_path):
    """Catches: a run of another schedule that is sampled by today's, to noise."""
    config = asdict(family("ddpm").Config()) | {"schedule": "linear"}
    checkpoint.save(tmp_path / "checkpoint.npz", {}, {"family": "ddpm", "config": config})
    with pytest.raises(checkpoint.CheckpointError, match="schedule"):
        generators.load(tmp_path)
