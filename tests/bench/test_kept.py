"""Runs that the benches keep: used again only in their own place, and never half-trained."""

import signal
from dataclasses import replace

import numpy as np
import pytest

from bench import __main__ as program
from bench import kept, modes
from generators import plans, runs
from generators.errors import RunError
from generators.registry import FAMILIES
from nn.parallel import Threads
from tests.generators.toys import toy_data

DATA = toy_data(40)
SMALL = replace(plans.default_config("vae", DATA), **FAMILIES["vae"].tiny, batch_size=8, shard_size=8)


@pytest.fixture
def keep(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "seconds_per_step", lambda *a: 30.0)
    monkeypatch.setattr(runs.Run, "paint_samples", lambda run: None)

    def keep(minutes=1.0, seed=0, config=SMALL, data="digits", dataset=DATA):
        return kept.trained(tmp_path, config, "vae", dataset, data, minutes, seed, Threads(1))

    return keep


def bits(model):
    return [array.tobytes() for array in model.state().values()]


def test_a_finished_run_is_used_again_but_not_for_another(keep, monkeypatch):
    """Catches a run of other minutes, another seed, data or settings taken for the one that was asked for."""
    first, how = keep()
    monkeypatch.setattr(runs, "start", None)
    again, same = keep()
    assert bits(again) == bits(first) and how == same and how["steps"] == 2 and how["train_minutes"] > 0
    for other in ({"config": replace(SMALL, beta=2.0)}, {"data": "mnist"}, {"dataset": toy_data(39)}):
        with pytest.raises(RunError, match="another|not the one"):
            keep(**other)
    monkeypatch.undo()
    monkeypatch.setattr(plans, "seconds_per_step", lambda *a: 30.0)
    assert bits(keep(minutes=2.0)[0]) != bits(first) != bits(keep(seed=1)[0])


def test_ctrl_c_is_not_followed_by_a_judgement(keep, monkeypatch):
    """Catches a half-trained model given back as if it were done; and one that cannot go on."""
    real = runs.Run.go

    def interrupted(run, *more):
        for metrics in real(run, *more):
            yield metrics
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(runs.Run, "go", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keep()
    monkeypatch.setattr(runs.Run, "go", real)
    assert bits(keep()[0])


def test_the_program_ends_in_a_sentence(monkeypatch, capsys):
    def fail(error):
        def main(arguments):
            raise error
        return main

    monkeypatch.setattr(modes, "main", fail(RunError("choose another --out")))
    assert program.main(["modes"]) == 2 and "choose another" in capsys.readouterr().err
    monkeypatch.setattr(modes, "main", fail(KeyboardInterrupt()))
    assert program.main(["modes"]) == 130
    monkeypatch.setattr(modes, "main", fail(ValueError("a bug of ours")))
    with pytest.raises(ValueError):
        program.main(["modes"])


def test_stacked_digits_can_be_trained_on():
    """Catches labels for which there is no class, and one digit in all three channels."""
    stacked = modes.stack(DATA, 50, 0)
    assert stacked.images.shape == (50, 28, 28, 3)
    assert stacked.captions(np.arange(50), np.random.default_rng(0)) == [""] * 50
    assert (stacked.images[..., 0] != stacked.images[..., 1]).any()
