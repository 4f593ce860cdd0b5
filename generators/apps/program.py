"""What the program `inkling` owes to where it runs: a terminal that may be closed, and a user who may press Ctrl-C."""

import contextlib
import errno
import mmap
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tab and the ends of lines


def stop_at_once(*_) -> None:
    """What Ctrl-C does while modules are imported, where an exception may be lost or end in a traceback."""
    os.write(2, b"inkling: stopped\n")
    os._exit(130)


def interrupts(old, new) -> None:
    """Answer Ctrl-C by `new` if it is answered by `old` so far."""
    with contextlib.suppress(ValueError):  # not in the main thread
        if signal.getsignal(signal.SIGINT) is old:
            signal.signal(signal.SIGINT, new)


@contextlib.contextmanager
def signals(names: Sequence[str], answer) -> Iterator[None]:
    """Within it signals of these names are answered by `answer(number, frame)`; what is ignored (`nohup`) stays so.

    Only in the main thread: in others whoever runs us there handles signals.
    """
    main, before = threading.current_thread() is threading.main_thread(), {}
    try:
        for number in (getattr(signal, name) for name in names if main and hasattr(signal, name)):  # Windows lacks one
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, answer)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def escaped(text: str) -> str:
    """The text with control characters written out, so that no name in a file can command a terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Within it anything can be printed, and printing never stops the work.

    A reader that has gone (`| head -1`, a closed terminal) gets no more.  What the terminal's encoding lacks, and on
    standard output every control character, is shown escaped.  Standard streams that are closed (`2>&-`) lead nowhere,
    so that no file of ours gets their number.  Raises OSError naming standard output where it is a file on a full disk.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
    out, errors = _Stream(sys.stdout, "standard output", escaped), _Stream(sys.stderr, "standard error", str)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            yield
        finally:
            errors.flush()
            out.flush()
            if out.failure:  # argparse, for one, keeps it to itself
                raise out.failure


@contextlib.contextmanager
def compiling_announced() -> Iterator[None]:
    """Within it the first kernel to be compiled is announced: together they take up to minutes, but once."""
    from numba.core import event
    from tqdm import tqdm

    told = mmap.mmap(-1, 1)  # shared with worker processes

    class Announcement(event.Listener):
        def on_start(self, event) -> None:
            if not told[0]:
                told[0] = 1
                tqdm.write("Compiling, once ...")  # not into the middle of a bar

        def on_end(self, event) -> None:
            pass

    with event.install_listener("numba:compile", Announcement()):
        yield


class _Stream:
    def __init__(self, stream, name: str, show):
        self.stream, self.name, self.show = stream or open(os.devnull, "w"), name, show  # noqa: SIM115
        self.failure: OSError | None = None
        if hasattr(self.stream, "reconfigure"):
            self.stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name):  # isatty, fileno, encoding
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._guarded():
            self.stream.write(self.show(text))
        return len(text)

    def flush(self) -> None:
        with self._guarded():
            self.stream.flush()

    @contextlib.contextmanager
    def _guarded(self):
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):  # what is left in its buffer must go somewhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            self.stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            if error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF):  # the reader, the terminal, a worker's copy
                self.failure = OSError(error.errno, error.strerror, self.name)
                raise self.failure from error
