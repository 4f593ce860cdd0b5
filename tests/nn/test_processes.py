"""Worker processes: they share what they should, die when they should, and their errors are heard."""
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from nn import processes
from nn.processes import ProcessPool, shared_zeros

pytestmark = pytest.mark.skipif(not processes.AVAILABLE, reason="worker processes are made by fork, on Linux only")


def running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def ended(process: int, seconds: float = 10.0) -> bool:
    limit = time.monotonic() + seconds
    while running(process) and time.monotonic() < limit:
        time.sleep(0.01)
    return not running(process)


def test_everybody_works_and_replies_come_in_order():
    """Catches replies in the order of arrival, a worker left out, and work done twice in one process."""
    pool = ProcessPool(lambda index, request: [index, request, os.getpid()], 3)
    for request in (1, {"a": 0.1}, float("inf")):
        replies = pool.run(request)
        assert [reply[:2] for reply in replies] == [[index, request] for index in range(3)]
        assert len({reply[2] for reply in replies}) == 3 and replies[0][2] == os.getpid()
    pool.close()


def test_shared_memory_is_shared_both_ways_and_other_memory_is_not():
    shared, private = shared_zeros((2, 3), np.float32), np.zeros(2)

    def work(index, request):
        shared[index] += request
        private[index] += 1
        return float(shared[1 - index, 0])

    pool = ProcessPool(work, 2)
    pool.run(5.0)
    np.testing.assert_array_equal(shared, np.full((2, 3), 5.0))
    shared[...] = 7  # seen by the worker
    assert pool.run(0.0) == [7.0, 7.0]
    np.testing.assert_array_equal(private, [2, 0])
    pool.close()


def test_shared_zeros_is_writable_and_aligned():
    array = shared_zeros((5, 7), np.float64)
    assert array.shape == (5, 7) and array.dtype == np.float64 and array.ctypes.data % 64 == 0 and not array.any()
    assert shared_zeros((0, 3), np.float32).shape == (0, 3)
    array += 1


def test_numbers_come_back_bit_for_bit():
    """Catches replies rounded on the way."""
    numbers = [float(x) for x in np.random.default_rng(0).standard_normal(100)] + [float("nan"), 1e-320, -0.0]
    pool = ProcessPool(lambda index, request: numbers, 2)
    mine, theirs = pool.run()
    np.testing.assert_array_equal(np.array(theirs).view(np.int64), np.array(mine).view(np.int64))
    pool.close()


@pytest.mark.parametrize("where", [0, 1])
def test_an_error_is_heard_and_ends_the_pool(where):
    def work(index, request):
        if index == where:
            raise ValueError("no such thing")
        return index

    pool = ProcessPool(work, 2)
    process = pool.workers[0][0]
    with pytest.raises(ValueError if where == 0 else RuntimeError, match="no such thing"):
        pool.run()
    assert ended(process)


def test_a_member_that_dies_is_one_sentence():
    """Catches advice that is for training alone."""
    pool = ProcessPool(lambda index, request: index and os.kill(os.getpid(), signal.SIGKILL), 2)
    with pytest.raises(ChildProcessError, match="memory.*single thread") as error:
        pool.run()
    assert "resume" not in str(error.value)
    assert not pool.workers


def test_a_closed_pool_says_so():
    """Catches a pool that goes on with one process, and does a part of the work without a word."""
    pool = ProcessPool(lambda index, request: index, 2)
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.run()


def test_a_signal_to_the_whole_group_is_for_the_parent_to_answer():
    """Catches workers that die of the SIGTERM or SIGHUP on which their parent wants to finish its step and save."""
    pool = ProcessPool(lambda index, request: index, 2)
    for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pool.workers[0][0], stop)
        assert pool.run() == [0, 1]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    pool.close()


def test_only_the_main_thread_hires():
    found = []
    thread = threading.Thread(target=lambda: found.append(processes.start_pool(lambda index, request: index, 2)))
    thread.start()
    thread.join()
    assert found == [None]
    with closing(processes.start_pool(lambda index, request: index, 2)) as pool:
        assert pool.run() == [0, 1]


def test_close_leaves_nobody_behind():
    pool = ProcessPool(lambda index, request: index, 4)
    children = [process for process, _ in pool.workers]
    pool.close()
    assert len(children) == 3 and not any(map(running, children))
    pool.close()  # and may be called again


def test_where_there_are_no_more_processes_there_is_no_pool(monkeypatch):
    """Catches a run that ends, or workers left behind, where threads could have done the work."""
    started, fork = [], os.fork

    def second_fails():
        if started:
            raise BlockingIOError("no more processes")
        started.append(fork())
        return started[0]

    monkeypatch.setattr(os, "fork", second_fails)
    assert processes.start_pool(lambda index, request: index, 3) is None
    assert ended(started[0])
    assert processes.start_pool(lambda index, request: index, 1) is None  # and for one there is nothing to start


def test_close_does_not_mind_who_is_gone_already():
    """Catches a close that stops at a worker which somebody else has reaped, and leaves the others alive."""
    pool = ProcessPool(lambda index, request: index, 3)
    first, second = (process for process, _ in pool.workers)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    pool.close()
    assert not running(second)


def test_a_pool_that_is_forgotten_ends_too():
    pool = ProcessPool(lambda index, request: index, 2)
    process = pool.workers[0][0]
    del pool
    assert ended(process)


def test_a_worker_leaves_other_pools_alone():
    """Catches a worker that, in clearing away what it inherited, ends its parent's other workers."""
    first = ProcessPool(lambda index, request: index, 2)
    second = ProcessPool(lambda index, request: first.close() or index, 2)
    line = second.workers[0][1]
    line.send(None)
    assert line.recv() == (1, None)
    assert first.run() == [0, 1]
    first.close()
    second.close()


KILLED = """
import fcntl, sys, time
from nn.processes import ProcessPool
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
earlier = ProcessPool(lambda index, request: index, 2)
pool = ProcessPool(lambda index, request: time.sleep(index * request), 2)
print(earlier.workers[0][0], pool.workers[0][0], flush=True)
pool.run(float(sys.argv[2]))
time.sleep(100)
"""


@pytest.mark.parametrize("busy", [0, 100])
def test_a_killed_parent_takes_its_lock_and_its_members_with_it(tmp_path, busy):
    """Catches workers that hold the run's lock, that wait for ever on a line that another keeps open, or that finish
    first what nobody will read."""
    import fcntl  # not to be had where these tests are skipped

    command = [sys.executable, "-c", KILLED, str(tmp_path / "lock"), str(busy)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        workers = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    with open(tmp_path / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert all(map(ended, workers))
