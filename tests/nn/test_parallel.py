"""Lanes: the bits do not depend on the number of threads, and the gradient is that of the whole batch."""
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import Tensor, processes
from nn import functional as F
from nn.modules import Linear, Sequential
from nn.parallel import LANES, FlatParameters, Threads, default_threads, derive_rng, even_shards, map_shards, total
from nn.tensor import Parameter


def small_net(dtype=np.float32):
    rng = np.random.default_rng(0)
    return Sequential(Linear(5, 7, rng), F.tanh, Linear(7, 3, rng)).astype(dtype)


def accumulate(flat, loss, shards, pool):
    """Every lane worked through by a pool, and the sum taken by all of its workers."""
    lanes = pool.map(lambda lane: flat.work_lane(lane, loss, shards), range(min(LANES, shards)))
    pool.map(lambda index: flat.add_up(len(lanes), index, pool.count), range(pool.count))
    return total(lanes)


def gradient(threads, shards, dtype=np.float32):
    net = small_net(dtype)
    flat = FlatParameters(net.parameters())
    x = np.random.default_rng(1).standard_normal((40, 5)).astype(dtype)
    parts = np.array_split(x, shards)

    def loss(shard):
        y = net(Tensor(parts[shard]))
        return F.sum(y * y), {"count": float(len(parts[shard]))}

    pool = Threads(threads)
    value, metrics = accumulate(flat, loss, shards, pool)
    pool.close()
    return value, metrics, flat.gradient


@pytest.mark.parametrize("shards", [1, 3, 8, 20])
def test_equal_bits_for_any_number_of_threads(shards):
    """Catches a sum taken in the order in which threads finish."""
    value, metrics, expected = gradient(1, shards)
    assert metrics == {"count": 40.0}
    for threads in (2, 4):
        for _ in range(3):
            again, _, got = gradient(threads, shards)
            np.testing.assert_array_equal(got, expected)
            assert again == value


def test_shards_add_up_to_the_whole_batch():
    """Catches a lane left out, counted twice, or kept from the step before."""
    whole_value, _, whole = gradient(1, 1, np.float64)
    value, _, parts = gradient(2, 13, np.float64)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    assert value == pytest.approx(whole_value)


def test_a_second_step_starts_from_zero():
    """Catches lanes that are not cleared, also those that the second step does not use."""
    p = Parameter(np.ones(3, np.float32))
    flat, pool = FlatParameters([p]), Threads(1)
    accumulate(flat, lambda shard: (F.sum(p * 2.0), {}), LANES, pool)
    accumulate(flat, lambda shard: (F.sum(p * 3.0), {}), 2, pool)
    np.testing.assert_array_equal(flat.views(flat.gradient)[0], np.full(3, 6.0))


def test_parameters_become_views_and_keep_their_values():
    """Catches parameters that are copied, so that an optimiser's step would not reach them."""
    net = small_net()
    before = [p.data.copy() for p in net.parameters()]
    flat = FlatParameters(net.parameters())
    for p, old in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, old)
        assert np.shares_memory(p.data, flat.values)
    flat.values += 1
    np.testing.assert_array_equal(net.parameters()[0].data, before[0] + 1)


def test_matrices_come_first_and_are_listed_as_inputs_by_outputs():
    """Catches a bias among the matrices, a slice that is not its parameter, a convolution's kernel on its side."""
    kernel, bias, linear = (Parameter(np.full(s, i, np.float32)) for i, s in enumerate([(3, 3, 2, 5), (7,), (4, 6)]))
    flat = FlatParameters([bias, kernel, linear])
    assert [matrix[1:] for matrix in flat.matrices] == [(18, 5), (4, 6)]
    for (part, rows, columns), parameter in zip(flat.matrices, (kernel, linear), strict=True):
        as_matrix = flat.values[part].reshape(rows, columns)
        np.testing.assert_array_equal(as_matrix[0], parameter.data[(0,) * (parameter.ndim - 1)])
    assert [p is q for p, q in zip(flat.parameters, (kernel, linear, bias), strict=True)] == [True] * 3


def test_every_parameter_and_gradient_starts_on_a_cache_line():
    flat = FlatParameters(small_net().parameters())
    for array in (flat.values, flat.gradient, *flat.lanes):
        assert all(view.ctypes.data % 64 == 0 for view in flat.views(array))


def test_each_worker_adds_up_its_own_numbers():
    """Catches numbers that two workers write, and some that none does."""
    flat = FlatParameters([Parameter(np.ones(100, np.float32))])
    flat.lanes[:2] = 1
    for index in range(3):
        flat.gradient[:] = 7
        flat.add_up(2, index, 3)
        done = np.flatnonzero(flat.gradient == 2)
        assert set(flat.gradient) <= {2, 7} and done.tolist() == list(range(48 * index, min(48 * (index + 1), 112)))


def test_only_the_given_parameters_receive_gradients():
    """Catches gradients leaking to parameters of another phase."""
    mine, other = Parameter(np.ones(2, np.float32)), Parameter(np.ones(2, np.float32))
    flat = FlatParameters([mine])
    accumulate(flat, lambda shard: (F.sum(mine * other), {}), 3, Threads(2))
    assert other.grad is None and mine.grad is None
    np.testing.assert_array_equal(flat.views(flat.gradient)[0], np.full(2, 3.0))


def test_an_error_in_a_thread_reaches_the_caller():
    """Catches exceptions swallowed by the pool."""
    def loss(shard):
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        accumulate(FlatParameters([Parameter(np.ones(1, np.float32))]), loss, 4, Threads(2))


@given(st.integers(1, 30), st.integers(1, 9))
def test_map_shards_covers_every_example_once(count, shard_size):
    """Catches a last short shard that is lost, and an order that depends on threads."""
    x = np.arange(count)
    np.testing.assert_array_equal(map_shards(lambda part: x[part] * 2, count, most=shard_size), x * 2)


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 32))
def test_even_shards_give_all_workers_the_same_work(count, most, workers):
    """Catches: shards of 32 for two workers where there are 16; more rounds than the largest shards would need."""
    size = even_shards(count, most, workers)
    shards = -(-count // size)
    assert 1 <= size <= most
    assert -(-shards // workers) <= -(-count // (most * workers))  # rounds: no worker works longer than it must
    longest = -(-shards // workers) * size
    assert longest - count / workers < -(-shards // workers) + 1  # nor by more than an example a round


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_map_shards_in_processes_gives_the_same_in_the_same_order(threads, monkeypatch):
    """Catches shares joined process by process, also where a process has one shard less; and no way without them."""
    x = np.arange(23)
    for able in (True, False):
        monkeypatch.setattr(processes, "AVAILABLE", able and processes.AVAILABLE)
        doubled = map_shards(lambda part: x[part] * 2, 23, Threads(threads), processes=True, most=4)
        np.testing.assert_array_equal(doubled, x * 2)


def test_map_shards_records_no_graph():
    """Catches sampling that builds graphs, and so keeps every activation."""
    p = Parameter(np.ones(1, np.float32))
    seen = map_shards(lambda part: np.array([(p * 2.0).requires_grad]), 4, Threads(2), most=1)
    assert seen.tolist() == [False] * 4


def test_map_shards_of_nothing_is_one_sentence():
    with pytest.raises(ValueError, match="at least one example"):
        map_shards(lambda part: np.zeros(1), 0)


def test_derived_generators():
    """The same arguments give the same draws; any other argument gives others.

    Catches a purpose or step ignored, zeros at the end, which a SeedSequence does not see, and large numbers, which it
    takes for several.
    """
    places = [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1), (0, "a"), (0, "a", 0), (0, "a", 0, 0), (0, "a", 1, 0)]
    places += [(0, "a", 2, 1), (0, "a", 2 + 2**32)]
    draws = [derive_rng(*place).random(4).tolist() for place in places]
    assert len({tuple(d) for d in draws}) == len(places)
    assert derive_rng(0, "a", 1).random(4).tolist() == draws[0]


def test_thread_counts():
    assert 1 <= default_threads() <= LANES
    with pytest.raises(ValueError, match="0"):
        Threads(0)


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_the_system_allows_no_more_threads_one_does_it_all(monkeypatch, allowed):
    """Catches a traceback, work that is lost with the thread that was refused, and work that waits for ever."""
    start, started = threading.Thread.start, []

    def limited(thread):
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.warns(RuntimeWarning, match="no 3 threads"):
        pool = Threads(3)
    assert pool.count == 1 and pool.map(lambda item: 2 * item, range(5)) == [0, 2, 4, 6, 8]
    pool.close()
