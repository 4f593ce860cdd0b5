"""Each figure against a closed form, and against the failure that it is there to expose."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.judging import metrics
from generators.judging.metrics import MetricError, Moments
from nn.parallel import Threads


def cloud_with(mean, covariance, count=200, seed=0):
    """Points whose mean and covariance are exactly those asked for."""
    points = np.random.default_rng(seed).normal(size=(count, len(mean)))
    points -= points.mean(axis=0)
    points @= np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    return points @ np.linalg.cholesky(covariance).T + mean


def random_covariance(rng, size):
    factor = rng.normal(size=(size, size))
    return factor @ factor.T + 0.05 * np.eye(size)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_frechet_distance_of_two_gaussians_in_the_plane(seed):
    # In two dimensions tr M^(1/2) = sqrt(tr M + 2 sqrt(det M)), also where the covariances do not commute: taking the
    # root of each covariance alone, or forgetting the factor 2, fails here.
    rng = np.random.default_rng(seed)
    means, covariances = rng.normal(size=(2, 2)), [random_covariance(rng, 2) for _ in range(2)]
    product = covariances[0] @ covariances[1]
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root
    a, b = (cloud_with(m, c, seed=seed + n) for n, (m, c) in enumerate(zip(means, covariances, strict=True)))
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert metrics.frechet_distance(Moments.of(b), a) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12))
def test_frechet_distance_where_covariances_commute(seed, size):
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(size, size)))
    spreads = rng.uniform(0.1, 3, size=(2, size))
    shift = rng.normal(size=size)
    a = Moments(np.zeros(size), axes * spreads[0] ** 2 @ axes.T)
    b = Moments(shift, axes * spreads[1] ** 2 @ axes.T)
    expected = shift @ shift + ((spreads[0] - spreads[1]) ** 2).sum()
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_equal_and_of_flat_clouds():
    points = np.random.default_rng(0).normal(size=(300, 20))
    assert metrics.frechet_distance(points, points[::-1]) == pytest.approx(0, abs=1e-10)
    points[:, 10:] = 0  # dead features: the covariance is singular
    assert metrics.frechet_distance(points, points) == pytest.approx(0, abs=1e-10)
    assert metrics.frechet_distance(points, points + 1) == pytest.approx(20)


def test_single_precision_features_are_summed_in_double():
    """Catches: means, covariances and distances in float32, which far from zero has no digits left for differences."""
    a, b = (np.float32(3e3 + np.random.default_rng(seed).standard_normal((400, 6))) for seed in (0, 1))
    assert metrics.frechet_distance(a, b) == metrics.frechet_distance(a.astype(float), b.astype(float))
    near = b - np.float32(3e3) + a.mean(axis=0)
    assert metrics.precision_recall(a, near) == metrics.precision_recall(a.astype(float), near.astype(float))


def test_precision_and_recall_of_constructed_clouds():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(800, 3))
    same = rng.normal(size=(800, 3))
    far = same + 50
    narrow = 0.02 * same
    precision, recall = metrics.precision_recall(real, same)
    assert precision > 0.75 and recall > 0.75
    assert metrics.precision_recall(real, far) == (0, 0)
    precision, recall = metrics.precision_recall(real, narrow)  # a collapsed generator: all good, all alike
    assert precision > 0.95 and recall < 0.05
    wide = 20 * same
    precision, recall = metrics.precision_recall(real, wide)  # the reverse: reaches everything, hits little
    assert precision < 0.05 and recall > 0.95
    assert metrics.precision_recall(real, real) == (1, 1)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 4))
def test_precision_and_recall_are_what_the_definition_says(seed, k):
    rng = np.random.default_rng(seed)
    real, generated = rng.normal(size=(17, 2)), rng.normal(size=(23, 2)) * 1.3 + 0.5

    def share_inside(points, cloud):
        hits = 0
        for point in points:
            radii = [sorted(np.linalg.norm(centre - other) for other in cloud)[k] for centre in cloud]
            hits += any(np.linalg.norm(point - c) <= r for c, r in zip(cloud, radii, strict=True))
        return hits / len(points)

    expected = share_inside(generated, real), share_inside(real, generated)
    assert metrics.precision_recall(real, generated, k) == pytest.approx(expected)


def test_blocks_and_threads_do_not_change_the_figures(monkeypatch):
    rng = np.random.default_rng(3)
    real, generated = rng.normal(size=(50, 4)), rng.normal(size=(61, 4))
    whole = metrics.precision_recall(real, generated), metrics.nearest(real, generated)[1].tolist()
    monkeypatch.setattr(metrics, "BLOCK", 7 * 61)
    for threads in map(Threads, (1, 3)):
        assert metrics.precision_recall(real, generated, threads=threads) == whole[0]
        assert metrics.nearest(real, generated, threads=threads)[1].tolist() == whole[1]


def test_memory_is_bounded_by_the_block_not_by_the_number_of_pairs(monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK", 2**16)
    cloud = np.random.default_rng(0).normal(size=(3000, 4))  # all pairs at once would take 72 MB
    tracemalloc.start()
    try:
        metrics.precision_recall(cloud, cloud + 0.1, threads=Threads(2))
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_nearest_finds_the_nearest_and_its_distance():
    rng = np.random.default_rng(1)
    references = rng.integers(0, 256, size=(40, 5, 5, 1), dtype=np.uint8)
    queries = rng.integers(0, 256, size=(30, 5, 5, 1), dtype=np.uint8)
    difference = queries[:, None].astype(float) / 255 - references[None].astype(float) / 255
    table = np.sqrt((difference**2).sum(axis=(2, 3, 4)))
    distances, indices = metrics.nearest(queries, references)
    assert np.array_equal(indices, table.argmin(axis=1))
    np.testing.assert_allclose(distances, table.min(axis=1), rtol=1e-12)
    in_float, _ = metrics.nearest((queries / np.float32(255)).astype(np.float32), references)
    np.testing.assert_allclose(in_float, distances, rtol=1e-5)


def test_a_generator_that_copies_is_exposed():
    rng = np.random.default_rng(2)
    training, test, fresh = (rng.integers(0, 256, size=(n, 4, 4, 1), dtype=np.uint8) for n in (600, 400, 400))
    unseen, repeated, honest = (metrics.nearest(images, training)[0] for images in (test, training[:400], fresh))
    copied = metrics.copying(repeated, unseen)
    assert copied["copies"] == 1 and copied["nearest_mean"] == 0 and copied["nearest_mean_test"] > 0.3
    assert metrics.copying(np.arange(1000.0), np.arange(1000.0))["copies"] == 0.01  # those that are no copies, exactly
    honest = metrics.copying(honest, unseen)
    assert honest["copies"] < 0.05
    assert honest["nearest_mean"] == pytest.approx(honest["nearest_mean_test"], rel=0.05)


def test_caption_match_counts_only_what_a_caption_states():
    asked = {"digit": np.array([7, 7, 2, 3]), "stroke": np.array([1, -1, 0, -1]), "slant": np.array([-1, -1, -1, -1])}
    read = {"digit": np.array([7, 1, 2, 3]), "stroke": np.array([0, 0, 0, 1]), "slant": np.array([0, 1, 2, 0])}
    assert metrics.caption_match(read, asked) == {"digit": 0.75, "stroke": 0.5, "all": 0.5}



def test_a_blur_is_less_sharp_and_the_scale_of_the_pixels_does_not_matter():
    images = np.random.default_rng(0).integers(0, 256, size=(5, 8, 8, 1), dtype=np.uint8)
    blurred = (images[:, 1:].astype(np.float64) + images[:, :-1]) / 510
    assert metrics.sharpness(blurred) < 0.9 * metrics.sharpness(images)
    assert metrics.sharpness(images) == pytest.approx(metrics.sharpness(images / 255.0))
    step = np.zeros((1, 1, 4, 1))
    step[:, :, 2:] = 1
    upright = np.repeat(step, 4, axis=1)
    for image in (upright, upright.swapaxes(1, 2)):
        assert metrics.sharpness(image) == pytest.approx(np.sqrt(1 / 6))


def test_variety_is_the_distance_between_two_of_a_set():
    """Catches the distance to the mean, which is sqrt(2) too small, and the biased variance of a small set."""
    images = np.random.default_rng(0).integers(0, 256, size=(6, 5, 4, 1), dtype=np.uint8)
    squares = [np.sum((a / 255.0 - b / 255.0) ** 2) for i, a in enumerate(images) for b in images[:i]]
    assert metrics.variety(images) == pytest.approx(np.sqrt(np.mean(squares)))
    assert metrics.variety(images / 255.0) == pytest.approx(metrics.variety(images))
    assert metrics.variety(np.repeat(images[:1], 3, axis=0)) < 1e-9


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: metrics.variety(np.zeros((1, 2, 2, 1))), "fewer than two"),
        (lambda: metrics.frechet_distance(np.zeros((5, 2)), np.zeros((5, 3))), "2 and of 3"),
        (lambda: metrics.frechet_distance(np.zeros((1, 2)), np.zeros((5, 2))), "at least 2"),
        (lambda: metrics.frechet_distance(np.full((5, 2), np.nan), np.zeros((5, 2))), "NaN"),
        (lambda: metrics.precision_recall(np.zeros((3, 2)), np.zeros((9, 2)), k=3), "at least 4"),
        (lambda: metrics.nearest(np.zeros((3, 2, 2, 1)), np.zeros((3, 4, 4, 1))), "cannot be compared"),
    ],
)
def test_errors_say_what_was_given(call, word):
    with pytest.raises(MetricError, match=word):
        call()
