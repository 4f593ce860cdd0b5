"""A run's folder: what is in it, stopping and going on, and what is refused."""
import dataclasses
import json
import os
import signal
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

import datasets
from generators import plans, registry, runs
from generators.errors import RunError
from generators.plans import Plan
from generators.runs import Run
from generators.showing import log as read_log
from nn import checkpoint, parallel
from nn.checkpoint import CheckpointError
from tests.generators.toys import Toy, pool, toy_data


@pytest.fixture(autouse=True)
def toy_family(monkeypatch):
    monkeypatch.setitem(registry.FAMILIES, "toy", registry.Row("tests.generators.toys:Toy", "a toy", {}))


def start(folder, steps=10):
    data = toy_data()
    config = plans.default_config("toy", data)
    plan = Plan("toy", "digits", 3, steps, config, plans.fingerprint(data), len(data))
    folder.mkdir(exist_ok=True)
    return runs.start(folder, plan, data, pool())


def finish(run, **options):
    return list(run.go(**options))


def test_a_run_leaves_a_checkpoint_metrics_and_samples(tmp_path):
    run = start(tmp_path / "x")
    metrics = finish(run)
    assert [m["step"] for m in metrics] == list(range(10))
    lines = [json.loads(line) for line in (tmp_path / "x/metrics.jsonl").read_text().splitlines()]
    assert lines == metrics
    assert len(list((tmp_path / "x/samples").glob("*.png"))) == 10
    drawn = read_log.losses(tmp_path / "x")
    names = {"read loss", "write loss", "held out read loss", "held out write loss"}
    assert drawn.keys() == names and all(len(x) == len(y) == 10 for x, y in drawn.values())
    assert "<polyline" in (tmp_path / "x/loss.svg").read_text()
    _, meta = checkpoint.load(tmp_path / "x/checkpoint.npz")
    assert meta["step"] == 10 and meta["family"] == "toy"


def test_a_run_begins_with_an_empty_log(tmp_path):
    """Catches lines of a run before it, which was lost before its first checkpoint."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x/metrics.jsonl").write_text('{"step": 7}\n')
    start(tmp_path / "x")
    assert (tmp_path / "x/metrics.jsonl").read_text() == ""


def test_samples_are_painted_eight_times(tmp_path, monkeypatch):
    """Catches: one picture for every step, and the last one twice."""
    run, painted = start(tmp_path / "x", 40), []
    monkeypatch.setattr(Run, "paint_samples", lambda run: painted.append(run.trainer.step_number))
    finish(run)
    assert painted == list(range(5, 41, 5))


def test_the_time_of_a_step_is_that_of_all_phases_by_their_share(monkeypatch):
    """Catches a phase that begins late and is not counted, or counted as if it ran throughout."""
    phases = lambda step: [None] * (1 if step < 600 else 2)  # noqa: E731
    trainer = SimpleNamespace(family=SimpleNamespace(phases=phases), step_number=0, close=Mock())
    clock, begun = [0.0], set()

    def step():
        begun.add(trainer.step_number)
        clock[0] += 1.0 if trainer.step_number < 600 else 3.0

    trainer.step = step
    monkeypatch.setattr(plans.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(plans, "Trainer", lambda *_: trainer)
    data = toy_data()
    seconds = plans.seconds_per_step("toy", data, plans.default_config("toy", data), pool())
    assert seconds == pytest.approx(0.6 * 1 + 0.4 * 3) and begun == {0, 600} and trainer.close.called


@pytest.mark.parametrize(("cores", "size"), [(1, 32), (2, 32), (8, 8), (32, 4)])
def test_the_shards_of_a_run_are_planned_by_the_cores_and_kept(tmp_path, monkeypatch, cores, size):
    """Catches a batch of 64 of which two cores have shards and the others none, and a resumed run that cuts anew."""
    data = toy_data()
    config = dataclasses.replace(plans.default_config("toy", data), batch_size=64, shard_size=32)
    monkeypatch.setattr(parallel, "default_threads", lambda: cores)
    plan = plans.plan_run("toy", "digits", data, config, 0, pool(), 4, None)
    monkeypatch.setattr(parallel, "default_threads", lambda: 3)
    with runs.new_folder(tmp_path / "x"):
        runs.start(tmp_path / "x", plan, data, pool())
    resumed = Run.resume(tmp_path / "x", pool(), data)
    assert plan.config.shard_size == resumed.plan.config.shard_size == size
    assert resumed.trainer.shard_count == 64 // size


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
    steps = run.go(save_every=1e-9)
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


def test_the_held_out_loss_is_that_of_test_images_and_changes_nothing(tmp_path, monkeypatch):
    """Catches a loss of training images, other images or noise each time, and numbers that training would have used."""
    finish(start(tmp_path / "with"))
    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "held_out", lambda run: {})
        finish(start(tmp_path / "without"))
    (one, _), (two, _) = (checkpoint.load(tmp_path / name / "checkpoint.npz") for name in ("with", "without"))
    assert all((one[name] == two[name]).all() for name in one)
    run = start(tmp_path / "x")
    seen, loss = [], Toy.loss
    with monkeypatch.context() as patch:
        patch.setattr(Toy, "loss", lambda self, shard, rng: seen.append(shard) or loss(self, shard, rng))
        assert run.held_out() == run.held_out() and len(run.held_out()) == 2
    test = datasets.load("digits", "test", limit=runs.CAPTIONS).images
    assert sum(len(shard.images) for shard in seen) == 3 * 2 * run.plan.config.batch_size
    assert all((test[shard.indices] == np.rint(shard.images * 255)).all() for shard in seen)
    monkeypatch.setattr(runs, "HELD_OUT", 5)
    assert [("held_out_read_loss" in metrics) for metrics in finish(run)] == [True, False] * 5
    assert len(read_log.losses(tmp_path / "x")["held out read loss"][0]) == 5


@pytest.mark.parametrize("made", [4, 2])
def test_a_run_can_be_lengthened_but_not_shortened(tmp_path, capsys, made):
    """Catches a length that a kill before the next save loses, minutes that count from where an interrupted run
    stopped, a length that is shorter than the plan, and a rate that stays at zero."""
    steps = start(tmp_path / "x", steps=4).go(save_every=1e-9)
    for _ in range(made + 1):  # the step after the last is never saved
        next(steps, None)
    steps.close()
    for few in (made, 3, 4):
        with pytest.raises(RunError, match=f"planned for 4 steps already, of which it has made {made};"):
            Run.resume(tmp_path / "x", pool()).lengthen(steps=few)
    run = Run.resume(tmp_path / "x", pool())
    run.lengthen(steps=8)
    now, then = (50, 0) if made == 4 else (85, 50)
    assert f"goes on at {now}% of its highest, not at {then}%" in capsys.readouterr().out
    again = Run.resume(tmp_path / "x", pool())  # as if this one had been killed
    assert (again.plan.steps, again.trainer.total_steps, again.trainer.step_number) == (8, 8, made)
    metrics = finish(again)
    assert [m["step"] for m in metrics] == list(range(made, 8))
    assert metrics[-1]["read_rate"] < metrics[0]["read_rate"] == pytest.approx(0.01 * now / 100, abs=1e-4)
    again.trainer.step_number, again.seconds = made, 2.0 * made
    again.lengthen(minutes=0.5)
    assert again.plan.steps == 8 + 15


def test_without_a_terminal_a_line_now_and_then(tmp_path, monkeypatch, capsys):
    """Catches hundreds of bars in a log."""
    list(start(tmp_path / "x").go())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(runs, "LOG_SECONDS", -1)
    list(start(tmp_path / "y").go())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and all(line.startswith("toy: step ") and "minutes left" in line for line in lines)


@pytest.mark.parametrize("stops", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP, signal.SIGHUP, signal.SIGTERM]])
def test_a_signal_saves_and_ends(tmp_path, stops):
    """Catches a step that is left half done, a handler that stays installed, and a run that the second SIGHUP of a
    closed terminal loses."""
    before = signal.getsignal(stops[0])
    run = start(tmp_path / "x")
    for metrics in run.go():
        if metrics["step"] == 3:
            for stop in stops:
                os.kill(os.getpid(), stop)
    _, meta = checkpoint.load(tmp_path / "x/checkpoint.npz")
    assert 4 <= meta["step"] < 10 and meta["step"] == run.trainer.step_number
    assert signal.getsignal(stops[0]) is before


def test_what_is_ignored_stays_ignored(tmp_path, monkeypatch):
    """Catches a run under nohup that ends with its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = start(tmp_path / "x")
        for _ in run.go():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.trainer.step_number == 10


@pytest.mark.parametrize(
    "line",
    ["", "x", "[]", "null", "3", "[[", '"step"', "{}", '{"loss": 1}', '{"step": 0, "loss": "x"}', '{"step": true}',
     '{"step": 0, "loss": null}', '{"step": 0, "loss": [1]}', '{"step": 0, "loss": 1e308}', '{"step": 0, "loss": NaN}',
     '{"step": "0", "loss": 1}', '{"step": -1}', '{"step": 1.5}', "9" * 5000, "[" * 100_000, '{"step": 0, "a": 1e999}'],
)  # fmt: skip
def test_a_log_that_no_run_wrote(tmp_path, line):
    """Catches a traceback after the training, in the chart of the losses, and one on resuming."""
    finish(start(tmp_path / "x"))
    log = tmp_path / "x/metrics.jsonl"
    good = log.read_text().splitlines()
    log.write_text("\n".join([*good[:4], line, *good[4:]]) + "\n")
    with pytest.raises(RunError, match="metrics.jsonl: line 5 is .* remove") as error:
        read_log.losses(tmp_path / "x")
    assert len(str(error.value)) < 400
    Run.resume(tmp_path / "x", pool())
    assert log.read_text().splitlines() == good[:4]


def test_a_disk_that_is_full_for_the_log_is_named(tmp_path):
    """Catches "No space left on device", and nobody knows where."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = start(tmp_path / "x")
    (tmp_path / "x/metrics.jsonl").write_bytes(b" " * 300_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(OSError) as error:
            finish(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path / "x/metrics.jsonl")


@pytest.mark.parametrize("name", ["metrics.jsonl", "loss.svg"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("precious", path)])
def test_a_pipe_or_a_link_in_the_place_of_a_run_s_file(tmp_path, name, make):
    """Catches a hang, and a file that is emptied through a link."""
    precious = tmp_path / "x/precious"
    precious.parent.mkdir()
    precious.write_text("old")
    make(tmp_path / "x" / name)
    with pytest.raises((OSError, CheckpointError, RunError), match=name):
        finish(start(tmp_path / "x", steps=2))
    assert precious.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 10**30), ("seed", -1), ("seed", True), ("steps", 10**30), ("steps", 0), ("limit", 10**30), ("limit", 0),
     ("limit", "x"), ("data", 3), ("data", None), ("fingerprint", -1), ("fingerprint", 1.5)],
)  # fmt: skip
def test_a_plan_that_no_run_has(tmp_path, name, value):
    """Catches an OverflowError deep in the random numbers, and a run that would never end."""
    finish(start(tmp_path / "x", steps=2))
    arrays, meta = checkpoint.load(tmp_path / "x/checkpoint.npz")
    meta["plan"][name] = value
    checkpoint.save(tmp_path / "x/checkpoint.npz", arrays, meta)
    with pytest.raises(CheckpointError, match=name):
        Run.resume(tmp_path / "x", pool())


@pytest.mark.parametrize("seconds", ["nan", 1e300, -1, None, [], "x"])
def test_a_time_that_no_run_took(tmp_path, seconds):
    finish(start(tmp_path / "x", steps=2))
    arrays, meta = checkpoint.load(tmp_path / "x/checkpoint.npz")
    checkpoint.save(tmp_path / "x/checkpoint.npz", arrays, {**meta, "seconds": seconds})
    with pytest.raises(CheckpointError, match="another version"):
        Run.resume(tmp_path / "x", pool())


def test_a_lost_worker_of_a_training_is_told_how_to_go_on(tmp_path):
    run = start(tmp_path / "a b")
    run.go = Mock(side_effect=ChildProcessError("a worker process has ended"))
    with pytest.raises(RunError, match="has ended.*--resume --out '.*a b' --threads 1"):
        run.finish()


def test_other_images_are_refused(tmp_path, monkeypatch):
    """Catches a resumed run that silently goes on with another data set."""
    start(tmp_path / "x")
    other = toy_data(61)
    monkeypatch.setattr(datasets, "load", lambda *a, **k: other)
    with pytest.raises(RunError, match="not the one"):
        Run.resume(tmp_path / "x", pool())


@pytest.mark.parametrize("maker_wins", [True, False])
def test_of_two_starts_at_once_the_loser_leaves_the_folder_alone(tmp_path, monkeypatch, maker_wins):
    """Catches a loser that removes the winner's folder, since that was not there when it looked, or since it made it;
    and a failed start that leaves what it made, or removes what was there."""
    folder = tmp_path / "new/run"
    if not maker_wins:
        folder.mkdir(parents=True)
    with runs.new_folder(folder):
        (folder / "samples").mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "exists", lambda path: path == tmp_path)  # as the loser sees it
            if not maker_wins:
                patch.setattr(Path, "mkdir", lambda path, *a, **k: None)  # and makes it
            with pytest.raises(CheckpointError, match="Another run"), runs.new_folder(folder):
                pass
        assert (folder / "samples").is_dir()
    assert tmp_path.exists() and (tmp_path / "new").exists() != maker_wins


def test_data_without_test_images_are_told_of(tmp_path, monkeypatch, capsys):
    """Catches a chart without its second line, and nobody knows why."""
    monkeypatch.setattr(datasets, "load", Mock(side_effect=[toy_data(), datasets.DataError("no 3")]))
    run = start(tmp_path / "x", steps=2)
    assert not any("held_out" in name for metrics in finish(run) for name in metrics)
    assert capsys.readouterr().out.count("no held-out loss: no 3.") == 1


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
    plan = asdict(start(tmp_path / "x", steps=2).plan)
    del plan["pictures"]
    assert Plan.from_json(plan).pictures == {}
    for pictures in ({"size": 30}, {"colour": True}, [1], {"color": "x"}):
        with pytest.raises((TypeError, ValueError)):
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


def test_minutes_become_steps(tmp_path, monkeypatch):
    """Catches minutes taken for seconds, and a plan that depends on the model it measured with."""
    monkeypatch.setattr(plans, "seconds_per_step", lambda *a: 0.5)
    data = toy_data()
    plan = plans.plan_run("toy", "digits", data, plans.default_config("toy", data), 0, pool(), None, 2.0)
    assert plan.steps == 240
