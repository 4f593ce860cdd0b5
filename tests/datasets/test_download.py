"""Downloads against a server on loopback: whatever goes wrong, the file is whole and right, or not there at all."""

import os
import threading

import numpy as np
import pytest

from datasets import download
from datasets.errors import DataError
from tests.datasets.files import PATIENCE, Server, sha256

BODY = np.random.default_rng(0).bytes(300_000)
NAME = "train-images-idx3-ubyte.gz"


@pytest.fixture(autouse=True)
def on_loopback(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    monkeypatch.setattr(download, "PAUSES", (0, 0.01, 0.02))


@pytest.fixture
def server():
    with Server({NAME: BODY}) as running:
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "mnist" / NAME


def fetch(target, *mirrors):
    download.fetch(target, sha256(BODY), mirrors)


def be_patient(monkeypatch, fault):
    """Little where the server will fall silent, for the test's sake; else as much as users have: machines are busy."""
    if fault == "stall":
        monkeypatch.setattr(download, "STALL", PATIENCE)


def assert_only_the_file(target):
    assert target.read_bytes() == BODY
    assert_nothing_but(target, NAME)


def assert_nothing_but(target, *names):
    assert sorted(os.listdir(target.parent)) == sorted([".lock", *names])


def test_a_good_server(server, target):
    fetch(target, server.url)
    assert_only_the_file(target)
    assert server.log == [(NAME, None, None)]


@pytest.mark.parametrize("fault", ["truncated", "stall"])
def test_a_break_half_way_is_resumed(server, target, fault, monkeypatch):
    server.plan = [fault]
    be_patient(monkeypatch, fault)
    fetch(target, server.url)
    assert_only_the_file(target)
    (_, first, _), (_, second, _) = server.log
    assert first is None and second == f"bytes={len(BODY) // 2}-"


def test_a_break_is_resumed_by_a_later_process(server, target, monkeypatch):
    server.plan = ["truncated"]
    monkeypatch.setattr(download, "PAUSES", (0,))
    with pytest.raises(DataError, match="broke off after 150,000 of 300,000 bytes"):
        fetch(target, server.url)
    assert not target.exists()
    fetch(target, server.url)
    assert_only_the_file(target)
    assert server.log[-1][1] == "bytes=150000-"


def test_a_server_that_knows_no_ranges_starts_anew(server, target):
    """Appending the whole file to its first half would give the wrong hash, or a wrong file."""
    server.plan = ["truncated", "ignore range"]
    fetch(target, server.url)
    assert_only_the_file(target)


def test_a_part_of_something_else_is_thrown_away(server, target):
    """Left by another mirror, or longer than the file: the next run must succeed all the same."""
    for left in (b"x" * 1000, b"x" * 400_000):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_name(f".{NAME}.part").write_bytes(left)
        fetch(target, server.url)
        assert_only_the_file(target)
        target.unlink()


def test_a_whole_part_is_moved_without_asking(server, target):
    target.parent.mkdir(parents=True)
    target.with_name(f".{NAME}.part").write_bytes(BODY)
    fetch(target, server.url)
    assert_only_the_file(target)
    assert server.log == []


@pytest.mark.parametrize(
    ("fault", "words", "requests"),
    [
        ("wrong", "wrong SHA-256", 1),
        ("short", "wrong SHA-256", 1),
        (404, "answered 404", 1),
        (503, "answered 503", 3),
        ("stall", "fell silent", 3),
        (("redirect", "file:///etc/passwd"), "answered 302", 1),
        (("redirect", "ftp://127.0.0.1/x"), "not served over http", 1),
    ],
)
def test_failures_are_one_sentence_and_the_next_run_succeeds(server, target, fault, words, requests, monkeypatch):
    server.plan = [fault] * 3
    be_patient(monkeypatch, fault)
    with pytest.raises(DataError, match=words) as error:
        fetch(target, server.url)
    assert "\n" not in str(error.value) and "INKLING_DATA" in str(error.value)
    assert len(server.log) == requests
    assert not target.exists()
    server.plan = []
    fetch(target, server.url)
    assert_only_the_file(target)


@pytest.mark.parametrize("fault", ["wrong", 404, "truncated"])
def test_the_next_mirror_is_asked(server, target, fault):
    with Server({NAME: BODY}) as second:
        server.plan = [fault] * 9
        fetch(target, server.url, second.url)
        assert len(server.log) == len(second.log) == 1
    assert_only_the_file(target)


def test_a_server_that_is_not_there(target):
    with Server({}) as gone:
        url = gone.url
    with pytest.raises(DataError, match="cannot be reached"):
        fetch(target, url)
    assert_nothing_but(target)


def test_an_endless_body_is_cut(server, target, monkeypatch):
    monkeypatch.setattr(download, "LIMIT", 3 << 20)
    server.plan = ["endless"]
    with pytest.raises(DataError, match="more than 3,145,728 bytes"):
        fetch(target, server.url)
    assert_nothing_but(target)


def test_only_https(server, target, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(DataError, match="not served over https"):
        fetch(target, server.url)
    assert server.log == []
    with pytest.raises(download._Failure, match="not served over https"):
        download._SameSchemes().redirect_request(None, None, 302, "", {}, server.url)


def test_several_at_once_fetch_once(server, target):
    """In many rounds: catches a lock that is never let go, and one that two hold at once."""
    for done in range(1, 31):
        errors = []

        def attempt(errors=errors):
            try:
                fetch(target, server.url)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=attempt, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        assert errors == []
        assert_only_the_file(target)
        assert len(server.log) == done
        target.unlink()


def test_a_link_in_the_place_of_the_part_is_not_followed(server, target, tmp_path):
    target.parent.mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"old")
    target.with_name(f".{NAME}.part").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="link"):
        fetch(target, server.url)
    assert (tmp_path / "precious").read_bytes() == b"old" and not target.exists()


def test_a_folder_that_cannot_be_written_is_an_os_error(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        fetch(tmp_path / "file" / NAME, server.url)
