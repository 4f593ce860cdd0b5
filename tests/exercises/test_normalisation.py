"""Judges the exercises on group normalisation, against one group at a time and numerical differentiation."""

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
    trial.require(isinstance(got, tuple) and len(got) == 3, "three are wanted: (mean, inverse_sigma, h)")
    runs = x.reshape(n, positions, groups, -1)
    mean = np.array([[runs[i, :, g].sum() / runs[i, :, g].size for g in range(groups)] for i in range(n)])
    variance = np.array([[((runs[i, :, g] - mean[i, g]) ** 2).sum() for g in range(groups)] for i in range(n)])
    count = positions * channels // groups
    trial.expect(got[0], mean, "the mean")
    instead = {
        "divided by n - 1; by n is meant": 1 / np.sqrt(variance / max(count - 1, 1) + eps),
        "eps belongs under the root": 1 / (np.sqrt(variance / count) + eps),
        "this is sigma, not its inverse": np.sqrt(variance / count + eps),
        "the root is missing": 1 / (variance / count + eps),
        "eps is left out": 1 / np.sqrt(variance / count),
    }
    trial.expect(got[1], 1 / np.sqrt(variance / count + eps), "inverse_sigma", instead=instead)
    h = loops.group_norm(x, gamma, beta, groups, eps)
    instead = {
        "gamma and beta are not used": (h - beta) / gamma,
        "beta is left out": h - beta,
        "the channels of a group lie beside each other: reshape to (..., groups, C / groups)":
            strided(x, gamma, beta, groups, eps),
    }  # fmt: skip
    trial.expect(got[2], h, "h", instead=instead)


def strided(x, gamma, beta, groups, eps):
    """With every groups-th channel in one group."""
    runs = x.reshape(*x.shape[:2], -1, groups)
    mean, variance = runs.mean(axis=(1, 2), keepdims=True), runs.var(axis=(1, 2), keepdims=True)
    return ((runs - mean) / np.sqrt(variance + eps)).reshape(x.shape) * gamma + beta


@pytest.mark.exercise(id="group-norm-backward")
@cases
def test_group_norm_backward(n, positions, channels, groups):
    x = 2 * normal((n, positions, channels), 0) + 3
    gamma, beta, grad = normal((channels,), 1), normal((channels,), 2), normal((n, positions, channels), 3)
    runs = x.reshape(n, positions, groups, -1)
    mean, inverse_sigma = runs.mean(axis=(1, 3)), 1 / np.sqrt(runs.var(axis=(1, 3)) + EPS)
    inputs = {"x": x, "gamma": gamma, "mean": mean, "inverse_sigma": inverse_sigma, "grad": grad}
    trial = Trial("group_norm_backward(x, gamma, mean, inverse_sigma, grad)", *tags_of(groups, channels), **inputs)
    got = trial.run(norm.group_norm_backward, *inputs.values())
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
        "the factor gamma is missing": vjp(forward, [x, np.ones_like(gamma), beta], [grad])[0],
    }
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
