"""Initialisers: their variance, what they are for, and that they depend on the rng alone."""
import math

import numpy as np
import pytest

from nn import init

DRAWN = [init.normal, init.he, init.orthogonal]
SHAPES = [(300, 200), (3, 3, 40, 60), (1, 1, 100, 300)]


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("initialiser", DRAWN, ids=lambda f: f.__name__)
def test_depends_on_the_rng_alone(initialiser):
    """Catches: a global seed; float64 weights; the same weights for every layer."""
    one, same, other = initialiser((4, 5), rng(1)), initialiser((4, 5), rng(1)), initialiser((4, 5), rng(2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.dtype == np.float32 and one.shape == (4, 5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_he(shape):
    """Catches: fan_out for fan_in, the kernel's window not counted, a factor of 1 for 2, variance for deviation."""
    fan_in = math.prod(shape[:-1])
    w = init.he(shape, rng())
    assert abs(w.std() / math.sqrt(2 / fan_in) - 1) < 0.02
    assert abs(w.mean()) < 0.05 * w.std()
    assert np.abs(w).max() > 3 * w.std()  # normal, not uniform


def test_he_keeps_the_signal_through_many_layers():
    """Catches: any variance that is off: after 20 layers the signal has vanished or exploded."""
    generator = rng()
    x = generator.standard_normal((64, 256)).astype(np.float32)
    for _ in range(20):
        x = np.maximum(x @ init.he((256, 256), generator), 0)
    assert 0.3 < np.mean(x * x) < 3


@pytest.mark.parametrize("shape", [(5, 5), (8, 3), (3, 8), (3, 3, 2, 4), (1, 1, 6, 6)], ids=str)
def test_orthogonal(shape):
    """Catches: rows where columns were to be orthonormal; a shape that is reshaped before it is orthogonal."""
    w = init.orthogonal(shape, rng()).reshape(-1, shape[-1]).astype(np.float64)
    small = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-6)


def test_orthogonal_is_uniform():
    """Catches: QR's own signs left in, which makes the first entry of the diagonal negative almost always."""
    first = np.array([init.orthogonal((2, 2), rng(seed))[0, 0] for seed in range(400)])
    assert 0.4 < np.mean(first > 0) < 0.6
    assert abs(np.mean(first)) < 0.12


def test_zeros_ones_and_normal():
    """Catches: a constant of another dtype, one shared between layers, a normal of another variance."""
    assert init.zeros((3,)).tolist() == [0, 0, 0] and init.ones((3,)).tolist() == [1, 1, 1]
    assert init.zeros((3,)).dtype == init.ones((3,)).dtype == np.float32
    assert abs(init.normal((100, 100), rng()).std() - 1) < 0.02


@pytest.mark.parametrize("initialiser", [init.he, init.orthogonal], ids=lambda f: f.__name__)
def test_a_shape_without_inputs(initialiser):
    """Catches: a bias initialised like a weight, with a fan_in of 1 or a division by zero."""
    with pytest.raises(ValueError, match=r"\(\.\.\., in, out\)"):
        initialiser((5,), rng())
