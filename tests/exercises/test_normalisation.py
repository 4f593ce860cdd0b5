"""Judges the exercises on group normalisation, against one group at a time and numerical differentiation."""

import itertools

import numpy as np
import pytest

from nn.kernels.reference import norm
from tests.exercises.trial import Trial, normal
from tests.oracles import normalisation as loops
from tests.oracles.numeric import vjp

CASES = [(1, 4, 2, 1), (2, 3, 4, 2), (2, 5, 6, 3), (3, 2, 4, 4)]  # images, positions, channels, groups
cases = pytest.mark.parametrize("n, positions, channels, groups", CASES, ids=str)
EPS = 0.1  # large enough to be seen


def tags_of(groups, channels):
    return (["with several groups"] if groups > 1 else []) + (
        ["with one channel a group"] if groups == channels else []
    )


@pytest.mark.exercise(id="group-norm-forward")
@cases
@pytest.mark.parametrize("eps", [EPS, 1e-5])
def test_group_norm(n, positions, channels, groups, eps):
    x = 2 * normal((n, positions, channels), 0) + 3
    gamma, beta = normal((channels,), 1), normal((channels,), 2)
    call = f"group_norm(x, gamma, beta, groups={groups}, eps={eps})"
    trial = Trial(call, *tags_of(groups, channels), x=x, gamma=gamma, beta=beta)
    got = trial.run(norm.group_norm, x, gamma, beta, groups, eps)
    h = loops.group_norm(x, gamma, beta, groups, eps)
    instead = {
        "gamma and beta are not used": (h - beta) / gamma,
        "divided by n - 1; by n is meant": normalised(x, groups, lambda r: r.var(ddof=1) + eps) * gamma + beta,
        "eps belongs under the root": normalised(x, groups, lambda r: (r.std() + eps) ** 2) * gamma + beta,
        "the root is missing": normalised(x, groups, lambda r: (r.var() + eps) ** 2) * gamma + beta,
        "eps is left out": normalised(x, groups, lambda r: r.var()) * gamma + beta,
        "beta is left out": h - beta,
        "mean and variance are of each channel by itself":
            normalised(x, channels, lambda r: r.var() + eps) * gamma + beta,
        "the mean is over the positions alone, that of each channel":
            (normalised(x, groups, lambda r: r.var() + eps) + shifts(x, groups, eps)) * gamma + beta,
        "the channels of a group lie beside each other: reshape to (..., groups, C / groups)":
            strided(x, groups, eps) * gamma + beta,
    }  # fmt: skip
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, h, rtol=1e-4)}
    trial.expect(got, h, "h", instead=instead)


def normalised(x, groups, square_of_sigma):
    """Each group brought to mean 0 and divided by the root of what `square_of_sigma` makes of it."""
    result = np.empty_like(x)
    for n, channels in itertools.product(range(len(x)), np.split(np.arange(x.shape[2]), groups)):
        run = x[n][:, channels]
        result[n][:, channels] = (run - run.mean()) / np.sqrt(square_of_sigma(run))
    return result


def shifts(x, groups, eps):
    """What is added to xhat where each channel's own mean is taken away instead of its group's."""
    result = np.empty_like(x)
    for n, channels in itertools.product(range(len(x)), np.split(np.arange(x.shape[2]), groups)):
        run = x[n][:, channels]
        result[n][:, channels] = (run.mean() - run.mean(axis=0)) / np.sqrt(run.var() + eps)
    return result


def strided(x, groups, eps):
    """With every groups-th channel in one group."""
    runs = x.reshape(*x.shape[:2], -1, groups)
    mean, variance = runs.mean(axis=(1, 2), keepdims=True), runs.var(axis=(1, 2), keepdims=True)
    return ((runs - mean) / np.sqrt(variance + eps)).reshape(x.shape)


@pytest.mark.exercise(id="group-norm-backward")
@cases
def test_group_norm_backward(n, positions, channels, groups):
    x = 2 * normal((n, positions, channels), 0) + 3
    gamma, beta, grad = normal((channels,), 1), normal((channels,), 2), normal((n, positions, channels), 3)
    runs = x.reshape(n, positions, groups, -1)
    mean, inverse_sigma = runs.mean(axis=(1, 3)), 1 / np.sqrt(runs.var(axis=(1, 3)) + EPS)
    call = f"group_norm_backward(x, gamma, groups={groups}, eps={EPS}, grad)"
    trial = Trial(call, *tags_of(groups, channels), x=x, gamma=gamma, grad=grad)
    got = trial.run(norm.group_norm_backward, x, gamma, groups, EPS, grad)
    trial.require(isinstance(got, tuple) and len(got) == 3, "three gradients are wanted: (dx, dgamma, dbeta)")

    def forward(x, gamma, beta):
        return (loops.group_norm(x, gamma, beta, groups, EPS),)

    right, ones = vjp(forward, [x, gamma, beta], [grad]), vjp(forward, [x, gamma, beta], [np.ones_like(grad)])
    ignored = "the incoming gradient is ignored: this is what a gradient of ones would give"
    wide = np.repeat(inverse_sigma, channels // groups, axis=1)[:, None]
    g = (grad * gamma).reshape(runs.shape)
    centred = (g - g.mean(axis=(1, 3), keepdims=True)).reshape(x.shape) * wide
    instead = {
        ignored: ones[0],
        "mean and variance are held fixed; they too depend on x": grad * gamma * wide,
        "the variance is held fixed; it too depends on x": centred,
        "sigma is multiplied by, where it has to be divided by": right[0] / wide**2,
        "gamma comes after the means; it belongs to g, before them":
            vjp(forward, [x, np.ones_like(gamma), beta], [grad])[0] * gamma,
        "divided by n - 1; by n is meant": of_sample(x, grad * gamma, groups),
        "the factor gamma is missing": vjp(forward, [x, np.ones_like(gamma), beta], [grad])[0],
    }  # fmt: skip
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, right[0], rtol=1e-4)}
    trial.expect(got[0], right[0], "dx", atol=1e-7, instead=instead)
    xhat = (x - np.repeat(mean, channels // groups, axis=1)[:, None]) * wide
    by_x = {
        ignored: ones[1],
        "times x, where xhat is meant": (grad * x).sum((0, 1)),
        "summed over positions only": None,
        "times gamma, which has no part in this": right[1] * gamma,
    }
    by_x = {cause: value for cause, value in by_x.items() if value is not None}
    assert np.allclose((grad * xhat).sum((0, 1)), right[1], atol=1e-6)
    trial.expect(got[1], right[1], "dgamma", atol=1e-7, instead=by_x)
    trial.expect(got[2], right[2], "dbeta", atol=1e-7, instead={ignored: ones[2]})


def of_sample(x, g, groups):
    """dx where the variance is that of a sample, over n - 1."""
    runs, g = (a.reshape(*x.shape[:2], groups, -1) for a in (x, g))
    axes = {"axis": (1, 3), "keepdims": True}
    sigma = np.sqrt(runs.var(**axes, ddof=1) + EPS)
    xhat = (runs - runs.mean(**axes)) / sigma
    return ((g - g.mean(**axes) - xhat * (g * xhat).mean(**axes)) / sigma).reshape(x.shape)
