"""How much memory this process and its worker processes use, as the system counts it."""
import contextlib
import os
import resource
import sys
from pathlib import Path

KILOBYTE = 1.024e-3  # megabytes in what the system calls kB, which is 1,024 bytes


def reset_peak() -> float:
    """Megabytes resident now, from which on the peak is counted (on Linux; elsewhere: the peak so far)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return peak_megabytes()


def peak_megabytes() -> float:
    """The most that was resident in this process since the last `reset_peak`, and what its workers have now.

    A worker gives nothing back to the system before it ends, so what it has is the most it had.
    """
    workers = workers_megabytes()
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        return workers + next(int(line.split()[1]) * KILOBYTE for line in file if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1 / KILOBYTE)


def resident_megabytes() -> float:
    """What is resident now, in this process and its workers together (Linux only)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return workers_megabytes() + pages * os.sysconf("SC_PAGESIZE") / 1e6


def workers_megabytes() -> float:
    """What the child processes of this one have for themselves alone; what they share with it is counted there."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = (folder / "stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()[1]
            if int(parent) == os.getpid():
                lines = (folder / "smaps_rollup").read_text(encoding="ascii").splitlines()
                total += sum(int(line.split()[1]) * KILOBYTE for line in lines if line.startswith("Private_"))
    return total
