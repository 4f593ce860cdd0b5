"""Judges the exercise on worlds: the soft minimum over codes, against the sum over all rows of them, one by one."""

import itertools

import numpy as np
import pytest

from generators.families.world import world
from nn.tensor import Parameter, Tensor
from tests.exercises.trial import Trial, normal
from tests.oracles.numeric import vjp


def one_code(errors, tau):
    return -tau * (np.logaddexp.reduce(-errors.sum(axis=1) / tau, axis=1) - np.log(errors.shape[2]))


def row_by_row(errors, tau, sticky, instead=False):
    """- tau log sum_k P(k) exp(-sum_s E_s,k_s / tau), over all rows of codes."""
    _, rows, codes = errors.shape
    logs = []
    for row in itertools.product(range(codes), repeat=rows):
        prior = -np.log(codes)
        for before, code in itertools.pairwise(row):
            chance = (1 - sticky) / codes + sticky * (before == code)
            prior += np.log(max(sticky, 1e-30) if instead and before == code else chance)
        logs.append(prior - errors[:, range(rows), row].sum(axis=1) / tau)
    return -tau * np.logaddexp.reduce(logs, axis=0)


@pytest.mark.exercise(id="soft-minimum")
@pytest.mark.parametrize("n, rows, codes", [(3, 1, 4), (2, 2, 3), (3, 4, 2), (2, 3, 1)], ids=str)
@pytest.mark.parametrize("tau, sticky", [(1.0, 0.0), (0.3, 0.6), (5.0, 0.9)])
def test_soft_minimum(n, rows, codes, tau, sticky):
    errors = 4 * np.abs(normal((n, rows, codes), 0))
    tags = ["with several transitions in a row"] * (rows > 1) + ["with a code that tends to stay"] * (sticky > 0)
    trial = Trial(f"soft_minimum(errors, tau={tau}, sticky={sticky})", *tags, errors=errors)
    got = trial.run(world.soft_minimum, Tensor(errors), tau, sticky)
    right = row_by_row(errors, tau, sticky)
    apart = [row_by_row(errors[:, s : s + 1], tau, 0.0) for s in range(rows)]
    instead = {
        "the sum over codes, where their mean is wanted: P(k_1) = 1 / K": right - tau * np.log(codes),
        "not multiplied by tau": right / tau,
        "the sign": -right,
        "this is the hard minimum": errors.min(axis=2).sum(axis=1),
        "`sticky` is not used: each transition by itself": sum(apart),
        "`sticky` is only taken away: the code that was before has it in addition":
            sum(apart) - tau * (rows - 1) * np.log(1 - sticky),
        "the mean over all rows of codes, not their soft minimum": errors.mean(axis=2).sum(axis=1),
        "one code for the whole row; it may change from transition to transition": one_code(errors, tau),
        "`sticky` is in addition to (1 - sticky) / K, not in its place": row_by_row(errors, tau, sticky, instead=True),
        "the error of the transition before, once more": row_by_row(errors[:, [0, *range(rows - 1)]], tau, sticky),
        "divided by the number of transitions": right / rows,
        "the first transition only": apart[0],
        "the last transition only": apart[-1],
    }  # fmt: skip
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, right, rtol=1e-4)}
    trial.expect(got, right, "the soft minimum", instead=instead)


@pytest.mark.exercise(id="soft-minimum")
@pytest.mark.parametrize("size", [1e4, -1e4], ids=["large", "negative"])
def test_soft_minimum_beyond_the_range_of_exp(size):
    errors = 4 * normal((3, 3, 2), 1) + size
    trial = Trial("soft_minimum(errors, tau=0.5, sticky=0.3)", "at extreme values", errors=errors)
    got = trial.run(world.soft_minimum, Tensor(errors), 0.5, 0.3)
    trial.expect(got, row_by_row(errors, 0.5, 0.3), "the soft minimum")


@pytest.mark.exercise(id="soft-minimum")
def test_soft_minimum_can_be_trained():
    errors, grad = Parameter(np.abs(normal((2, 3, 2), 0))), normal((2,), 1)
    trial = Trial("soft_minimum(errors, tau=0.7, sticky=0.4), where errors want a gradient", errors=errors.data)
    got = trial.run(world.soft_minimum, errors, 0.7, 0.4)
    trial.require(getattr(got, "requires_grad", False), "no gradient flows back", "work with tensors, not with .data")
    got.backward(grad)
    (right,) = vjp(lambda errors: (row_by_row(errors, 0.7, 0.4),), [errors.data], [grad])
    trial.expect(errors.grad, right, "the gradient of errors", atol=1e-7)
