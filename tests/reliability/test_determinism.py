"""The same seed gives the same bits: for any number of threads, in any process, with a resume in the middle."""
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import generators
from bench.models import width_settings
from generators import runs
from generators.registry import FAMILIES
from nn.kernels import winograd
from nn.kernels.memo import Memo
from nn.parallel import Threads
from tests.generators.toys import sets_of
from tests.reliability.faults import digest
from tests.reliability.fuzz import FUZZED, inkling, train_arguments

ROOT = Path(generators.__file__).parent.parent
SHORT = FUZZED  # every family: a step of each is made of other parts
STEPS = 4  # of 3 batches to an epoch, so that one is drawn in the next
WIDTH = 16  # enough for Winograd's convolution, whose transformed weights all threads share

no_pictures = mock.patch.object(runs.Run, "paint_samples", lambda run: None)  # they cost more than the training


@no_pictures
def trained(family, folder, *more):
    wide = width_settings(family, WIDTH, FAMILIES[family].tiny)
    outcome = inkling(train_arguments(family, folder, STEPS, *sets_of(wide), *more))
    assert outcome.status == 0, outcome.errors
    return digest(folder)


def sample_bits(folder):
    return generators.load(folder).sample(["", "a bold seven", "two"], np.random.default_rng(3)).tobytes()


@pytest.fixture(scope="module")
def reference(family, tmp_path_factory):
    """A family, the folder of a run of it on one thread, and the hash of its bits."""
    folder = tmp_path_factory.mktemp(family)
    with mock.patch.object(winograd, "_transformed", Memo(limit=128 << 20)):
        yield family, folder / "run", trained(family, folder / "run", "--threads", "1")


def test_the_number_of_threads_does_not_matter(reference, tmp_path):
    family, folder, bits = reference
    convolves = any(array.ndim == 4 for array in generators.load(folder).state().values())
    assert bool(winograd._transformed.entries) == convolves, "this width is meant to reach Winograd's convolution"
    for threads in (2, 4):
        assert trained(family, tmp_path / str(threads), "--threads", str(threads)) == bits
    assert sample_bits(tmp_path / "4") == sample_bits(folder)


def test_the_seed_does_matter(reference, tmp_path):
    family, _, bits = reference
    assert trained(family, tmp_path / "other", "--seed", "1") != bits


@no_pictures
@pytest.mark.parametrize("stop, save_every", [(1, 1e9), (2, 0), (3, 0)])
def test_a_run_stopped_anywhere_and_resumed_ends_with_the_same_bits(reference, tmp_path, stop, save_every):
    _, folder, bits = reference
    whole = runs.Run.resume(folder, Threads(1))
    run = runs.start(tmp_path, whole.plan, whole.dataset, Threads(2))
    steps = run.go(save_every)
    for _ in range(stop):
        next(steps)
    steps.close()  # as a kill leaves it: saved at an earlier step, the metrics ahead of that
    with open(tmp_path / "metrics.jsonl", "a") as log:
        log.write('{"step": 3, "lo')
    assert inkling(["train", "--resume", "--out", str(tmp_path), "--threads", "4"]).status == 0
    assert digest(tmp_path) == bits


def test_another_process_gets_the_same_bits(reference, tmp_path):
    family, _, bits = reference
    script = (
        "import sys; from pathlib import Path; from tests.reliability.test_determinism import trained\n"
        "print(trained(sys.argv[1], Path(sys.argv[2]) / 'run'))"
    )
    command = [sys.executable, "-c", script, family, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == bits
