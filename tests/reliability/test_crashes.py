"""Kills, full disks, data that vanishes, two runs in one folder: a clear sentence, and nothing lost."""
import io
import itertools
import os
import re
import resource
import shutil
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from bench import memory
from generators import runs
from nn import checkpoint
from tests.reliability import faults
from tests.reliability.fuzz import FUZZED, complaint, inkling, train_arguments


def test_killed_and_resumed_nothing_is_lost(family, tmp_path, long):
    found = faults.kill_and_resume(family, tmp_path, kills=50 if long else 1)
    assert found.kills >= (3 if long else 1) and found.equal == found.runs
    assert found.inside_write or not long, "none of the kills met the checkpoint's write"


# ---- killed inside the checkpoint's write

KILLED = 77


class Dying(io.FileIO):
    """A file whose process dies half-way through the write whose turn it is."""

    def write(self, data):
        if next(self.counter) == self.turn:
            super().write(memoryview(data)[: len(data) // 2])
            os._exit(KILLED)
        return super().write(data)


def save_and_die(path, arrays, meta, turn):
    """In a child process: save, dying at the `turn`-th thing that the save asks of the system. Returns its status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    Dying.turn, Dying.counter = turn, itertools.count()

    def dying(call, before):
        def wrapped(*arguments, **options):
            if before and next(Dying.counter) == turn:
                os._exit(KILLED)
            result = call(*arguments, **options)
            if next(Dying.counter) == turn:
                os._exit(KILLED)
            return result

        return wrapped

    os.open, os.fsync, os.replace = (dying(call, before=True) for call in (os.open, os.fsync, os.replace))
    os.fdopen = lambda descriptor, mode: io.BufferedRandom(Dying(descriptor, "r+"))
    checkpoint.save(path, arrays, meta)
    os._exit(0)


def test_killed_at_every_point_of_a_save_the_old_checkpoint_or_the_new_one_is_there_whole(tmp_path):
    path = tmp_path / "checkpoint.npz"
    old, new = ({"w": np.full((50, 50), value)} for value in (1.0, 2.0))
    seen = set()
    for turn in itertools.count():
        checkpoint.save(path, old, {"step": 1})
        status = save_and_die(path, new, {"step": 2}, turn)
        arrays, meta = checkpoint.load(path)
        assert (arrays["w"] == meta["step"]).all()
        seen.add(meta["step"])
        for part in tmp_path.glob(".inkling-*.part"):
            os.utime(part, (1000, 1000))
        with checkpoint.lock(tmp_path):  # a run that starts an hour later clears up
            assert sorted(os.listdir(tmp_path)) == [".lock", "checkpoint.npz"]
        if status == 0:
            break
        assert status == KILLED
    assert turn > 10 and seen == {1, 2}


# ---- what the system refuses


def refused(arguments, *words):
    """The command ends with one sentence that has these words, and exit status 2."""
    outcome = inkling(arguments)
    assert outcome.status == 2 and complaint(outcome) is None, (outcome, complaint(outcome))
    sentence = outcome.errors.strip().splitlines()[-1]
    assert all(re.search(word, sentence) for word in words), sentence
    return sentence


@pytest.fixture
def run(tmp_path):
    """A finished run, and the bytes of its checkpoint."""
    folder = tmp_path / "run"
    assert inkling(train_arguments("vae", folder, 2)).status == 0
    return folder, (folder / "checkpoint.npz").read_bytes()


@contextmanager
def file_size_limit(size):
    """Within it the kernel refuses to let a file grow larger, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_from_the_start(run, tmp_path):  # the fixture has compiled the kernels, which takes space
    with file_size_limit(50_000):
        refused(train_arguments("vae", tmp_path / "other", 2), "Cannot save", "too large|space")
    assert not (tmp_path / "other" / "checkpoint.npz").exists()
    assert not list((tmp_path / "other").glob(".*.part"))


def test_a_disk_that_fills_up_later_leaves_the_last_good_checkpoint(run):
    folder, before = run
    with file_size_limit(len(before) // 2):
        refused(["train", "--resume", "--out", str(folder)], "Cannot save", "intact")
    assert (folder / "checkpoint.npz").read_bytes() == before
    assert inkling(["train", "--resume", "--out", str(folder)]).status == 0


@pytest.mark.parametrize("out", ["x.png", "x.gif", "x.npz"])
def test_pictures_that_do_not_fit_on_the_disk_are_not_left_half_written(run, tmp_path, out):
    folder, _ = run
    target = tmp_path / "pictures" / out
    target.parent.mkdir()
    with file_size_limit(100):
        refused(["sample", str(folder), "--out", str(target), "-n", "2"], "too large|space")
    assert os.listdir(target.parent) == []


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    refused(train_arguments("vae", tmp_path / "file" / "run", 1), "file")
    if os.path.isdir("/proc/self"):
        refused(train_arguments("vae", "/proc/nowhere/run", 1), "/proc/nowhere")


@pytest.fixture
def picture_folder(tmp_path):
    folder = tmp_path / "pictures"
    for number in range(24):
        target = folder / ("light" if number % 2 else "dark")
        target.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), 10 * number).save(target / f"{number}.png")
    return folder


def test_data_that_vanishes_or_changes_between_two_halves_of_a_run(picture_folder, tmp_path):
    out = str(tmp_path / "run")
    assert inkling([*train_arguments("vae", out, 2), "--data", str(picture_folder)]).status == 0
    before = (tmp_path / "run" / "checkpoint.npz").read_bytes()
    Image.new("L", (28, 28), 77).save(picture_folder / "dark" / "0.png")
    refused(["train", "--resume", "--out", out], "not the one that")
    shutil.rmtree(picture_folder)
    refused(["train", "--resume", "--out", out], "pictures")
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == before


def test_two_runs_in_one_folder(run, tmp_path):
    folder, before = run
    refused(train_arguments("vae", folder, 2), "--resume")
    with checkpoint.lock(folder):
        refused(["train", "--resume", "--out", str(folder)], "Another run")
    assert (folder / "checkpoint.npz").read_bytes() == before
    with checkpoint.lock(tmp_path / "begun"):
        refused(train_arguments("vae", tmp_path / "begun", 2), "Another run")


def test_a_checkpoint_of_another_format_version(run, monkeypatch):
    folder, _ = run
    arrays, meta = checkpoint.load(folder / "checkpoint.npz")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 7)
        checkpoint.save(folder / "checkpoint.npz", arrays, meta)
    refused(["sample", str(folder), "--out", "x.png"], "format 7, this Inkling reads 2")
    refused(["train", "--resume", "--out", str(folder)], "format 7, this Inkling reads 2")


def test_a_checkpoint_whose_config_claims_a_huge_model_is_refused_before_it_is_built(run):
    folder, _ = run
    arrays, meta = checkpoint.load(folder / "checkpoint.npz")
    for size in (5_000, 90_000, 10**12):
        meta["config"]["width"] = meta["plan"]["config"]["width"] = size
        checkpoint.save(folder / "checkpoint.npz", arrays, meta)
        memory.reset_peak()
        before = memory.peak_megabytes()
        refused(["sample", str(folder), "--out", "x.png"], "too large|width")
        refused(["train", "--resume", "--out", str(folder)], "too large|width")
        assert memory.peak_megabytes() - before < 300
    refused(train_arguments("vae", folder.parent / "other", 1, "--set", "width=5000"), "too large")


# ---- numbers that blow up


def all_finite(folder):
    return all(np.isfinite(array).all() for array in checkpoint.load(folder / "checkpoint.npz")[0].values())


@pytest.mark.parametrize("each", FUZZED)
@pytest.mark.parametrize("rate", ["1e20", "1e38"])
def test_a_rate_far_too_high_stops_the_run_and_keeps_the_last_good_checkpoint(each, rate, tmp_path):
    for steps in (1, 4):
        folder = tmp_path / str(steps)
        settings = ("--set", f"optimiser.rate={rate}", "--set", "optimiser.warmup_steps=0", "--save-every", "1e-9")
        outcome = inkling(train_arguments(each, folder, steps, *settings))
        if outcome.status:
            sentence = outcome.errors.strip().splitlines()[-1]
            assert re.search(r"diverged at step \d+: .{10,}", sentence), sentence
        else:
            assert steps == 1
        assert all_finite(folder)


def test_a_rate_a_hundred_times_too_high_never_goes_on_with_nan(family, tmp_path):
    settings = ("--set", "optimiser.rate=0.2", "--set", "optimiser.warmup_steps=0")
    with mock.patch.object(runs, "SAMPLE_GRIDS", 1):
        outcome = inkling(train_arguments(family, tmp_path / "run", 6, *settings))
    assert outcome.status == 0 or "diverged at step" in outcome.errors
    assert all_finite(tmp_path / "run")


def test_endurance(family, long):
    """The speed of a machine that does other things proves nothing, so it is held only in the long form."""
    found = faults.endure(family, 20_000 if long else 50)
    assert found.growth < (0.02 if long else 0.05)
    assert found.slowdown < 0.1 or not long  # chance alone has brought a few hundredths
