"""MNIST and Fashion-MNIST from INKLING_DATA, the cache or a mirror, and every way in which they can be wrong."""

import os

import numpy as np
import pytest

import datasets
from datasets import DataError, download, mnist
from disk import cache
from tests.datasets.files import Server, digits, sha256, write_split


@pytest.fixture
def data(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("INKLING_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("the files are there, yet a download began"))
    return tmp_path / "data"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "mnist"), ("fashion", "fashion-mnist")])
def test_any_number_of_images(data, name, folder, zipped):
    images, labels = digits(7)
    for prefix, count in (("train", 7), ("t10k", 3)):
        write_split(data / folder, prefix, images[:count], labels[:count], zipped)
    train, test, two = datasets.load(name, limit=99), datasets.load(name, "test"), datasets.load(name, limit=2)
    assert np.array_equal(train.images[..., 0], images) and np.array_equal(train.labels, labels)
    assert train.labels.dtype == np.int64 and train.name == name
    assert len(test) == 3 and len(two) == 2
    assert test.captions([0, 2]) == [train.classes[labels[0]], train.classes[labels[2]]]
    assert set(train.vocabulary) == set(train.classes)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dotted", [True, False])
@pytest.mark.parametrize("place", ["FashionMNIST/raw", "Fashion-MNIST", "fashion", "fashion-mnist"])
def test_files_as_others_lay_them(data, monkeypatch, place, dotted, zipped):
    """Also if INKLING_DATA names the folder itself.  Catches MNIST taken for Fashion-MNIST, whose files are called the
    same."""
    for name, count in ((place, 7), ("MNIST/raw", 4)):
        write_split(data / name, "train", *digits(count), zipped)
        for file in (data / name).iterdir():
            file.rename(file.with_name(file.name.replace("-idx", ".idx") if dotted else file.name))
    assert len(datasets.load("fashion")) == 7 and len(datasets.load("mnist")) == 4
    monkeypatch.setenv("INKLING_DATA", str(data / place))
    assert len(datasets.load("fashion")) == 7


@pytest.mark.parametrize(
    ("place", "split", "words"),
    [
        ("", "train", "data holds .*'train-images-idx3-ubyte.gz'.*; expected mnist/train-images-idx3-ubyte"),
        ("mnist", "test", "mnist holds 'train-images-idx3-ubyte.gz', .*; expected mnist/t10k-images-idx3-ubyte"),
    ],
)
def test_what_was_seen_is_named_before_anything_is_downloaded(data, place, split, words):
    """Files that could be MNIST or Fashion-MNIST, and a split of one's own without the other."""
    write_split(data / place, "train", *digits(3))
    with pytest.raises(DataError, match=words):
        datasets.load("mnist", split)


def test_class_names_are_single_words():
    for source in mnist.SOURCES.values():
        assert len(set(source.classes)) == 10
        assert all(datasets.captions.words(name) == [name] for name in source.classes)


def replace_labels(labels):
    labels = labels.copy()
    labels[3] = 10
    return labels


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images, labels: (images[:5], labels), "hold 5 images but 7 labels"),
        (lambda images, labels: (images[:, :20], labels), "20x28 pixels; expected 28x28"),
        (lambda images, labels: (images, replace_labels(labels)), "label 10; expected 0 to 9"),
        (lambda images, labels: (images.reshape(7, -1), labels), "2 dimensions; expected 3"),
    ],
)
def test_files_that_do_not_fit(data, change, words):
    write_split(data / "mnist", "train", *change(*digits(7)))
    with pytest.raises(DataError, match=words):
        datasets.load("mnist")


def test_half_a_split_is_not_completed_by_a_download(data):
    """Seven labels of one's own beside sixty thousand downloaded images."""
    write_split(data / "mnist", "train", *digits(7))
    (data / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match="holds no train-images-idx3-ubyte"):
        datasets.load("mnist")


def test_a_wrong_inkling_data(data, monkeypatch):
    monkeypatch.setenv("INKLING_DATA", str(data / "nowhere"))
    with pytest.raises(DataError, match="INKLING_DATA.*nowhere.*not a folder"):
        datasets.load("mnist")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("cifar",), "'cifar'; choose digits, moving, mnist, fashion"),
        (("mnist", "validation"), "'validation'; choose one of train, test"),
        (("digits", "train", 0), "limit is 0"),
    ],
)
def test_what_there_is_not(data, call, words):
    with pytest.raises(DataError, match=words):
        datasets.load(*call)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server with a tiny MNIST whose hashes are known, and an empty cache."""
    write_split(tmp_path / "served", "train", *digits(9))
    files = {path.name: path.read_bytes() for path in (tmp_path / "served").iterdir()}
    with Server(files) as server:
        source = mnist.SOURCES["mnist"]
        hashes = {name: sha256(body) for name, body in files.items()}
        tiny = mnist.Source(source.folder, source.names, source.classes, (server.url,), hashes)
        monkeypatch.setitem(mnist.SOURCES, "mnist", tiny)
        monkeypatch.setattr(download, "SCHEMES", ("http",))
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("INKLING_DATA", raising=False)
        yield server


def test_downloaded_once_then_cached(mirror):
    first, second = datasets.load("mnist"), datasets.load("mnist")
    assert np.array_equal(first.images[..., 0], digits(9)[0]) and np.array_equal(first.images, second.images)
    assert len(mirror.log) == 2


def test_files_of_ones_own_come_first_and_without_hashes(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("INKLING_DATA", str(tmp_path))
    assert len(datasets.load("mnist")) == 9  # the folder has no mnist/ in it, so this is the download
    write_split(tmp_path / "mnist", "train", *digits(4))
    assert len(datasets.load("mnist")) == 4


def test_a_damaged_cache_is_fetched_again(mirror):
    datasets.load("mnist")
    path = cache.root() / "mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-5])
    assert len(datasets.load("mnist")) == 9
    assert len(mirror.log) == 3


def test_published_mirrors_are_https():
    for source in mnist.SOURCES.values():
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in source.mirrors)
        assert len(source.sha256) == 4 and all(len(digest) == 64 for digest in source.sha256.values())


@pytest.mark.skipif("INKLING_DATA" not in os.environ, reason="needs real Fashion-MNIST: set INKLING_DATA")
def test_real_fashion():
    test = datasets.load("fashion", "test")
    assert len(test) >= 1000 and set(test.labels) == set(range(10))
