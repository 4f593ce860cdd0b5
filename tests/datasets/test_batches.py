"""Batches: shuffled, complete, and the same from whichever step one enters."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasets
from datasets import Batches, Dataset
from datasets.captions import Names


def numbered(total):
    """A data set whose images tell their index."""
    images = np.arange(total, dtype=np.uint8)[:, None, None, None]
    return Dataset("numbered", images, np.arange(total) % 3, ("a", "b", "c"), Names("abc", "abc"))


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32))
def test_every_epoch_shows_every_image_once(total, size, seed):
    """Also across the seam of two epochs within one batch, and where a batch is larger than the data set."""
    batches = Batches(numbered(total), size, seed)
    seen = np.concatenate([batches.at(step).indices for step in range(3 * total)])
    assert len(seen) == 3 * total * size
    for epoch in range(3):
        assert sorted(seen[epoch * total : (epoch + 1) * total]) == list(range(total))


@given(st.permutations(list(range(12))))
def test_a_step_is_the_same_in_any_order(steps):
    """A shuffle that depends on the steps before would break resuming."""
    dataset = datasets.load("digits", limit=50)
    batches = Batches(dataset, 16, 7)
    for step in steps:
        here, fresh = batches.at(step), Batches(dataset, 16, 7).at(step)
        assert np.array_equal(here.indices, fresh.indices) and here.captions == fresh.captions
        assert np.array_equal(here.images, fresh.images)


def test_epochs_and_seeds_differ():
    batches = Batches(numbered(200), 200, 0)
    orders = [batches.at(0).indices, batches.at(1).indices, Batches(numbered(200), 200, 1).at(0).indices]
    assert len({order.tobytes() for order in orders}) == 3


def test_captions_are_drawn_anew_every_epoch():
    dataset = datasets.load("digits", limit=64)
    batches = Batches(dataset, 64, 0)
    first, second = (dict(zip(b.indices.tolist(), b.captions, strict=True)) for b in (batches.at(0), batches.at(1)))
    assert sum(first[i] != second[i] for i in first) > 32


def test_a_batch_fits_its_data_set():
    dataset = datasets.load("digits", limit=100)
    batch = Batches(dataset, 32, 0).at(5)
    assert batch.images.dtype == np.float32 and batch.images.shape == (32, 28, 28, 1)
    assert batch.images.max() == 1.0 and batch.images.min() == 0.0
    assert np.array_equal(np.rint(batch.images * 255), dataset.images[batch.indices])
    assert np.array_equal(batch.labels, dataset.labels[batch.indices])
    for index, caption in zip(batch.indices, batch.captions, strict=True):
        assert not dataset.language.contradicts(caption, dataset.describe(index))


def test_class_names_are_the_captions_where_there_are_no_attributes():
    dataset = numbered(30)
    rng = np.random.default_rng(0)
    assert dataset.captions([0, 1, 5]) == ["a", "b", "c"]
    false = dataset.contradicting(range(30), dataset.captions(range(30)), rng)
    assert all(text in dataset.classes for text in false)
    assert all(text != true for text, true in zip(false, dataset.captions(range(30)), strict=True))
    assert len(set(false[::3])) == 2  # any other class, not always the next


def test_training_says_nothing_now_and_then_where_there_are_no_attributes():
    """Catches an empty caption that a model is asked for and was never trained on; labels that go empty with it."""
    dataset, indices = numbered(30), np.arange(9000) % 30
    names = dataset.captions(indices)
    drawn = dataset.captions(indices, np.random.default_rng(0))
    assert drawn == dataset.captions(indices, np.random.default_rng(0)) != names
    empty = [text == "" for text in drawn]
    assert abs(np.mean(empty) - datasets.captions.MIX["empty"]) < 0.01
    assert all(text in ("", name) for text, name in zip(drawn, names, strict=True))
    false = dataset.contradicting(indices, drawn, np.random.default_rng(1))
    assert all(text in dataset.classes and text != name for text, name in zip(false, names, strict=True))


def test_one_class_has_no_contradiction():
    dataset = Dataset("one", np.zeros((2, 1, 1, 1), np.uint8), np.zeros(2, np.int64), ("",), Names(("",), ()))
    with pytest.raises(datasets.DataError, match="single class"):
        dataset.contradicting([0, 1], ["", ""], np.random.default_rng(0))


def test_a_batch_of_128_takes_less_than_two_milliseconds():
    """It stands in the path of training."""
    batches = Batches(datasets.load("digits", limit=2000), 128, 0)
    times = []
    for step in range(40):
        start = time.thread_time()
        batches.at(step)
        times.append(time.thread_time() - start)
    assert min(times) < 2e-3


def test_what_cannot_be_batched_is_one_sentence():
    with pytest.raises(datasets.DataError, match="empty"):
        Batches(numbered(0), 4, 0)
