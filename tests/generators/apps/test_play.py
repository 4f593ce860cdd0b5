"""A game in the terminal, driven through a pseudo-terminal; `test_explore.py` has the one on a page."""
import contextlib
import itertools
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
import types

import numpy as np
import pytest
from PIL import Image

from datasets import playground
from generators import registry
from generators.apps import play
from generators.cli import main
from generators.showing import terminal
from tests.generators.toys import sets_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a tiny world of the playground, with its cache beside it."""
    home = tmp_path_factory.mktemp("play")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        patch.setattr(playground, "SPLITS", {"train": 40, "test": 70, "unseen": 8})
        for split in ("train", "test"):
            playground.load(1, split)
        tiny = sets_of({**registry.FAMILIES["world"].tiny, "batch_size": 8})
        assert main(["train", "world", "--out", str(home / "run"), "--steps", "2", *tiny]) == 0
        yield home / "run"


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, *arguments):
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.slave, self.seen = slave, b""
        own = (
            "import os, signal, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); "
            "signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # `nohup` ignores it, and that is inherited
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", own, sys.executable, *arguments], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip

    def wait_for(self, words: bytes, count=1):
        """Read until these words have come so many times."""
        end = time.monotonic() + 400
        while self.seen.count(words) < count:
            assert time.monotonic() < end and self.process.poll() is None, self.seen[-2000:]
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 65536)

    def write(self, keys: bytes):
        os.write(self.master, keys)

    def end(self) -> int:
        end = time.monotonic() + 60
        while self.process.poll() is None:
            if time.monotonic() > end:
                self.process.kill()
                pytest.fail(f"it does not end: {self.seen[-2000:]}")
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0.1)[0]:
            self.seen += os.read(self.master, 65536)
        assert termios.tcgetattr(self.slave) == self.before
        assert self.seen.count(terminal.LEAVE.encode()) == 1 == self.seen.count(terminal.ENTER.encode())
        os.close(self.master), os.close(self.slave)
        return self.process.returncode


def test_a_game_in_the_terminal_is_recorded(run, tmp_path):
    """Catches arrows that arrive as three keys, a key that waits for Enter, and frames that are not painted anew."""
    film = tmp_path / "game.gif"
    game = Terminal("-m", "generators", "play", str(run), "--record", str(film))
    for number, key in enumerate((b"\x1b[C", b"\x1bOB", b"n", b"p", b"x", b"q"), 1):
        game.wait_for(b"q: quit", number)
        game.write(key)
    assert game.end() == 0
    assert "▀".encode() in game.seen
    with Image.open(film) as picture:
        assert picture.n_frames <= 5 and picture.format == "GIF"  # equal frames in a row are one to a GIF


def test_a_game_that_was_not_played_is_not_recorded(run, tmp_path):
    """Catches an earlier film that is lost where somebody looks in and quits."""
    film = tmp_path / "game.gif"
    film.write_bytes(b"an earlier one")
    game = Terminal("-m", "generators", "play", str(run), "--record", str(film))
    game.wait_for(b"q: quit", 1)
    game.write(b"q")
    assert game.end() == 0 and film.read_bytes() == b"an earlier one"


@pytest.mark.parametrize(("names", "told"), [("abc", "keys: 1 to 3 "), ("abcdefghijk", "keys: 1 to 9 ")])
def test_a_world_whose_keys_have_no_names_tells_their_numbers(monkeypatch, names, told):
    shown = []
    screen = types.SimpleNamespace(show=shown.append, key=lambda: "q")
    monkeypatch.setattr(play, "opened", lambda: contextlib.nullcontext(screen))
    model = types.SimpleNamespace(keys=dict.fromkeys(names, 0))
    play.in_terminal(types.SimpleNamespace(model=model, frames=[np.zeros((2, 2, 1))]))
    assert shown[0][-1].startswith(told)


@pytest.mark.parametrize(
    ("typed", "keys"), [(b"ab", ["a", "b"]), (b"\x1b[A\x1bOB", ["up", "down"]), (b"\x1b", ["escape"])]
)
def test_keys_are_read_one_by_one(monkeypatch, typed, keys):
    """Catches an arrow taken for three keys, and a terminal that is gone, waited for without end."""
    source, typing = os.pipe()
    reads, read = itertools.count(1), os.read
    monkeypatch.setattr(terminal.os, "read", lambda *how: read(*how) if next(reads) < 20 else pytest.fail("no end"))
    os.write(typing, typed)
    os.close(typing)
    screen = terminal.Screen(source, -1)
    assert [screen.key() for _ in keys] == keys and screen.key() == "escape"
    os.close(source)


SCRIPT = """
from generators.showing.terminal import opened
with opened() as screen:
    screen.show(["ready"])
    print(repr(screen.key()))
    raise RuntimeError("a crash")
"""


@pytest.mark.parametrize("end", ["crash", "Ctrl-C", "SIGTERM", "SIGHUP"])
def test_the_terminal_is_as_it_was_whatever_happens(end):
    game = Terminal("-c", SCRIPT)
    game.wait_for(b"ready")
    if end in ("crash", "Ctrl-C"):
        game.write(b"x" if end == "crash" else b"\x03")
    else:
        game.process.send_signal(getattr(signal, end))
    assert game.end() != 0
    assert (b"RuntimeError: a crash" in game.seen) == (end == "crash")
    assert game.seen.rindex(terminal.LEAVE.encode()) < (game.seen.find(b"Traceback") % 10**9)  # it can be read


def test_no_terminal_is_said_in_a_sentence(run, capsys):
    assert main(["play", str(run)]) == 2
    assert "add --web" in capsys.readouterr().err


def test_half_blocks():
    """Catches rows swapped within a character, and white that is not the ramp's last."""
    image = np.zeros((4, 2, 1), np.float32)
    image[0, 0] = image[3, 1] = 1
    lines = terminal.half_blocks(image)
    assert lines == ["\x1b[38;5;255;48;5;232m▀\x1b[38;5;232;48;5;232m▀\x1b[0m",
                     "\x1b[38;5;232;48;5;232m▀\x1b[38;5;232;48;5;255m▀\x1b[0m"]  # fmt: skip


def test_a_film_of_actions_that_are_told_beforehand(run, tmp_path, capsys):
    """Catches an action left out or taken for another, and a refusal that does not name the actions."""
    for ending in ("gif", "png"):
        out = tmp_path / f"game.{ending}"
        assert main(["sample", str(run), "--actions", "left, left next", "--out", str(out)]) == 0 and out.exists()
    out = tmp_path / "game.npz"
    assert main(["sample", str(run), "--actions", "left left next", "--out", str(out)]) == 0
    with np.load(out) as file:
        assert file["captions"].tolist() == ["start", "left", "left", "next"] and file["images"].shape == (4, 28, 28)
        model, _ = registry.open_run(run)
        play.learn_keys(model, "playground")
        codes = [model.keys[name] for name in ("left", "left", "next")]
        expected = model.play(play.first_frame("playground", 0), codes)[..., 0]
        np.testing.assert_array_equal(file["images"], np.rint(expected * 255))
    assert main(["sample", str(run), "--actions", "jump", "--out", str(out)]) == 2
    assert "no action 'jump'" in capsys.readouterr().err
