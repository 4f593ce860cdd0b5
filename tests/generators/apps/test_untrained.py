"""What commands do and say, with models that were started and never trained."""
import functools
import json

import numpy as np
import pytest

import datasets
from generators import registry, runs
from generators.apps import commands
from generators.cli import main
from generators.config import with_text
from nn.parallel import Threads


@pytest.fixture(scope="module")
def digits():
    return functools.cache(lambda name, split="train", limit=None: datasets.load("digits", split, 60))


@pytest.fixture(autouse=True)
def few(monkeypatch, digits):
    """Data sets of 60 digits, whatever their name."""
    monkeypatch.setattr(commands, "datasets", type("", (), {"load": digits, "DataError": datasets.DataError}))


@pytest.fixture(scope="module")
def started(tmp_path_factory, digits):
    """started(family, **settings): the folder of a run at its first step, called with a space and a quote."""

    @functools.cache
    def start(family, **settings):
        config = runs.default_config(family, digits("digits"))
        texts = {name: json.dumps(value) for name, value in {**registry.FAMILIES[family].tiny, **settings}.items()}
        plan = runs.plan_run(
            family, "digits", digits("digits"), with_text(config, texts), 7, Threads(1), steps=5, minutes=None
        )
        folder = tmp_path_factory.mktemp("it's a run")
        runs.start(folder, plan, digits("digits"), Threads(1))
        return str(folder)

    return start


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("inkling: ")
    return lines[0]


def test_a_gan_walks_between_noises_under_a_caption(started, tmp_path, capsys):
    """Catches captions and frames in another order than each other."""
    out, first = f"{tmp_path}/x.npz", f"{tmp_path}/y.npz"
    told = ["-n", "3", "--caption=two", "--caption=seven", "--seed", "4"]
    assert main(["interpolate", started("gan"), "--frames", "4", "-o", out, *told]) == 0
    assert main(["sample", started("gan"), "-o", first, *told]) == 0
    walks = np.load(out)
    assert walks["captions"].tolist() == ["two", "seven", "two"] * 4 and walks["images"].shape == (12, 28, 28)
    np.testing.assert_array_equal(walks["images"][:3], np.load(first)["images"])
    for name in ("x.png", "x.gif"):
        assert main(["interpolate", started("gan"), "-n", "2", "-o", f"{tmp_path}/{name}"]) == 0
    asked = ["-o", f"{tmp_path}/z.png"]
    assert "no noise" in refused(capsys, "interpolate", started("gan", noise=0), *asked)
    assert "leave out --data" in refused(capsys, "interpolate", started("gan"), "--data", "digits", *asked)
    assert "leave out --caption" in refused(capsys, "interpolate", started("vae"), "--caption", "two", *asked)
    assert not (tmp_path / "z.png").exists()
