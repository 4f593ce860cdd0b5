"""A pool of processes: this one and copies of it, made by fork, that work in step on memory they share.

Kernels release Python's lock, but the code between two kernels needs it, and a thread that finds it taken sleeps and
takes some 0.1 ms to wake up, hundreds of times a step.  A step of the VAE was 1.2 times as fast on two threads as on
one, and 1.87 times on two processes (docs/notebook.md).

A fork is a cheap copy: the child has every array, model and data set of its parent, and the system copies a page only
when one of the two writes to it.  What both must see belongs in `shared_zeros`.

Only on Linux, and only from the main thread: a fork copies no other thread, but the locks that one held stay locked in
the copy.  The threads of a progress bar and of BLAS hold none that a worker uses; a program's own may.
"""
from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import mmap
import os
import signal
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable
from itertools import zip_longest
from multiprocessing.connection import Connection, Pipe

import numpy as np

from nn import runtime

AVAILABLE = sys.platform == "linux" and hasattr(os, "fork")
STOPS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
PR_SET_PDEATHSIG = 1


def start_pool(work: Callable[[int, object], object], count: int) -> ProcessPool | None:
    """A pool; None where one is not needed, may not be started, or the system allows no more processes."""
    if count < 2 or not AVAILABLE or threading.current_thread() is not threading.main_thread():
        return None
    try:
        return ProcessPool(work, count)
    except OSError:
        return None


def shared_zeros(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Zeros that a pool started later shares, beginning on a page of memory."""
    dtype, count = np.dtype(dtype), math.prod(shape)
    return np.frombuffer(mmap.mmap(-1, max(1, count * dtype.itemsize)), dtype, count).reshape(shape)


class ProcessPool:
    """`run(request)` calls `work(index, request)` in `count` processes at once; in this one with index 0.

    work sees everything as it was when the pool was started, apart from shared memory.  Requests and replies are copied
    (pickled; nothing from outside this program is ever on the line).
    Raises OSError if the system allows no more processes.
    """

    def __init__(self, work: Callable[[int, object], object], count: int):
        self.work = work
        self.workers: list[tuple[int, Connection]] = []  # process numbers, and the line to each
        self.close = weakref.finalize(self, _end, os.getpid(), self.workers)
        try:
            for index in range(1, count):
                self.workers.append(_fork(work, index))
            for _, line in self.workers:
                line.recv()  # it has let go of what it inherited: from now on it holds none of this process's locks
        except BaseException as error:
            self.close()
            if isinstance(error, EOFError):
                raise ChildProcessError("a worker process has ended before it began") from None
            raise

    def run(self, request=None) -> list:
        """[the reply of each process].  After an error the pool is closed.

        Raises RuntimeError with the traceback of a worker's exception, ChildProcessError if a worker has died.
        """
        if not self.close.alive:
            raise RuntimeError("this pool has been closed, by close() or after an error; start a new one")
        try:
            for _, line in self.workers:
                line.send(request)
            with runtime.single_threaded_blas():
                replies = [self.work(0, request)]
            for _, line in self.workers:
                reply, error = line.recv()
                if error is not None:
                    raise RuntimeError(f"in a worker process: {error}")
                replies.append(reply)
        except (EOFError, ConnectionError) as error:
            self.close()
            ended = "a worker process has ended unexpectedly, perhaps for want of memory: a single thread needs less"
            raise ChildProcessError(ended) from error
        except BaseException:
            self.close()
            raise
        return replies


def interleave(shares: list[list]) -> list:
    """The list of which share i was list[i::len(shares)].

    >>> interleave([[0, 2, 4], [1, 3]])
    [0, 1, 2, 3, 4]
    """
    return [item for row in zip_longest(*shares) for item in row if item is not None]


def _fork(work: Callable, index: int) -> tuple[int, Connection]:
    ours, theirs = Pipe()
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until each side handles them in its own way
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, see above
            process = os.fork()
        if process == 0:
            _serve(work, index, theirs, parent, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return process, ours


def _serve(work: Callable, index: int, line: Connection, parent: int, mask: set) -> None:
    """What a worker does until its parent ends or the pool is closed."""
    try:
        for stop in STOPS:  # they may reach the whole group; the parent decides
            signal.signal(stop, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that was heard
            return
        gc.freeze()  # what is inherited is not looked at again, and so not copied
        for name in os.listdir("/proc/self/fd"):  # else a killed parent's locks and lines would live on in its workers
            if int(name) > 2 and int(name) != line.fileno():
                with contextlib.suppress(OSError):  # the one by which the directory was listed
                    os.close(int(name))
        line.send(None)
        with runtime.single_threaded_blas():
            while True:
                request = line.recv()
                try:
                    answer = work(index, request), None
                except Exception:
                    answer = None, traceback.format_exc()
                line.send(answer)
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)  # without the parent's exit handlers


def _end(parent: int, workers: list[tuple[int, Connection]]) -> None:
    """Kill the workers.  A worker that inherited another pool leaves it alone."""
    if os.getpid() != parent:
        return
    for process, line in workers:
        line.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # where the system was told to forget children as they die
            os.waitpid(process, 0)
    workers.clear()
