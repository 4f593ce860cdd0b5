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
def test_after_a_break_half_way_the_whole_file_is_asked_for_again(server, target, fault, monkeypatch):
    """Catches a half that is taken for the file, and one that is put before the whole."""
    server.plan = [fault]
    be_patient(monkeypatch, fault)
    fetch(target, server.url)
    assert_only_the_file(target)
    assert [asked for _, asked, _ in server.log] == [None, None]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("wrong", "wrong SHA-256"),
        ("short", "wrong SHA-256"),
        ("truncated", "broke off after 150,000 of 300,000 bytes"),
        (404, "answered 404"),
        (503, "answered 503"),
        ("stall", "fell silent"),
        (("redirect", "file:///etc/passwd"), "answered 302"),
        (("redirect", "ftp://127.0.0.1/x"), "not served over http"),
    ],
)
def test_failures_are_one_sentence_and_the_next_run_succeeds(server, target, fault, words, monkeypatch):
    server.plan = [fault] * 3
    be_patient(monkeypatch, fault)
    with pytest.raises(DataError, match=words) as error:
        fetch(target, server.url)
    assert "\n" not in str(error.value) and "INKLING_DATA" in str(error.value)
    assert len(server.log) == 3  # rounds
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
    server.plan = ["endless"] * 3
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


def test_a_folder_that_cannot_be_written_is_an_os_error(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        fetch(tmp_path / "file" / NAME, server.url)
