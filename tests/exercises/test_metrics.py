"""Judges the exercise on the Frechet distance: clouds whose moments, and so whose distance, are known."""

import numpy as np
import pytest

from generators.judging import metrics
from tests.exercises.trial import Trial, normal


def cloud(mean, spread, count=50):
    """`count` points with exactly this mean, and with the covariance spread @ spread^T."""
    points = np.random.default_rng(len(mean)).standard_normal((count, len(mean)))
    points -= points.mean(axis=0)
    points = points @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(points, rowvar=False))).T)
    return points @ np.asarray(spread, float).T + mean


def turned(angle, *deviations):
    """The root of a covariance with these deviations along axes turned by an angle."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    return turn @ np.diag(deviations) @ turn.T


@pytest.mark.exercise(id="frechet-distance")
@pytest.mark.parametrize("shift", [0.0, 2.0])
@pytest.mark.parametrize("angle", [0.0, 0.7], ids=["same_axes", "turned"])
@pytest.mark.parametrize("of", ["features", "moments", "features and moments"])
def test_frechet_distance(shift, angle, of):
    a, b = cloud([1.0, 2.0], turned(0, 3.0, 0.5)), cloud([1.0 + shift, 2.0], turned(angle, 1.0, 2.0))
    tags = (["where the means differ"] if shift else []) + (["where the axes differ"] if angle else [])
    trial = Trial(f"frechet_distance(a, b), of {of}", *tags, a=a, b=b)
    first = metrics.Moments.of(a) if of == "moments" else a
    got = trial.run(metrics.frechet_distance, first, metrics.Moments.of(b) if "moments" in of else b)
    # Of two by two matrices the trace of the root is known: its square is tr M + 2 sqrt(det M).
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    product = first @ second
    common = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    apart, spread = shift**2, np.trace(first) + np.trace(second)
    right = apart + spread - 2 * common
    instead = {
        "the means are not looked at": spread - 2 * common,
        "the spreads are not looked at": apart,
        "the distance of the means has to be squared": shift + spread - 2 * common,
        "twice the root, not once": apart + spread - common,
        "roots of the elements, where the root of the matrix is wanted":
            apart + spread - 2 * np.trace(np.sqrt(np.abs(product))),
        "this is the root of the distance": np.sqrt(max(0, right)),
    }  # fmt: skip
    instead = {cause: value for cause, value in instead.items() if abs(value - right) > 1e-6}
    trial.expect(got, right, "the distance", rtol=1e-6, atol=1e-8, instead=instead)


@pytest.mark.exercise(id="frechet-distance")
@pytest.mark.parametrize("dimensions", [1, 3, 5])
def test_frechet_distance_in_any_number_of_dimensions(dimensions):
    spread, other = np.linspace(0.5, 2, dimensions), np.linspace(3, 1, dimensions)
    a, b = cloud(np.zeros(dimensions), np.diag(spread)), cloud(np.ones(dimensions), np.diag(other))
    trial = Trial("frechet_distance(a, b), along the same axes", f"in {dimensions} dimensions", a=a, b=b)
    right = dimensions + ((spread - other) ** 2).sum()  # of independent axes, one by one
    trial.expect(trial.run(metrics.frechet_distance, a, b), right, "the distance", rtol=1e-6, atol=1e-8)


@pytest.mark.exercise(id="frechet-distance")
@pytest.mark.parametrize("count", [40, 3], ids=["many", "fewer_points_than_dimensions"])
def test_frechet_distance_of_equals(count):
    a = normal((count, 6), 0)
    tags = ["where there are fewer points than dimensions"] if count < 6 else []
    trial = Trial("frechet_distance(a, a)", *tags, a=a)
    got = trial.run(metrics.frechet_distance, a, a.copy())
    trial.require(not np.iscomplexobj(got), "a complex number", "no root of a negative: 0 where rounding made one")
    trial.expect(got, 0.0, "the distance of a cloud from itself", atol=1e-5)
    trial.require(got >= 0, f"{got} is below 0", "a distance is at least 0, whatever rounding says")


@pytest.mark.exercise(id="frechet-distance")
def test_frechet_distance_of_clouds_that_cannot_be_compared():
    a, b = normal((5, 2), 0), normal((5, 3), 1)
    trial = Trial("frechet_distance(a, b), of 2 and of 3 dimensions", a=a, b=b)
    try:
        what = f"{metrics.frechet_distance(a, b)} came back"
    except metrics.MetricError:
        return
    except ValueError as error:
        what = f"a plain {type(error).__name__} was raised"
    trial.require(False, what, "raise MetricError, and say what was given")
