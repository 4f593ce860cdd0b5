"""The built-in digits: pure functions of (seed, split, index), true to their attributes, and handwriting."""

import os
import time

import numpy as np
import pytest

import datasets
from datasets import digits, pen
from datasets.captions import HANDWRITING
from datasets.glyphs import DIGITS, GLYPHS, VARIANTS, VARIANTS_OF, tabulate
from tests.datasets import pen_reference

COLUMNS = list(HANDWRITING.attributes)


@pytest.fixture(scope="module")
def train():
    return datasets.load("digits", limit=6000)


def same_hand(attribute: str, count: int = 300) -> list[np.ndarray]:
    """The same pictures under each value of one attribute in turn: (n, 28, 28) float for each value."""
    keys = digits.picture_keys(0, "train", np.arange(count))
    codes = digits.draw_attributes(keys)
    answers = []
    for value in range(len(HANDWRITING.attributes[attribute])):
        codes[:, COLUMNS.index(attribute)] = value
        answers.append(digits.draw_images(keys, codes)[..., 0].astype(float))
    return answers


def extent(images):
    """The longer side of the box around the ink, for each image."""
    inked = images > 64
    return np.maximum(inked.any(1).sum(1), inked.any(2).sum(1))


def shear(images):
    """Run over rise of the ink: how far its columns follow its rows, positive where the top leans right."""
    rows, columns = np.mgrid[:28, :28] + 0.5
    mass = images.sum((1, 2))[:, None, None]
    y = rows - (images * rows).sum((1, 2), keepdims=True) / mass
    x = columns - (images * columns).sum((1, 2), keepdims=True) / mass
    return -(images * x * y).sum((1, 2)) / (images * y * y).sum((1, 2))


def test_a_picture_does_not_depend_on_what_else_is_drawn(train):
    """One generator running through all pictures would change the rest when the count changes."""
    few = datasets.load("digits", limit=40)
    assert np.array_equal(few.images, train.images[:40])
    assert all(np.array_equal(few.attributes[name], train.attributes[name][:40]) for name in COLUMNS)
    backwards = digits.picture_keys(0, "train", np.arange(40)[::-1])
    assert np.array_equal(digits.draw_images(backwards, digits.draw_attributes(backwards))[::-1], few.images)


def test_seeds_and_splits_share_no_picture():
    sets = [digits.load(split, 300, seed) for split in digits.SPLITS for seed in (0, 1, 2, 3)]
    pictures = {image.tobytes() for dataset in sets for image in dataset.images}
    assert len(pictures) == 300 * len(sets)


def test_lengths_of_the_splits(monkeypatch):
    monkeypatch.setattr(digits, "SPLITS", {"train": 60, "test": 10, "unseen": 10})
    assert [len(digits.load(split)) for split in digits.SPLITS] == [60, 10, 10]
    assert len(digits.load("test", limit=1000)) == 10
    assert len(digits.load("test", limit=3)) == 3


def test_the_stream_is_splitmix64():
    """Against the published first outputs for the seed 1234567."""
    stream = np.array([1234567], np.uint64)
    published = 6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431
    assert [pen.uniform(stream) for _ in published] == [(number >> 11) * 2.0**-53 for number in published]


@pytest.mark.parametrize("seed", range(3))
def test_kernels_equal_reference(seed):
    """For every hand: forms weighed wrongly, corners, pen lifts, another spline, ink missed at the border of a box."""
    hands = tabulate()
    for hand, (forms, count) in enumerate(zip(hands.form_count, hands.point_count, strict=True)):
        corner, lift = hands.corner[hand, :count], hands.lift[hand, :count]
        fast, simple = (np.array([1000 * seed + hand], np.uint64) for _ in range(2))
        points = np.empty(hands.points.shape[2:])
        assert pen.skeleton(fast, hand, hands, points) == count
        blend = pen_reference.skeleton(simple, hands.points[hand, :forms, :count], lift)
        np.testing.assert_allclose(points[:count], blend, atol=1e-12)
        assert fast == simple
        path, begins = np.empty((pen.SAMPLES * count, 2)), np.empty(pen.SAMPLES * count, bool)
        length = pen.curve(points, count, corner, lift, path, begins)
        simple_path, simple_begins = pen_reference.curve(blend, corner, lift)
        np.testing.assert_allclose(path[:length], simple_path, atol=1e-12)
        assert np.array_equal(begins[:length], simple_begins)
        path, radius = 3 + 22 * path, np.random.default_rng(hand).uniform(0.4, 2.5, length)
        image = np.zeros((pen.SIDE, pen.SIDE), np.uint8)
        pen.ink(path, begins, radius, length, image)
        assert np.abs(image.astype(int) - pen_reference.ink(path[:length], simple_begins, radius)).max() <= 1, hand


def test_attributes_agree_with_labels_and_glyphs(train):
    assert train.images.shape == (6000, 28, 28, 1) and train.images.dtype == np.uint8
    assert np.array_equal(train.labels, train.attributes["digit"]) and train.labels.dtype == np.int64
    assert train.classes == tuple(GLYPHS) and train.vocabulary == HANDWRITING.vocabulary
    for index in range(500):
        said = train.describe(index)
        assert said["variant"] in VARIANTS_OF[said["digit"]]


def test_every_value_is_drawn_about_equally_often(train):
    for name in ("digit", "stroke", "slant", "size"):
        counts = np.bincount(train.attributes[name])
        assert counts.min() > 0.8 * counts.mean(), name
    for digit, variants in VARIANTS_OF.items():
        counts = np.bincount(train.attributes["variant"][train.labels == DIGITS.index(digit)], minlength=len(VARIANTS))
        assert counts[[VARIANTS.index(variant) for variant in variants]].min() > 0.7 * counts.sum() / len(variants)
        assert counts.sum() == sum(counts[VARIANTS.index(variant)] for variant in variants)


def test_what_is_held_out_is_only_in_unseen(train):
    unseen, test = (datasets.load("digits", split, 1000) for split in ("unseen", "test"))
    for dataset, expected in ((train, False), (test, False), (unseen, True)):
        assert {HANDWRITING.held_out(dataset.describe(i)) for i in range(1000)} == {expected}
    assert set(unseen.labels) == set(range(10))
    # Every pair of words still occurs in training; only their triple does not.
    for a, b in (("digit", "stroke"), ("digit", "slant"), ("stroke", "slant")):
        pairs = set(zip(train.attributes[a].tolist(), train.attributes[b].tolist(), strict=True))
        assert len(pairs) == len(HANDWRITING.attributes[a]) * len(HANDWRITING.attributes[b])


def test_size_is_read_off_the_picture():
    small, large = same_hand("size")
    assert extent(small).max() < extent(large).min()


def test_stroke_is_read_off_the_picture():
    thin, bold = same_hand("stroke")
    assert (bold.sum((1, 2)) > 1.3 * thin.sum((1, 2))).all()


def test_slant_is_read_off_the_picture():
    """Left and right exchanged, or a shear that the fitting to the box undoes."""
    left, upright, right = map(shear, same_hand("slant"))
    assert (left < upright).all() and (upright < right).all()
    assert np.median(right - upright) > 0.3 and np.median(upright - left) > 0.3


def test_ink_lies_inside_and_is_centred_by_mass(train):
    """MNIST's conventions: ink on black, at most 20 pixels and some blur, its centre of mass near the middle."""
    images = train.images[..., 0].astype(float)
    border = np.concatenate([images[:, [0, -1]].ravel(), images[:, :, [0, -1]].ravel()])
    assert border.max() == 0
    rows, columns = np.mgrid[:28, :28] + 0.5
    mass = images.sum((1, 2))
    centre = np.stack([(images * axis).sum((1, 2)) / mass for axis in (rows, columns)])
    assert np.abs(centre - 14).max() < 4 and np.abs(centre.mean(1) - 14).max() < 0.3
    assert centre.std(1).min() > 0.5  # position varies
    assert extent(images).max() <= 22
    assert (images.max((1, 2)) == 255).mean() > 0.95


def test_no_two_are_alike(train):
    flat = train.images[:1000].reshape(1000, -1).astype(np.float32)
    squares = (flat**2).sum(1)
    distances = squares[:, None] + squares - 2 * flat @ flat.T + np.diag(np.full(1000, np.inf))
    assert np.sqrt(distances.min()) > 300  # of 255 times the root of the number of pixels that differ


def test_sixty_thousand_take_less_than_ten_seconds():
    datasets.load("digits", limit=1)
    start = time.thread_time()
    datasets.load("digits", limit=6000)
    assert time.thread_time() - start < 1.0


def test_forms_of_a_hand_must_agree(monkeypatch):
    monkeypatch.setitem(GLYPHS, "one", {"plain": [["50,0 50,99", "50,0! 50,99"]]})
    with pytest.raises(ValueError, match="topology"):
        tabulate.__wrapped__()


def test_unknown_split_is_one_sentence():
    with pytest.raises(datasets.DataError, match="'validation'.*train, test, unseen"):
        datasets.load("digits", "validation")


def test_attributes_draw_stays_inside_the_kernel_tables():
    """An index one past the last value would read past the tables without an error."""
    keys = digits.picture_keys(0, "train", np.arange(20_000))
    codes = digits.draw_attributes(keys)
    sizes = np.array([len(values) for values in HANDWRITING.attributes.values()])
    assert (codes >= 0).all() and (codes < sizes).all()
    assert (tabulate().count[codes[:, pen.DIGIT], codes[:, pen.VARIANT]] > 0).all()


def blurred(images):
    """Float (N, 196): 2x2 means after a 3x3 blur, unit length, so that nearest neighbours forgive a pixel's shift."""
    padded = np.pad(images[..., 0].astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    smooth = sum(padded[:, i : i + 28, j : j + 28] for i in range(3) for j in range(3))
    small = smooth.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(len(images), -1)
    return small / np.linalg.norm(small, axis=1, keepdims=True)


def nearest(train, images):
    return train.labels[(blurred(images) @ blurred(train.images).T).argmax(1)]


def test_digits_are_read_by_their_nearest_neighbours(train):
    test = datasets.load("digits", "test", 500)
    assert (nearest(train, test.images) == test.labels).mean() > 0.9


@pytest.mark.skipif("INKLING_DATA" not in os.environ, reason="needs real MNIST: set INKLING_DATA")
def test_real_mnist_is_read_by_digits_alone():
    """The bar of the data set: at least 80%, with no learning but nearest neighbours (a small CNN reads 94%)."""
    train, mnist = datasets.load("digits", limit=20_000), datasets.load("mnist", "test")
    assert (nearest(train, mnist.images) == mnist.labels).mean() > 0.8
