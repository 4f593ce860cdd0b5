"""The ops that `python -m bench ops` times are the same on both sides."""
import numpy as np
import pytest

from bench.contestant import Ours
from bench.ops import CASES, WEIGHTS
from nn.tensor import Tensor
from tests.oracles.numeric import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")

from bench.peers import ops as peers  # noqa: E402


@pytest.mark.parametrize(("op", "shapes"), CASES, ids=lambda value: value if isinstance(value, str) else None)
def test_both_sides_compute_the_same(op, shapes):
    """Catches: a case whose twin pads, groups, scales or modulates otherwise, so that unlike things are compared."""
    rng = np.random.default_rng(0)
    few = [shape if position in WEIGHTS.get(op, ()) else (3, *shape[1:]) for position, shape in enumerate(shapes)]
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in few]
    expected = peers.FUNCTIONS[op](*(peers.to_torch(op, i, a, True) for i, a in enumerate(arrays))).detach()
    if expected.ndim == 4 and op != "scaled_dot_product_attention":
        expected = expected.permute(0, 2, 3, 1)
    found = Ours.function(op)(*map(Tensor, arrays)).data
    assert_close(found, expected.numpy(), 1e-4)
