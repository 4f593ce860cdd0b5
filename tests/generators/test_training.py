"""The loop: what a step does, that it depends on nothing but its number and the weights, and what happens at a NaN."""
from dataclasses import replace

import numpy as np
import pytest

from generators import plans, registry
from generators.family import OptimiserConfig
from generators.training import Diverged, Trainer, plain_steps, train
from nn import functional as F
from nn import processes
from nn.muon import Muon
from nn.tensor import Tensor
from tests.generators.toys import Toy, build, pool, toy_data

DATA = toy_data()


def trainer(steps=12, threads=1, seed=3, kind=Toy, **settings):
    return Trainer(build(kind, DATA, seed, **settings), DATA, seed, steps, pool(threads))


def weights(one):
    return {name: array.copy() for name, array in one.state().items()}


def assert_equal_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("name", ["vae", "gan", "realnvp", "classifier"])
def test_the_loop_is_the_plain_one(name, monkeypatch):
    """A phase and two, Muon and AdamW, false captions, what is initialised from data, a part of the data set.  Catches
    whatever shards, lanes and workers add to a step or leave out of it."""
    tiny = {**registry.FAMILIES[name].tiny, "batch_size": 12, "shard_size": 5}  # shards of 5, 5 and 2
    config = replace(plans.default_config(name, DATA), **tiny)
    plain, fast = (registry.build(name, config, np.random.default_rng(0)) for _ in range(2))
    losses = list(plain_steps(plain, DATA, 3, 4))
    quick = Trainer(fast, DATA, 3, 4, pool(2))
    for expected, metrics in zip(losses, train(quick), strict=True):
        named = {key if len(expected) == 1 else f"{key}_loss": value for key, value in expected.items()}
        found = {key: metrics["loss" if len(expected) == 1 else key] for key in named}
        assert found == pytest.approx(named, rel=1e-6)
    for (key, a), b in zip(plain.state().items(), fast.state().values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=key)


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize("threads", [2, 4])
def test_equal_bits_for_any_number_of_threads_or_processes(threads, forked, monkeypatch):
    monkeypatch.setattr(processes, "AVAILABLE", forked and processes.AVAILABLE)
    one, several = trainer(threads=1), trainer(threads=threads)
    steps = train(several)
    metrics = [next(steps), next(steps)]
    assert (several._pool is not None) == processes.AVAILABLE
    assert list(train(one)) == metrics + list(steps)
    assert several._pool is None  # the run is over
    assert_equal_bits(weights(one), weights(several))


class Buffered(Toy):
    """Has what training changes besides parameters, as BatchNorm has."""

    def __init__(self, config, rng):
        super().__init__(config, rng)
        self.running = np.zeros(1, np.float32)

    def phases(self, step):
        self.running += 1
        return super().phases(step)


def test_what_has_running_statistics_trains_in_threads():
    """Catches statistics that change in a worker process and are lost with it."""
    several = trainer(threads=2, kind=Buffered)
    several.step()
    several.step()
    assert several._pool is None


@pytest.mark.skipif(not processes.AVAILABLE, reason="worker processes are made by fork, on Linux only")
def test_a_trainer_that_is_forgotten_takes_its_processes_along():
    """Catches a pool and its trainer that keep each other alive."""
    several = trainer(threads=2)
    several.step()
    several.step()
    workers = several._pool.workers
    assert workers
    del several
    assert not workers


@pytest.mark.skipif(not processes.AVAILABLE, reason="worker processes are made by fork, on Linux only")
def test_after_an_error_in_a_step_the_next_one_is_whole():
    """Catches a pool that is gone and still counted on: half of the batch would be missing from every gradient."""
    undisturbed, one = trainer(threads=2), trainer(threads=2)
    expected = [undisturbed.step() for _ in range(4)]
    metrics = [one.step(), one.step()]
    whole, one._work = one._work, lambda index, request: 1 / 0
    with pytest.raises(ZeroDivisionError):
        one.step()
    one._work = whole
    assert metrics + [one.step(), one.step()] == expected
    assert_equal_bits(weights(one), weights(undisturbed))
    one.close()
    undisturbed.close()


def test_a_pool_sees_what_is_loaded_after_it_was_started():
    """Catches velocities, averages or weights that the worker processes have copies of."""
    whole, first, second = (trainer(threads=2) for _ in range(3))
    expected = [whole.step() for _ in range(6)]
    for _ in range(3):
        first.step()
        second.step()
        second.step()  # its pool works, and is three steps ahead
    second.load_state(weights(first), 3)
    assert [second.step() for _ in range(3)] == expected[3:]
    assert_equal_bits(weights(second), weights(whole))
    for one in (whole, first, second):
        one.close()


@pytest.mark.parametrize("kind", [Toy, Buffered])
@pytest.mark.parametrize("stop", [1, 5, 11])
def test_stopping_and_going_on_changes_nothing(stop, kind):
    """Catches anything that the next step needs and the state lacks: moments, averages, counts, buffers, the epoch."""
    whole = trainer(kind=kind)
    metrics = list(train(whole))
    first = trainer(kind=kind)
    for _ in range(stop):
        first.step()
    second = trainer(kind=kind)
    second.load_state(weights(first), stop)
    assert list(train(second)) == metrics[stop:]
    assert_equal_bits(weights(second), weights(whole))


def test_seeds_matter():
    """Catches a seed that is accepted and never used."""
    a, b = trainer(seed=1), trainer(seed=2)
    b.family.load_state(a.family.state())
    assert a.step() != b.step()


def test_metrics_are_normalised_by_the_whole_batch():
    """24 images in shards of 5, the last of 4.  Catches a mean of shard means."""
    metrics = trainer().step()
    assert metrics["share"] == pytest.approx(1.0)
    assert {"read_loss", "write_loss", "read_gradient_norm", "write_rate"} <= metrics.keys()
    assert metrics["write_rate"] == pytest.approx(2 * metrics["read_rate"])


def test_the_rate_rises_and_falls_to_its_final_share():
    """Catches: a share that is configured and dropped, a warm-up or a decay that is left out."""
    config = OptimiserConfig(rate=0.02, warmup_steps=3, final=0.25)
    rates = [metrics["read_rate"] for metrics in train(trainer(optimiser=config))]
    cosine = 0.5 + 0.5 * np.cos(np.pi * np.arange(12) / 12)
    np.testing.assert_allclose(rates, 0.02 * np.minimum(1, np.arange(1, 13) / 3) * (0.25 + 0.75 * cosine))


def test_a_phase_changes_its_own_parameters_only():
    """Catches an update of every parameter in every phase."""
    one = trainer(kind=OnlyFirst)
    before = one.family.second.weight.data.copy()
    one.step()
    np.testing.assert_array_equal(one.family.second.weight.data, before)


class OnlyFirst(Toy):
    def phases(self, step):
        return super().phases(step)[:1]


def test_prepare_is_called_once_with_the_whole_first_batch():
    one = trainer()
    for _ in range(3):
        one.step()
    assert one.family.prepared == 1


def test_averaged_weights_come_and_go():
    """Catches an average that is computed and never applied, and weights that are not put back."""
    one = trainer()
    for _ in range(6):
        one.step()
    trained, average = one.family.first.weight.data.copy(), one.averaged_state()["first.weight"].copy()
    assert np.abs(trained - average).max() > 0
    with one.averaged_weights():
        np.testing.assert_array_equal(one.family.first.weight.data, average)
    np.testing.assert_array_equal(one.family.first.weight.data, trained)
    np.testing.assert_array_equal(one.state()["ema/first.weight"], average)


def test_the_gradient_is_clipped(monkeypatch):
    """Catches a clip that is configured and not applied."""
    seen = []
    monkeypatch.setattr(Muon, "step", lambda self, gradient, rate, scale, share: seen.append((gradient.copy(), scale)))
    config = replace(Toy.Config().optimiser, clip_norm=0.001)
    trainer(optimiser=config).step()
    assert len(seen) == 2  # phases
    for gradient, scale in seen:
        assert np.linalg.norm(gradient * scale) == pytest.approx(0.001, rel=1e-4)


class Explodes(Toy):
    """The logarithm of a negative number, from the third step on, in one shard only."""

    def loss(self, shard, rng):
        value, metrics = super().loss(shard, rng)
        bad = shard.indices[0] == DATA_INDEX and self.count > 4
        self.count += 1
        return (value + F.log(Tensor(np.float32(-1.0)) * value) if bad else value), metrics

    count = 0


DATA_INDEX = int(trainer().batches.at(2).indices[5])  # first image of the second shard of step 2


def test_a_nan_stops_the_run_and_names_step_and_op():
    """Catches a NaN that goes on silently, an update made with it, and a report without the place."""
    one = trainer(kind=Explodes)
    with np.errstate(invalid="ignore"), pytest.raises(Diverged, match=r"step 2.*forward pass of Log.*learning rate"):
        list(train(one))
    assert all(np.isfinite(array).all() for array in weights(one).values())


def test_a_parameter_that_is_not_finite_is_named():
    one = trainer()
    one.family.second.bias.data[3] = np.inf
    with np.errstate(invalid="ignore"), pytest.raises(Diverged, match="'second.bias'"):
        one.step()
