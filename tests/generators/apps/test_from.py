"""A run that begins with a trained model's weights: what it takes over, and what is refused."""
import re
from dataclasses import replace

import numpy as np
import pytest

from generators import plans, registry, runs
from generators.apps import commands
from generators.cli import main
from tests.generators.toys import pool, sets_of, toy_data

DATA = toy_data(40)
DATA = replace(DATA, images=DATA.images[:, 2:26:3, 2:26:3])  # every third pixel: 8x8
BRIEF = {"batch_size": 8, "shard_size": 4, "optimiser.warmup_steps": 1}


LARGE = replace(DATA, images=DATA.images.repeat(2, axis=1).repeat(2, axis=2))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with runs of a few families, two steps each."""
    home = tmp_path_factory.mktemp("from")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands.datasets, "load", lambda name, *_, **__: DATA if name == "digits" else LARGE)
        for family in ("ddpm", "realnvp", "vae"):
            assert train(family, home / family, *sets_of(registry.FAMILIES[family].tiny | BRIEF)) == 0
        yield home


def train(family, out, *options):
    return main(["train", family, "--steps=2", "--threads=1", f"--out={out}", *options])


@pytest.mark.parametrize(("family", "origin"), [("fewstep", "ddpm"), ("flowgan", "realnvp"), ("vae", "vae")])
def test_it_begins_with_the_weights_and_the_settings_of_the_other(home, family, origin):
    """At a rate of 0 they stay.  Catches: raw weights for averaged ones, layers that are initialised anew from the
    first batch, sizes of the default, a part of the weights that is left out."""
    out = home / f"{family} from {origin}"
    assert train(family, out, f"--from={home / origin}", "--set=optimiser.rate=0") == 0
    old, new = registry.load(home / origin), registry.load(out)
    for name, array in old.state().items():
        np.testing.assert_allclose(new.state()[name], array, atol=1e-6, err_msg=name)
    kept = vars(old.config) | {"optimiser": new.config.optimiser}
    assert {name: getattr(new.config, name) for name in kept} == kept


def test_a_resumed_run_is_the_one_that_was_not_stopped(home, tmp_path):
    """Also at its first step.  Catches: a beginning that is forgotten, so that what depends on data is made anew."""
    folder = str(home / "realnvp")
    config, weights = registry.taken_over("flowgan", folder, plans.default_config("flowgan", DATA))
    plan = plans.plan_run("flowgan", "digits", DATA, replace(config, begins=0.0), 1, pool(), 4, None, origin=folder)
    (tmp_path / "x").mkdir()
    whole = runs.start(tmp_path / "x", plan, DATA, pool(), weights)
    again = runs.Run.resume(tmp_path / "x", pool(), DATA)
    assert again.plan == plan
    for _ in range(2):
        whole.trainer.step(), again.trainer.step()
    for name, array in whole.trainer.state().items():
        np.testing.assert_array_equal(again.trainer.state()[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("fewstep", ["vae"], "a fewstep cannot begin with the weights of .*vae, which holds a vae"),
        ("fewstep", ["ddpm", "--data=large"], "trained on data of another image size"),
        ("fewstep", ["ddpm", "--set=features=16"], "ddpm has other sizes than the settings say: .*text"),
        ("fewstep", ["nothing"], "no checkpoint"),
        ("ddpm", ["ddpm", "--resume"], "leave out .*--from"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(home, family, options, message, capsys):
    origin, *others = options
    assert train(family, home / "refused", f"--from={home / origin}", *others) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and re.search(message, said), said
    assert not (home / "refused").exists()
