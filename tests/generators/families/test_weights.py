"""Whether every part of a network is used: of each family, without another implementation to compare with."""
from dataclasses import replace

import numpy as np
import pytest

import datasets
from generators import plans, registry
from generators.training import Trainer
from tests.generators.toys import pool, shaken


@pytest.mark.parametrize("name", registry.FAMILIES)
def test_every_weight_is_trained_and_counts(name):
    """Catches a layer that is made and left out, such as the U-Net's layout, and one that belongs to no phase."""
    row = registry.FAMILIES[name]
    data = datasets.load(row.data, limit=20)
    config = replace(plans.default_config(name, data), **row.tiny, batch_size=8)
    model = shaken(registry.build(name, config, np.random.default_rng(0)))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    trainer = Trainer(model, data, 0, 2, pool())
    trainer.step()
    trainer.step()  # by now every phase has begun
    flats = [state.flat for state in trainer.phase_states.values()]
    slopes = {names[id(p)]: slope for flat in flats
              for p, slope in zip(flat.parameters, flat.views(flat.gradient), strict=True)}  # fmt: skip
    assert slopes.keys() == set(names.values())
    assert [name for name, slope in slopes.items() if not np.abs(slope).max() > 0] == []
