"""A picture in a terminal, and single keys from it; over ssh as well.

Two pixels share a character, the upper half block: its upper half has the colour of the text, its lower half that of
the paper.  Keys are read one at a time, without Enter (`cbreak`), and a terminal that was put into that state has to be
put back, whatever happens: `opened` does so at its end, also after Ctrl-C, an error, SIGTERM or SIGHUP.
"""
from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from generators.apps.program import signals
from generators.errors import UsageError

ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # another screen, no cursor, empty
LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}  # ESC [ A or, in some terminals, ESC O A


def half_blocks(image: np.ndarray) -> list[str]:
    """An image (H, W, C), float in [0, 1], H even -> H / 2 lines of W characters with their gray levels (of 24)."""
    gray = 232 + np.rint(np.clip(image.mean(axis=-1), 0, 1) * 23).astype(int)  # the ramp of 256 colours
    rows = zip(gray[::2].tolist(), gray[1::2].tolist(), strict=True)
    return ["".join(f"\x1b[38;5;{top};48;5;{bottom}m▀" for top, bottom in zip(*pair, strict=True)) + "\x1b[0m"
            for pair in rows]  # fmt: skip


@contextlib.contextmanager
def opened() -> Iterator[Screen]:
    """The terminal on standard input and output, for a game.  UsageError where there is none.

    with opened() as screen:
        screen.show(lines)
        key = screen.key()          # "left", "q", ...
    """
    try:
        import termios  # none on Windows
        import tty

        screen = Screen(sys.stdin.fileno(), sys.stdout.fileno())
        there = os.isatty(screen.source) and os.isatty(screen.target)
    except (ImportError, OSError):
        there = False
    if not there:
        raise UsageError("there is no terminal to play in; add --web and play in a browser")
    before = termios.tcgetattr(screen.source)
    with signals(("SIGTERM", "SIGHUP"), _end):
        try:
            tty.setcbreak(screen.source)
            quiet = termios.tcgetattr(screen.source)
            quiet[6][termios.VSUSP] = b"\0"  # Ctrl-Z would leave the terminal as it is now
            termios.tcsetattr(screen.source, termios.TCSADRAIN, quiet)
            screen.write(ENTER)
            yield screen
        finally:
            try:
                screen.write(LEAVE)
            finally:
                termios.tcsetattr(screen.source, termios.TCSADRAIN, before)


def _end(number, frame) -> None:
    raise SystemExit(128 + number)  # so that what stands in `finally` is done


class Screen:
    """A terminal for a game, by the numbers of its files to read from and to write to."""

    def __init__(self, source: int, target: int):
        self.source, self.target = source, target

    def show(self, lines: Sequence[str]) -> None:
        """Draw over what was there: each line in its place, what is left of the old one cleared."""
        self.write("".join(f"\x1b[{row + 1};1H{line}\x1b[K" for row, line in enumerate(lines)))

    def key(self) -> str:
        """The next key: a character, or "up", "down", "left", "right", "escape", also for a terminal that is gone."""
        first = os.read(self.source, 1)
        if first == b"\x1b":
            rest = b""  # an arrow comes in three bytes
            while len(rest) < 2 and select.select([self.source], [], [], 0.05)[0] and (more := os.read(self.source, 1)):
                rest += more
            arrow = rest[1:].decode("latin-1") if rest[:1] in (b"[", b"O") else ""
            return ARROWS.get(arrow, "escape")
        return first.decode("latin-1") if first else "escape"

    def write(self, text: str) -> None:
        content = text.encode()
        while content:
            content = content[os.write(self.target, content) :]
