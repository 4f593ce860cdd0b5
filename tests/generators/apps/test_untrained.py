"""What commands do and say, with models that were started and never trained."""
import functools
import io
import json
import shlex
import shutil
import sys
from pathlib import Path
from unittest.mock import Mock

import numba
import numpy as np
import pytest

import datasets
from datasets.captions import HANDWRITING
from generators import cli, plans, registry, runs
from generators.apps import commands, demo, program
from generators.cli import main
from generators.config import with_text
from nn import checkpoint
from nn.parallel import Threads

FIGURES = (
    "fid", "fid_floor", "fid_ratio", "precision", "precision_real", "recall", "recall_real", "sharpness",
    "sharpness_real", "nearest_mean", "nearest_mean_test", "copies",
)  # fmt: skip


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
        config = plans.default_config(family, digits("digits"))
        texts = {name: json.dumps(value) for name, value in {**registry.FAMILIES[family].tiny, **settings}.items()}
        plan = plans.plan_run(
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


def test_info_says_what_a_run_is(started, tmp_path, capsys):
    """Of a run, of the file alone, and of one in which another program has put nonsense."""
    folder = Path(started("vae"))
    (folder / "metrics.jsonl").write_text('{"step": 0, "loss": 3.0, "kl": 1.0}\n{"step": 1, "loss": 2.0, "kl": 9.0}\n')
    assert main(["info", str(folder)]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    model = registry.load(folder)
    assert told["model"] == f"a variational auto-encoder, {model!r}"
    assert told["data"] == "digits" and told["seed"] == "7"
    assert told["words"].split(", ") == list(HANDWRITING.vocabulary) and told["loss"] == "2" and "kl" not in told
    assert told["steps"].startswith(f"0 of 5, of {model.config.batch_size} images") and told["time"] == "0.0 minutes"
    assert float(told["size"].split()[0]) == round((folder / "checkpoint.npz").stat().st_size / 1e6, 1)
    (folder / "figures.json").write_text(json.dumps(dict.fromkeys(FIGURES, 1.5)))
    assert main(["info", str(folder)]) == 0
    assert "FID                  1.500 (real: 1.500)" in capsys.readouterr().out.splitlines()
    for damaged in ("[]", "{", '{"fid": null}'):
        (folder / "figures.json").write_text(damaged)
        assert main(["info", str(folder)]) == 0 and "figures.json  not what" in capsys.readouterr().out
    assert main(["info", "flow"]) == 0 and "MB" in capsys.readouterr().out  # weights that come along
    arrays, meta = checkpoint.load(folder / "checkpoint.npz")
    checkpoint.save(tmp_path / "x.npz", arrays, {**meta, "plan": [], "step": "\x1b", "seconds": None})
    assert main(["info", str(tmp_path / "x.npz")]) == 0
    out = capsys.readouterr().out
    assert "steps  \\x1b of None" in out and "time" not in out and "loss" not in out


def test_long_waits_say_what_for(started, tmp_path, capsys, monkeypatch):
    assert main(["reconstruct", started("vae"), "-n", "2", "-o", f"{tmp_path}/x.png"]) == 0
    assert "Drawing the built-in digits (test) ..." in capsys.readouterr().out
    for family, said in (("vae", False), ("ddpm", True)):
        assert main(["sample", started(family), "--caption=two", "-n", "1", "-o", f"{tmp_path}/x.png"]) == 0
        assert ("step by step" in capsys.readouterr().out) == said
    with program.compiling_announced():
        for add in (1, 2):
            assert numba.njit(lambda x, add=add: x + add)(1) == 1 + add
    assert capsys.readouterr().out == "Compiling, once ...\n"


def test_the_demo_says_what_it_does_not_begin_anew(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "_train", lambda *arguments: None)
    monkeypatch.setattr(demo, "begin", Mock())
    for there in (False, True):
        assert main(["demo", "-o", str(tmp_path), "--seed", "3"]) == 130
        assert ("holds VAE from before" in capsys.readouterr().out) == there
        (tmp_path / "runs" / "vae").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / "vae" / "checkpoint.npz").touch()


def test_suggested_commands_can_be_pasted_into_a_shell(started, tmp_path, capsys):
    data = tmp_path / "it's data"
    sentence = refused(capsys, "evaluate", started("vae"), "--judge", str(data))
    words = shlex.split(sentence.partition("train one first: ")[2])
    assert cli.parser().parse_args(words[1:]).out == str(data)


def test_what_an_ascii_terminal_cannot_show_is_escaped(started, tmp_path, monkeypatch):
    """A folder called by an emoji.  Catches work that is done and then lost to the last line about it."""
    folder = tmp_path / "\U0001f408"
    folder.mkdir()
    shutil.copy(Path(started("vae")) / "checkpoint.npz", folder)
    for status, command in (
        (0, ["info", str(folder)]), (0, ["sample", str(folder), "-n", "1", "-o", f"{folder}/pictures/"]),
        (2, ["sample", str(folder), "--caption=\U0001f408", "-o", f"{folder}/x.png"]),
        (2, ["evaluate", str(folder), "--judge", str(folder / "\U0001f408")]),
    ):  # fmt: skip
        written = io.BytesIO()
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(written, "ascii", write_through=True))
        assert main(command) == status
        assert b"\\U0001f408" in written.getvalue() or command[0] == "info"
    assert (folder / "pictures" / "00000.png").exists()
