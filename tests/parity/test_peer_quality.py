"""The twin that `python -m bench quality --peer` trains: it learns as ours does, and comes back as ours."""
import io
import json
import os
from dataclasses import asdict, replace

import numpy as np
import pytest

import datasets
import generators
from generators import plans, training
from generators.family import Shard
from generators.registry import build
from generators.training import Trainer
from nn.parallel import Threads, derive_rng
from tests.generators.toys import toy_data

torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")

from bench.peers import check, kept, quality  # noqa: E402
from bench.peers.blocks import Recorder, Replayed  # noqa: E402

DATA, STEPS = toy_data(24), 5
CONFIG = plans.default_config("ddpm", DATA)
CONFIG = replace(
    CONFIG, widths=(16, 24), features=8, blocks=1, heads=2, batch_size=6, shard_size=6,
    ema_decay=0.2,  # so that it tells already in the first steps, when no average reaches far back
    optimiser=replace(CONFIG.optimiser, warmup_steps=2, clip_norm=0.3, weight_decay=0.1),
)  # fmt: skip
PLAN = plans.Plan("ddpm", "digits", 3, STEPS, CONFIG, plans.fingerprint(DATA), limit=len(DATA))


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch's threads wait for one another by spinning, which takes minutes where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class SameNumbers:
    """For the twin, what our Trainer draws at each step: a batch is one shard here."""

    def __init__(self, model, batches):
        self.model, self.batches, self.step, self.numbers = model, batches, 0, Replayed([])

    def uniform(self, *shape, **options):
        if not self.numbers.drawn:
            batch = self.batches.at(self.step)
            tokens = self.model.vocabulary.encode(batch.captions)
            recorder = Recorder(derive_rng(PLAN.seed, "ddpm", self.step, 0))
            self.model.loss(Shard(batch.images, tokens, None, batch.labels, batch.indices, len(tokens)), recorder)
            self.numbers, self.step = Replayed(recorder.drawn), self.step + 1
        return self.numbers.uniform(*shape, **options)

    def normal(self, *shape):
        return self.numbers.normal(*shape)


@pytest.mark.parametrize("way", ["eager", "channels_last"])
def test_the_twin_learns_what_ours_learns(way, monkeypatch):
    """Catches: other first weights, batches, rates, clipping or averages; weights given back in another order."""
    monkeypatch.setattr(training, "shard_size", lambda config: config.batch_size)
    mine = Trainer(build("ddpm", CONFIG, derive_rng(PLAN.seed, "weights")), DATA, PLAN.seed, STEPS, Threads(1))
    first = {name: array.copy() for name, array in mine.family.state().items()}
    ours, theirs = quality.make_trainer(PLAN, DATA, way)
    theirs.rng = SameNumbers(ours, theirs.batches)
    losses = [(mine.step()["loss"], theirs.step()) for _ in range(STEPS)]
    np.testing.assert_allclose(*np.transpose(losses), rtol=1e-4)
    quality.give_back(theirs, ours)
    for name, average in mine.averaged_state().items():
        moved, difference = average - first[name], average - ours.state()[name]
        # beside how far the weights have moved, for Adam makes steps even of the rounding errors of a zero gradient
        assert np.linalg.norm(difference) < 0.01 * np.linalg.norm(moved), name


def test_what_is_given_back_samples_as_the_twin_does():
    """Catches: the weights given back instead of their averages, and an average that our sampler reads otherwise."""
    ours, trainer = quality.make_trainer(PLAN, DATA, "channels_last")
    check.shake(ours, np.random.default_rng(0))  # not what the twin has: that must come back from it
    trainer.averages = [[torch.randn_like(w) / w[0].numel() ** 0.5 for w in group] for group in trainer.averages]
    quality.give_back(trainer, ours)
    with torch.no_grad():
        for phase, averages in zip(trainer.phases, trainer.averages, strict=True):
            for weight, average in zip(phase.parameters, averages, strict=True):
                weight.copy_(average)
    assert check._compare_samples(ours, trainer.family, DATA.captions(np.arange(4)), 0) < check.TOLERANCE


def test_a_rehearsal_changes_nothing():
    """Catches: training that compiling has already begun, or given other random numbers."""
    _, trainer = quality.make_trainer(PLAN, DATA, "eager")
    before, drawn = [p.detach().clone() for p in trainer.family.parameters()], torch.get_rng_state()
    quality.rehearse(trainer)
    assert torch.equal(torch.get_rng_state(), drawn) and trainer.step_number == 0
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, trainer.family.parameters(), strict=True))


def test_asked_as_the_bench_asks(monkeypatch, tmp_path, capsys):
    """Catches: an answer that the bench cannot read, a schedule cut short, a checkpoint that is no model of ours."""

    def answer(request, plan, threads, way, patience=None):
        request |= {"plan": asdict(plan), "threads": threads, "way": way, "asker": os.getppid()}
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
        assert quality.main() == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    monkeypatch.setattr(kept, "_ask", answer)
    monkeypatch.setattr(quality, "seconds_per_step", lambda trainer: 0.1)
    monkeypatch.setattr(plans, "seconds_per_step", lambda *arguments: 0.1)
    monkeypatch.setattr(datasets, "load", lambda *names, **options: DATA)
    model, how = kept.trained(tmp_path, CONFIG, "ddpm", DATA, "digits", 1.0, 3, Threads(1), ["eager"], STEPS)
    assert how["way"] == "eager" and how["steps"] == STEPS and how["milliseconds"] == {"eager": 100.0}
    _, trainer = quality.make_trainer(replace(PLAN, limit=None), DATA, "eager")
    quality.train(trainer, os.getppid())
    with pytest.raises(SystemExit):  # a bench that is no more
        quality.train(quality.make_trainer(PLAN, DATA, "eager")[1], -1)
    expected, _ = quality.make_trainer(PLAN, DATA, "eager")
    quality.give_back(trainer, expected)
    loaded = generators.load(next(tmp_path.iterdir()))
    for name, array in expected.state().items():
        np.testing.assert_array_equal(model.state()[name], loaded.state()[name])
        np.testing.assert_allclose(array, loaded.state()[name], rtol=1e-3, atol=1e-5)
