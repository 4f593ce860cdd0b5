"""Counting the modes of stacked digits, with a judge that reads a channel's digit off its brightness."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import modes
from generators.judging.classifier import Reading
from nn.parallel import Threads
from tests.generators.toys import toy_data

THREADS = Threads(1)


class Judge:
    """Reads digit d in an image of brightness 20 d; and after it, as the judge of the digits does, a stroke."""

    def __init__(self, first="digit"):
        self.first = first

    def judge(self, images, threads=None):
        assert images.shape[1:] == (4, 4, 1) and images.flags.c_contiguous
        digits = np.rint(images[:, 2, 1, 0] / 20).astype(np.int64)
        return Reading(np.zeros((len(images), 3), np.float32), {self.first: digits, "stroke": 1 - digits % 2})


def painted(triples):
    """Images (N, 4, 4, 3), uint8, whose channels show these digits (N, 3)."""
    return np.broadcast_to((20 * np.asarray(triples, np.uint8))[:, None, None], (len(triples), 4, 4, 3))


@pytest.mark.parametrize("first", ["digit", "class"])
@given(triples=st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=30))
def test_a_mode_is_the_three_digits_side_by_side(first, triples):
    """Catches channels read in another order or twice, and an attribute taken for the digit."""
    expected = [int("".join(map(str, triple))) for triple in triples]
    assert modes.modes_of(painted(triples), Judge(first), THREADS).tolist() == expected


def every_mode():
    return np.stack(np.unravel_index(np.arange(modes.MODES), (10, 10, 10)), axis=1)


def test_every_mode_once_is_uniform():
    """Catches two modes counted as one."""
    met, divergence = modes.mode_coverage(modes.modes_of(painted(every_mode()), Judge(), THREADS), modes.MODES)
    assert met == 1000 and divergence == pytest.approx(0, abs=1e-12)


@given(weights=st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any), seed=st.integers(0, 10**6))
def test_the_divergence_from_uniform_is_the_logarithm_of_the_modes_less_the_entropy(weights, seed):
    """Of a histogram made by hand, in any order.  Catches bits for nats, KL from the other side, which is infinite
    where a mode is missing, and a mode met that was not."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(modes.MODES)[: len(weights)]
    triples = rng.permutation(np.repeat(every_mode()[chosen], weights, axis=0))
    met, divergence = modes.mode_coverage(modes.modes_of(painted(triples), Judge(), THREADS), modes.MODES)
    shares = np.array([weight for weight in weights if weight]) / sum(weights)
    assert met == len(shares)
    assert divergence == pytest.approx(np.log(1000) + np.sum(shares * np.log(shares)), abs=1e-9)


def test_the_command_counts_all_that_was_painted(tmp_path, monkeypatch, capsys):
    """A generator that paints every mode in turn, in several blocks.  Catches blocks that are painted and not counted,
    or painted from the same noise."""
    left, noise = painted(every_mode()) / 255, []

    def sample(captions, rng, threads=None):
        nonlocal left
        noise.append(rng.random())
        assert captions == [""] * len(captions)
        images, left = left[: len(captions)], left[len(captions) :]
        return images

    network = SimpleNamespace(parameter_count=lambda: 7)
    model = SimpleNamespace(sample=sample, generator=network, discriminator=network)
    kept, data = {"classifier": Judge(), "gan": model}, toy_data(20)
    monkeypatch.setattr(modes, "trained", lambda out, config, name, *_, **__: (kept[name], {}))
    monkeypatch.setattr(modes.datasets, "load", lambda *_: data)
    monkeypatch.setattr(modes, "IMAGES", 50)
    monkeypatch.setattr(modes, "SAMPLES", modes.MODES)
    file = tmp_path / "figures.json"
    assert modes.main(["--out", str(tmp_path), "--json", str(file), "--threads", "1"]) == 0
    figures = json.loads(file.read_text())
    assert figures["modes"] == 1000 and figures["kl"] == pytest.approx(0, abs=1e-12)
    assert "1000 of 1000" in capsys.readouterr().out
    assert len(left) == 0 and len(set(noise)) == len(noise) > 1


def test_mode_coverage():
    assert modes.mode_coverage(np.arange(1000).repeat(3), 1000) == (1000, pytest.approx(0, abs=1e-12))
    assert modes.mode_coverage(np.zeros(50, dtype=int), 1000) == (1, pytest.approx(np.log(1000)))
    found = np.random.default_rng(0).integers(0, 1000, 26_000)
    met, divergence = modes.mode_coverage(found, 1000)
    assert met == 1000 and divergence == pytest.approx(0.019, abs=0.003)
