"""One process at a time in a folder, by every kind of lock that a system may have."""
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from disk import lock

ROOT = Path(lock.__file__).parent.parent
HOLD = """
import sys
from disk.lock import locked
with locked(sys.argv[1]): print("held", flush=True); input()
"""


def windows():
    """What `msvcrt` does, by means of POSIX: one process holds the first byte of a file."""
    import fcntl

    return types.SimpleNamespace(
        LK_NBLCK=2, locking=lambda file, mode, count: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    )


@pytest.fixture(params=["flock", "msvcrt"])
def system(request, monkeypatch):
    if request.param != "flock":
        monkeypatch.setattr(lock, "msvcrt", windows(), raising=False)
        monkeypatch.setattr(lock, "fcntl", None)


def test_the_second_is_told_at_once_and_the_next_gets_it(system, tmp_path):
    with lock.locked(tmp_path):
        with pytest.raises(BlockingIOError, match="another process"), lock.locked(tmp_path):
            pass
    with pytest.raises(KeyError), lock.locked(tmp_path):
        raise KeyError
    with lock.locked(tmp_path):
        pass


def test_who_waits_gets_it(system, tmp_path):
    """Catches a lock that two hold at once, and one that is never let go."""
    inside, most = [], []

    def work():
        with lock.locked(tmp_path, wait=True):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1] * 5


def test_who_waits_gives_up_in_the_end(system, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.1)
    with lock.locked(tmp_path), pytest.raises(BlockingIOError):
        with lock.locked(tmp_path, wait=True):
            pass


def test_another_process_is_seen_and_the_kernel_lets_go_of_a_killed_one(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), lock.locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with lock.locked(tmp_path):
        pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / ".lock").symlink_to("elsewhere")
    with pytest.raises(OSError), lock.locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == [".lock"]
