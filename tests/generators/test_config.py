"""Configs: JSON, the text of --set, and that no setting ends in anything but a training step or one sentence."""
import json
from dataclasses import asdict, fields, is_dataclass, replace

import numpy as np
import pytest

from generators import plans, registry
from generators.cli import main
from generators.config import ConfigError, from_json, with_text
from generators.training import Diverged, Trainer
from tests.generators.toys import Toy, pool, sets_of, toy_data

DATA = toy_data(24)
FILMS = replace(DATA, images=np.repeat(DATA.images[:, None], 3, axis=1))
VALUES = (
    "0", "1", "-1", "7", "101", "100000", "1e30", "1" + "0" * 400, "0.5", "inf", "nan", "true", "x", "", "[]", "[0]",
    "[8]", "[7, 7]", "[0.5, 0.5]", "[0.999, -0.5]", "[8, 8, 8]", str([1] * 9), '["x"]', "{}",
)  # fmt: skip


def settings(config, above=""):
    """The dotted names of all fields."""
    for one in fields(config):
        value = getattr(config, one.name)
        yield from settings(value, f"{one.name}.") if is_dataclass(value) else [above + one.name]


def data_of(name):
    return DATA if registry.FAMILIES[name].data == "digits" else FILMS


def tiny(name):
    config = plans.default_config(name, data_of(name))
    return with_text(config, {key: json.dumps(value) for key, value in registry.FAMILIES[name].tiny.items()}
                     | {"batch_size": "4", "shard_size": "2"})  # fmt: skip


@pytest.mark.parametrize("name", registry.FAMILIES)
def test_every_value_of_every_setting_trains_or_is_refused(name):
    """Catches a division by zero, a shape that does not fit and a size that is none, wherever they would come up: when
    the text is read, when the model is built, at the first step."""
    config, trained, refused = tiny(name), 0, 0
    for setting in settings(config):
        for value in VALUES:
            try:
                changed = with_text(config, {setting: value})
                if changed == config or changed.batch_size > len(DATA) or changed.shard_size > 4:
                    continue  # more images than there are: refused where they are counted
                trainer = Trainer(registry.build(name, changed, np.random.default_rng(0)), data_of(name), 0, 10, pool())
                with np.errstate(all="ignore"):
                    trainer.step()
                trained += 1
            except ConfigError as error:
                # What is too large comes up when a layer is made, which knows nothing of settings.
                large = value == "100000" and "the model is too large" in str(error)
                assert large or setting.split(".")[-1] in str(error), (setting, value, error)
                refused += 1
            except Diverged:
                trained += 1
            except Exception as error:
                raise AssertionError(f"--set {setting}={value}: {error!r}") from error
    assert trained > 10 < refused


@pytest.mark.parametrize(
    ("family", "setting"),
    [
        ("vae", "image_size=32"), ("vae", "channels=3"), ("vae", "optimiser.betas=[]"), ("ddpm", "features=7"),
        ("vae", "latent=0"), ("gan", "width=0"), ("classifier", 'names=["x"]'), ("dit", "heads=3"),
    ],
)  # fmt: skip
def test_a_failed_start_leaves_no_folder(family, setting, tmp_path, capsys):
    folder = tmp_path / "new" / "run"
    arguments = ["train", family, "--limit", "40", "--steps", "1", "--out", str(folder)]
    assert main([*arguments, *sets_of(registry.FAMILIES[family].tiny | {"batch_size": 8}), "--set", setting]) == 2
    assert not folder.exists() and len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "named"),
    [({"width": 3}, "width"), ({"seed": 1}, "seed"), ({"image_size": "28"}, "image_size"), ([], r"\[\]")],
)
def test_a_config_that_is_not_ours_is_refused(values, named):
    with pytest.raises(ConfigError, match=named):
        from_json(Toy.Config, values)


def test_configs_survive_json():
    """Catches tuples that come back as lists, and nested configs that come back as dicts."""
    config = with_text(Toy.Config(vocabulary=("a", "b")), {"optimiser.betas": "[0.5, 0.75]", "ema_decay": "0"})
    again = from_json(Toy.Config, json.loads(json.dumps(asdict(config))))
    assert again == config and again.optimiser.betas == (0.5, 0.75) and type(again.ema_decay) is float


@pytest.mark.parametrize(
    ("family", "setting", "message"),
    [
        ("vae", "widht=3", "no 'widht'; it has .*width"),
        ("vae", "optimiser=3", "optimiser.rate"),
        ("vae", "optimiser.rat=3", "rate"),
        ("vae", "batch_size=many", "'many'"),
        ("vae", "batch_size=2.5", "'2.5'"),
        ("vae", "batch_size.x=2", "single setting"),
        ("vae", "vocabulary=[]", "follows from the data"),
        ("gan", "penalty_step=0", "be at least 0.0001; given 0"),  # a division by it
        ("realnvp", "margin=0.5", "lie between 1e-06 and 0.4; given 0.5"),  # the logarithm of 0
        ("vae", "optimiser.betas=[0.5]", "must have 2 numbers; given 1"),
        ("vae", "width=12", "a multiple of 8; given 12"),
        ("ddpm", "prediction=x", "'v', 'noise', 'velocity', 'image'; given 'x'"),
    ],
)
def test_what_is_wrong_is_said(family, setting, message):
    name, _, value = setting.partition("=")
    with pytest.raises(ConfigError, match=message):
        with_text(registry.family(family).Config(), {name: value})
