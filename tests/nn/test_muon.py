"""`polar` against a singular value decomposition, Muon against its recurrence, and its shares against the whole."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.muon import MATCHES_ADAMW, POLYNOMIALS, Muon, polar
from nn.optim import EMA, AdamW
from nn.parallel import FlatParameters
from nn.tensor import Parameter

SIDES = st.integers(1, 40)
FLOATS = st.sampled_from([np.float32, np.float64])


def lengthened(s):
    """The rounds on singular values, in float64, from where the fourth root of the sum of their fourth powers is 1."""
    s = s / np.sum(s**4) ** 0.25
    for a, b, c in POLYNOMIALS:
        s = a * s + b * s**3 + c * s**5
    return s


def test_each_polynomial_is_the_best_for_where_the_last_one_ended():
    """Chebyshev: of all a s + b s^3 + c s^5 that one is nearest to 1 on an interval whose largest deviations are four,
    equally large, above and below in turn, the ends of the interval among them.  Catches a wrong third digit."""
    low, high = 0.002, 1.0
    for a, b, c in POLYNOMIALS:
        roots = np.sqrt(np.roots([5 * c, 3 * b, a]).real)  # of the derivative, in s^2
        s = np.array([low, min(roots), max(roots), high])
        assert low < s[1] < s[2] < high
        deviations = a * s + b * s**3 + c * s**5 - 1
        np.testing.assert_allclose(deviations, deviations[1] * np.array([-1, 1, -1, 1]), rtol=0, atol=2e-4)
        low, high = 1 - deviations[1], 1 + deviations[1]
    assert 0.67 < low < 0.69


def matrix(rows, columns, dtype, seed, smallest=0.002):
    """A random matrix with singular values from 1 down to `smallest`, all times a random size."""
    rng = np.random.default_rng(seed)
    u, _, vt = np.linalg.svd(rng.standard_normal((rows, columns)), full_matrices=False)
    k = len(vt)
    return (10.0 ** rng.uniform(-6, 3) * (u * np.geomspace(1, smallest, k)) @ vt).astype(dtype)


@given(SIDES, SIDES, FLOATS, st.integers(0, 100))
def test_polar_keeps_the_directions_and_evens_out_the_lengths(rows, columns, dtype, seed):
    """Catches a transposed result, a norm left in, too few rounds, a wrong coefficient."""
    given_matrix = matrix(rows, columns, dtype, seed)
    kept = given_matrix.copy()
    got = polar(given_matrix)
    np.testing.assert_array_equal(given_matrix, kept)
    assert got.dtype == dtype and got.shape == (rows, columns)
    u, s, vt = np.linalg.svd(given_matrix.astype(np.float64), full_matrices=False)
    expected = (u * lengthened(s)) @ vt
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-2 if dtype == np.float32 else 1e-9)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_polar_does_not_mind_how_large_a_matrix_is(size):
    """In float32, where the square of either would be lost.  Catches a norm taken of numbers as they are."""
    given_matrix = matrix(6, 9, np.float32, 0) * np.float32(1 / 64)
    expected = polar(given_matrix / np.abs(given_matrix).max())
    got = polar((given_matrix / np.abs(given_matrix).max()) * np.float32(size))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)


@given(SIDES, SIDES, FLOATS)
def test_polar_of_nothing_and_of_a_line(rows, columns, dtype):
    """A layer that gets no gradient, and one that gets it in a single direction.  Catches a division by zero, and
    noise of rounding blown up into directions of its own."""
    np.testing.assert_array_equal(polar(np.zeros((rows, columns), dtype)), np.zeros((rows, columns)))
    rng = np.random.default_rng(rows)
    a, b = rng.standard_normal(rows), rng.standard_normal(columns)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    got = polar((1e3 * np.outer(a, b)).astype(dtype))
    np.testing.assert_allclose(a @ got @ b, lengthened(np.ones(1))[0], rtol=1e-3)
    assert np.linalg.norm(got - (a @ got @ b) * np.outer(a, b)) < (0.02 if dtype == np.float32 else 1e-6)


def parameters(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(4,), (3, 3, 2, 5), (6, 4), (), (9, 2)]
    return [Parameter(np.asarray(rng.standard_normal(shape), dtype)) for shape in shapes]


def flat_and_muon(dtype=np.float64, **settings):
    laid_out = FlatParameters(parameters(dtype))
    return laid_out, Muon(laid_out.values, laid_out.matrices, EMA(laid_out.values, 0.9), **settings)


def gradients(count, laid_out, dtype=np.float64):
    return np.random.default_rng(1).standard_normal((count, laid_out.values.size)).astype(dtype)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_muon_follows_its_recurrence(decay):
    """Matrices by hand, with `polar`; the rest as AdamW and EMA do it.  Catches: no look ahead, a velocity of the
    unscaled gradient, a factor of the smaller side, decay mixed into the velocity, an average of the old weights."""
    laid_out, muon = flat_and_muon(momentum=0.8, betas=(0.7, 0.9), weight_decay=decay)
    values = [view.copy() for view in laid_out.views(laid_out.values)]
    averages, velocities = [v.copy() for v in values], [np.zeros_like(v) for v in values]
    others = laid_out.values.copy()
    apart = AdamW(others, (0.7, 0.9), weight_decay=decay, ema=EMA(others, 0.9))
    for n, g in enumerate(gradients(5, laid_out)):
        rate, scale, d = 0.1 / (n + 1), 0.5 + 0.1 * n, min(0.9, (1 + n) / (10 + n))
        muon.step(g, rate, scale)
        apart.step(g, rate, scale)
        for i, gradient in enumerate(laid_out.views(g)):
            if values[i].ndim >= 2:
                velocities[i] = 0.8 * velocities[i] + 0.2 * scale * gradient
                shape = (-1, values[i].shape[-1])
                ahead = (0.8 * velocities[i] + 0.2 * scale * gradient).reshape(shape)
                direction = MATCHES_ADAMW * np.sqrt(max(ahead.shape)) * polar(ahead).reshape(values[i].shape)
                values[i] = values[i] - rate * (direction + decay * values[i])
                averages[i] = d * averages[i] + (1 - d) * values[i]
            else:
                values[i], averages[i] = laid_out.views(others)[i], laid_out.views(apart.ema.average)[i]
    for got, want in zip(laid_out.views(laid_out.values), values, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9)
    for got, want in zip(laid_out.views(muon.ema.average), averages, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9)
    assert muon.ema.count == 5


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_shares_make_up_the_whole(workers):
    """Bitwise, whoever does which matrix.  Catches a matrix left out or made orthogonal twice, and work that is not
    shared out."""
    alone, muon = flat_and_muon(np.float32)
    together, shared = flat_and_muon(np.float32)
    for g in gradients(3, alone, np.float32):
        muon.step(g, 0.1)
        shared.step(g, 0.1, share=lambda numbers, g=g: [shared.move(g, numbers, i, workers) for i in range(workers)])
    np.testing.assert_array_equal(alone.values, together.values)
    np.testing.assert_array_equal(muon.ema.average, shared.ema.average)
    assert min(map(len, shared.shares(2))) > 0


def test_a_step_does_not_depend_on_the_size_of_the_gradient():
    """Of matrices; that is what makes one learning rate fit many networks.  Catches a direction that is not
    normalised."""
    small, one = flat_and_muon()
    large, other = flat_and_muon()
    for g in gradients(3, small):
        one.step(1e-3 * g, 0.1)
        other.step(1e3 * g, 0.1)
    for (part, _, _), other_part in zip(small.matrices, large.matrices, strict=True):
        np.testing.assert_allclose(small.values[part], large.values[other_part[0]], rtol=1e-9)


def test_state_is_live_and_restores():
    """Continuing from a copied state equals never stopping, bit for bit.  Catches a velocity that is not saved."""
    whole, muon = flat_and_muon(np.float32)
    first, begun = flat_and_muon(np.float32)
    all_gradients = gradients(6, whole, np.float32)
    for g in all_gradients:
        muon.step(g, 0.1)
    for g in all_gradients[:3]:
        begun.step(g, 0.1)
    second, resumed = flat_and_muon(np.float32)
    second.values[...] = first.values
    for name, array in begun.state().items():
        resumed.state()[name][...] = array
    for g in all_gradients[3:]:
        resumed.step(g, 0.1)
    np.testing.assert_array_equal(second.values, whole.values)
