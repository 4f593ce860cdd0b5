"""What more cores bring: the prediction, by hand, and the parts of a step that it is made from."""
import pytest

from bench import scale
from bench.models import digits
from nn import parallel

SMALL = {"width": 8, "latent": 4, "features": 8, "batch_size": 16, "shard_size": 8}


@pytest.fixture
def small(monkeypatch):
    """The VAE of the bench at a size of tests, on one core."""
    make = scale.make_trainer
    monkeypatch.setattr(
        scale, "make_trainer", lambda name, data, threads, more=None: make(name, data, threads, SMALL | (more or {}))
    )
    monkeypatch.setattr(parallel, "default_threads", lambda: 1)
    return digits()


def test_a_prediction_by_hand(small):
    """Catches: the sum and the update counted whole for each worker, a shard too many, shards of the wrong size."""
    shard, serial = {32: 9.0, 16: 5.0, 8: 3.0, 4: 2.0}, {"data": 1.0, "rest": 0.5, "sum": 0.4, "update": 2.0}
    assert scale.predict("vae", small, shard, serial, 1) == pytest.approx(1.5 + 2.4 + 5.0)
    assert scale.predict("vae", small, shard, serial, 2) == pytest.approx(1.5 + 1.2 + 3.0)
    assert scale.predict("vae", small, shard, serial, 4) == pytest.approx(1.5 + 0.6 + 2.0)
    assert scale.predict("vae", small, shard, serial, 16) == pytest.approx(1.5 + 0.15 + 2.0)  # four have work


def test_the_bench_runs_whole(small, capsys, tmp_path):
    """Catches: a part of the step that is counted twice or not at all."""
    parts = scale.parts_of_a_step("vae", small, 8, steps=3)
    assert parts.keys() == {"data", "shards", "sum", "update", "rest"} and all(cost >= 0 for cost in parts.values())
    assert parts["shards"] == max(parts.values())
    assert scale.main(["--families", "vae", "--steps", "1", "--seconds", "0.1", "--json", str(tmp_path / "x")]) == 0
    assert "predicted: 1 core " in capsys.readouterr().out and (tmp_path / "x").exists()
