"""Strange input ends in one sentence: 40 cases, 2,000 with `--long`."""
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import memory
from tests.reliability import fuzz


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory, families):
    return fuzz.Sandbox(tmp_path_factory.mktemp("fuzz"), families)


@pytest.mark.parametrize("kind", fuzz.CASES)
def test_strange_input_ends_in_one_sentence(sandbox, kind, long):
    memory.reset_peak()
    start = memory.peak_megabytes()

    @settings(max_examples=400 if long else 8)
    @given(st.randoms(use_true_random=False))
    def check(chance):
        assert sandbox.run(kind, chance) is None

    check()
    assert memory.peak_megabytes() - start < 300, "no input may make the program ask for unbounded memory"


def test_the_judge_of_the_fuzzing_is_awake(sandbox, monkeypatch):
    def broken(arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr(fuzz.cli, "main", broken)
    assert "RuntimeError: a bug" in sandbox.run("captions", random.Random(0))
    monkeypatch.setattr(fuzz.cli, "main", lambda arguments: 2)
    assert "no sentence" in sandbox.run("captions", random.Random(0))
    monkeypatch.setattr(fuzz.cli, "main", lambda arguments: open("stray.txt", "w").close() or 0)
    assert "wrote stray.txt" in sandbox.run("captions", random.Random(0))
