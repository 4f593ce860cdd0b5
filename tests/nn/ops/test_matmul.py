"""Matrix products against three nested loops."""
import numpy as np
import pytest

from nn import functional as F
from nn.tensor import Tensor
from tests.nn.ops.judge import judge
from tests.oracles.elementary import matmul

rng = np.random.default_rng(0)


def stacked(a, b):
    """The oracle for stacks of matrices."""
    front = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = np.broadcast_to(a, front + a.shape[-2:]), np.broadcast_to(b, front + b.shape[-2:])
    y = np.zeros((*front, a.shape[-2], b.shape[-1]))
    for index in np.ndindex(front):
        y[index] = matmul(a[index], b[index])
    return y


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3), (3, 4)),
        ((3, 3), (3, 3)),  # square: a forgotten transpose keeps the shape
        ((1, 3), (3, 1)),
        ((5, 2, 3), (5, 3, 4)),
        ((2, 5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 2)),
        ((2, 1, 2, 3), (5, 3, 4)),
    ],
    ids=str,
)
def test_matmul(left, right):
    """Catches: a transpose forgotten or on the wrong factor; stacks not summed where a matrix was shared."""
    a, b = rng.standard_normal(left), rng.standard_normal(right)
    judge(F.matmul, [a, b], stacked(a, b))
    np.testing.assert_allclose((Tensor(a) @ Tensor(b)).data, stacked(a, b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("front", [(), (4,), (2, 3)], ids=str)
def test_linear(front):
    """Catches: the bias's gradient not summed over all rows; W used transposed; leading axes mixed up."""
    x, w, b = (rng.standard_normal(shape) for shape in ((*front, 3), (3, 5), (5,)))
    expected = stacked(x.reshape(-1, 1, 3), w).reshape(*front, 5) + b
    judge(F.linear, [x, w, b], expected)
    judge(lambda x, w: F.linear(x, w, None), [x, w], expected - b)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (F.matmul, [(2, 3), (4, 2)]),
        (F.matmul, [(3,), (3, 2)]),
        (F.linear, [(2, 3), (2, 3)]),
        (F.linear, [(2, 3), (3, 4), (3,)]),
        (F.linear, [(2, 3), (3, 4), (1, 4)]),
    ],
)
def test_shapes_that_do_not_fit(function, shapes):
    """Catches: a wrong shape that broadcasts its way through, or an error that does not name the shapes."""
    with pytest.raises(ValueError, match=str(shapes[-1]).replace("(", r"\(").replace(")", r"\)")):
        function(*(Tensor(np.ones(shape)) for shape in shapes))
