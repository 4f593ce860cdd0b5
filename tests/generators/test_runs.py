"""A run's folder: what is in it, stopping and going on, and what is refused."""
import json
import os
import signal

import numpy as np
import pytest

import datasets
from generators import registry, runs
from generators.errors import RunError
from generators.runs import Plan, Run
from nn import checkpoint
from nn.checkpoint import CheckpointError
from tests.generators.toys import Toy, pool, toy_data


@pytest.fixture(autouse=True)
def toy_family(monkeypatch):
    monkeypatch.setitem(registry.FAMILIES, "toy", registry.Row("tests.generators.toys:Toy", "a toy", {}))


def start(folder, steps=10):
    data = toy_data()
    config = runs.default_config("toy", data)
    plan = Plan("toy", "digits", 3, steps, config, runs.fingerprint(data), len(data))
    folder.mkdir(exist_ok=True)
    return runs.start(folder, plan, data, pool())


def finish(run, **options):
    return list(run.go(quiet=True, **options))


def test_a_run_leaves_a_checkpoint_metrics_and_samples(tmp_path):
    run = start(tmp_path / "x")
    metrics = finish(run)
    assert [m["step"] for m in metrics] == list(range(10))
    lines = [json.loads(line) for line in (tmp_path / "x/metrics.jsonl").read_text().splitlines()]
    assert lines == metrics
    assert len(list((tmp_path / "x/samples").glob("*.png"))) == 10
    drawn = runs.losses(tmp_path / "x")
    assert drawn.keys() == {"read loss", "write loss"} and all(len(x) == len(y) == 10 for x, y in drawn.values())
    assert "<polyline" in (tmp_path / "x/loss.svg").read_text()
    _, meta = checkpoint.load(tmp_path / "x/checkpoint.npz")
    assert meta["step"] == 10 and meta["family"] == "toy"


def test_load_gives_the_averaged_weights(tmp_path):
    """Catches sampling with the raw weights."""
    run = start(tmp_path / "x")
    finish(run)
    model = registry.load(tmp_path / "x")
    np.testing.assert_array_equal(model.first.weight.data, run.trainer.averaged_state()["first.weight"])
    assert np.abs(model.first.weight.data - run.model.first.weight.data).max() > 0
    assert isinstance(model, Toy) and model.config == run.plan.config


@pytest.mark.parametrize("kill_at", [1, 4, 9])
def test_a_lost_run_goes_on_with_equal_bits(tmp_path, kill_at):
    """The checkpoint is older than the metrics, as after a kill, and the last line is half-written."""
    finish(start(tmp_path / "whole"))
    run = start(tmp_path / "lost")
    steps = run.go(quiet=True, save_every=1e-9)
    for _ in range(kill_at):
        next(steps)
    kept = (tmp_path / "lost/checkpoint.npz").read_bytes()
    next(steps, None)
    steps.close()
    (tmp_path / "lost/checkpoint.npz").write_bytes(kept)
    with open(tmp_path / "lost/metrics.jsonl", "a") as log:
        log.write('{"step": 99, "lo')
    resumed = Run.resume(tmp_path / "lost", pool(2))
    assert resumed.trainer.step_number < kill_at
    finish(resumed)
    a, _ = checkpoint.load(tmp_path / "whole/checkpoint.npz")
    b, _ = checkpoint.load(tmp_path / "lost/checkpoint.npz")
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "lost/metrics.jsonl").read_text()


def test_ctrl_c_saves_and_ends(tmp_path):
    """Catches a step that is left half done, and a handler that stays installed."""
    before = signal.getsignal(signal.SIGINT)
    run = start(tmp_path / "x")
    for metrics in run.go(quiet=True):
        if metrics["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)
    _, meta = checkpoint.load(tmp_path / "x/checkpoint.npz")
    assert 4 <= meta["step"] < 10 and meta["step"] == run.trainer.step_number
    assert signal.getsignal(signal.SIGINT) is before


def test_other_images_are_refused(tmp_path, monkeypatch):
    """Catches a resumed run that silently goes on with another data set."""
    start(tmp_path / "x")
    other = toy_data(61)
    monkeypatch.setattr(datasets, "load", lambda *a, **k: other)
    with pytest.raises(RunError, match="not the one"):
        Run.resume(tmp_path / "x", pool())


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    finish(start(tmp_path / "x", steps=2))
    before = (tmp_path / "x/checkpoint.npz").read_bytes()
    with pytest.raises(RunError, match="--resume"):
        start(tmp_path / "x")
    assert (tmp_path / "x/checkpoint.npz").read_bytes() == before


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    checkpoint.save(tmp_path / "checkpoint.npz", {"w": np.ones(2)}, {"family": "parrot"})
    with pytest.raises(CheckpointError, match="parrot"):
        registry.load(tmp_path)
    with pytest.raises(CheckpointError):
        Run.resume(tmp_path, pool())


def test_a_plan_without_options_of_pictures_is_an_older_one(tmp_path):
    plan = start(tmp_path / "x", steps=2).plan.to_json()
    del plan["pictures"]
    assert Plan.from_json(plan).pictures == {}
    for pictures in ({"size": 30}, {"colour": True}, [1], {"color": "x"}):
        with pytest.raises(CheckpointError):
            Plan.from_json({**plan, "pictures": pictures})


@pytest.mark.parametrize("without", [False, True])
def test_a_run_of_another_version_names_its_folder_and_what_to_do(tmp_path, without):
    """Catches the bare name of a setting that is gone, or was not there yet, from which nobody can tell which of the
    demo's runs is meant."""
    finish(start(tmp_path / "x", steps=2))
    arrays, meta = checkpoint.load(tmp_path / "x/checkpoint.npz")
    if without:
        del meta["plan"]["seed"]
    else:
        meta["plan"]["config"]["sharpness"] = 2.0
    checkpoint.save(tmp_path / "x/checkpoint.npz", arrays, meta)
    with pytest.raises(CheckpointError) as refused:
        Run.resume(tmp_path / "x", pool())
    for words in (str(tmp_path / "x"), "seed" if without else "sharpness", "another version", "train again"):
        assert words in str(refused.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [({"width": 3}, "width"), ({"seed": 1}, "seed"), ({"image_size": "28"}, "image_size"), ([], r"\[\]")],
)
def test_a_config_that_is_not_ours_is_refused(values, named):
    with pytest.raises(CheckpointError, match=named):
        registry.config_from_json(Toy.Config, values)


def test_configs_survive_json():
    """Catches tuples that come back as lists, and nested configs that come back as dicts."""
    config = runs.override(Toy.Config(vocabulary=("a", "b")), {"optimiser.betas": "[0.5, 0.75]", "ema_decay": "0"})
    again = registry.config_from_json(Toy.Config, json.loads(json.dumps(registry.config_to_json(config))))
    assert again == config and again.optimiser.betas == (0.5, 0.75) and type(again.ema_decay) is float


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"widht": "3"}, "widht"),
        ({"optimiser": "3"}, "optimiser.rate"),
        ({"optimiser.rat": "3"}, "rate"),
        ({"batch_size": "many"}, "many"),
        ({"batch_size": "2.5"}, "2.5"),
        ({"batch_size.x": "2"}, "batch_size"),
        ({"vocabulary": '["a"]'}, "vocabulary"),  # empty by default, so nothing says what it should hold
    ],
)
def test_settings_that_cannot_be(setting, message):
    with pytest.raises(RunError, match=message):
        runs.override(Toy.Config(), setting)


@pytest.mark.parametrize(
    ("family", "setting"),
    [
        ("gan", {"penalty_step": "0"}),  # a division by it
        ("realnvp", {"margin": "0.5"}),  # the logarithm of 0
        ("ddpm", {"caption_dropout": "5"}),
        ("vae", {"optimiser.rate": "-1"}),
        ("vae", {"ema_decay": "1"}),
        ("vae", {"optimiser.momentum": "1"}),
        ("ddpm", {"time_steps": "0"}),
        ("realnvp", {"sketches": "-1"}),
        ("vae", {"image_size": "0"}),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_range(family, setting):
    (name, value), config = *setting.items(), registry.family(family).Config()
    name = name.split(".")[-1]
    with pytest.raises(ValueError, match=f"{name} must (lie between .* and .*|be at least .*); given {value}"):
        runs.override(config, setting)


def test_minutes_become_steps(tmp_path, monkeypatch):
    """Catches minutes taken for seconds, and a plan that depends on the model it measured with."""
    monkeypatch.setattr(runs, "seconds_per_step", lambda *a: 0.5)
    data = toy_data()
    plan = runs.plan_run("toy", "digits", data, runs.default_config("toy", data), 0, pool(), None, 2.0)
    assert plan.steps == 240
