"""The stand-in for Numba runs the library's kernels, in a process of its own."""
import subprocess
import sys

from tests.docs.pages import HOME

ALONE = """
from tests.exercises import uncompiled
uncompiled.install()
import numpy as np
from nn import functional as F
from nn.tensor import Parameter
from tests.oracles import normalisation
rng = np.random.default_rng(0)
x, gamma, beta = (Parameter(rng.standard_normal(s).astype(np.float32)) for s in ((2, 3, 3, 8), (8,), (8,)))
y = F.group_norm_silu(x, gamma, beta, 4)
y.backward(np.ones(y.shape, np.float32))
expected = normalisation.silu(normalisation.group_norm(x.data, gamma.data, beta.data, 4))
np.testing.assert_allclose(y.data, expected, atol=1e-4)
assert np.isfinite(x.grad).all() and np.abs(x.grad).max() > 0
"""


def test_a_norm_without_a_compiler():
    """Catches: a part of a kernel that has no plain twin, so that every network fails in an exercise's first stage."""
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
