"""Moving numbers about: each op against plain NumPy, and what comes back where one number was used twice."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import functional as F
from nn.tensor import Tensor
from tests.nn.ops.judge import judge
from tests.nn.ops.run import backward, forward

X = np.arange(24.0).reshape(2, 3, 4)


def test_reshape_and_transpose():
    """Catches: a gradient reshaped, not transposed back; axes put back in the same order, not the inverse one."""
    judge(F.reshape, [X], X.reshape(4, 6), shape=(4, -1))
    judge(F.transpose, [X], np.moveaxis(X, (0, 1, 2), (1, 2, 0)), axes=(2, 0, 1))  # its own inverse is another
    judge(F.transpose, [X], np.moveaxis(X, (0, 1, 2), (1, 2, 0)), axes=(-1, 0, -2))
    judge(F.transpose, [X], X.T)


def test_methods_take_a_tuple_or_numbers():
    """Catches: x.reshape(2, 3) and x.reshape((2, 3)) that differ."""
    x = Tensor(X)
    assert x.reshape(6, 4).shape == x.reshape((6, 4)).shape == x.reshape([6, 4]).shape == (6, 4)
    assert x.reshape(-1).shape == (24,)
    assert x.transpose(1, 2, 0).shape == x.transpose((1, 2, 0)).shape == (3, 4, 2)
    assert x.transpose().shape == (4, 3, 2)


def test_broadcast_to():
    """Catches: a gradient that is not summed over the copies."""
    x = np.array([[1.0], [2.0]])
    assert forward(F.broadcast_to, [x], shape=(3, 2, 4))[0].shape == (3, 2, 4)
    assert backward(F.broadcast_to, [x], [np.ones((3, 2, 4))], shape=(3, 2, 4))[0].tolist() == [[12], [12]]


def test_concat_and_split_are_inverse():
    """Catches: pieces in the wrong order, the wrong axis, the last piece lost."""
    pieces = F.split(Tensor(X), 3, axis=1)
    assert [p.shape for p in pieces] == [(2, 1, 4)] * 3
    np.testing.assert_array_equal(F.concat(pieces, 1).data, X)
    judge(F.split, [X], (X[..., :2], X[..., 2:]), sections=2, axis=-1)
    judge(lambda a, b: F.concat([a, b], 1), [X[:, :1], X[:, 1:]], X)


@given(
    widths=st.lists(st.integers(0, 5), min_size=1, max_size=3), even=st.booleans(), dtype=st.sampled_from("fdi"),
    lie=st.sampled_from(["near", "far", "turned"]), count=st.integers(0, 3),
)  # fmt: skip
def test_short_pieces_end_to_end(widths, even, dtype, lie, count):
    """Catches: pieces of 8 or 16 bytes, moved as one number, that lie apart, differ in width, or come back cast."""
    widths = widths[:1] * len(widths) if even else widths
    source = np.arange(count * 4 * 10.0).reshape(count, 4, 10).astype(dtype)
    where = {
        "near": lambda width: source[..., width : 2 * width],
        "far": lambda width: source[..., : 2 * width : 2],
        "turned": lambda width: source[..., :width].swapaxes(1, 2).copy().swapaxes(1, 2),
    }
    pieces = [where[lie](width) for width in widths]
    joined = F.concat(pieces, -1).data
    assert joined.dtype == source.dtype
    np.testing.assert_array_equal(joined, np.concatenate(pieces, -1))


def test_a_piece_that_nobody_used():
    """Catches: a split that fails, or returns a gradient that is too short, when only some pieces reach the loss."""
    (dx,) = backward(lambda x: F.split(x, 3, 1)[1], [X], [np.ones((2, 1, 4))])
    np.testing.assert_array_equal(dx[:, ::2], 0)
    np.testing.assert_array_equal(dx[:, 1], 1)


def test_stack():
    """Catches: tensors joined along an existing axis; a new axis counted from the wrong end."""
    judge(lambda a, b: F.stack([a, b], 1), [X[0], X[1]], np.stack([X[0], X[1]], 1))
    judge(lambda a, b: F.stack([a, b], -1), [X[0], X[1]], np.stack([X[0], X[1]], -1))


def test_the_same_tensor_twice():
    """Catches: one of two gradients that arrive at the same tensor lost."""
    (dx,) = backward(lambda x: F.concat([x, x], 0), [np.ones(2)], [np.array([1.0, 2.0, 10.0, 20.0])])
    assert dx.tolist() == [11, 22]


@pytest.mark.parametrize(
    "index",
    [
        1,
        -1,
        (slice(None), 1),
        (..., slice(None, None, -2)),
        (slice(1, None), None, ..., 0),
        np.array([1, 1, 0, 1]),
        (np.array([0, 1, 1]), np.array([2, 0, 0])),
        (slice(None), [0, 0, 2], slice(1, 3)),
        X > 10,
        X[:, 0, 0] > 1,
        np.array([], np.int64),
        [],
    ],
    ids=str,
)
def test_getitem(index):
    """Catches: a number taken twice whose gradient counts once; a view's gradient written to the wrong place."""
    judge(F.getitem, [X], X[index], index=index)
    np.testing.assert_array_equal(Tensor(X)[index].data, X[index])


def test_an_index_may_be_a_tensor():
    """Catches: x[labels] that fails when the labels are a tensor of integers."""
    np.testing.assert_array_equal(Tensor(X)[Tensor(np.array([1, 0]))].data, X[[1, 0]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: F.split(x, 3, 2), "cannot cut axis 2"),
        (lambda x: F.split(x, 0, 1), "cannot cut axis 1"),
        (lambda x: F.stack([x, x[0]]), "one shape"),
        (lambda x: F.concat([]), "at least one tensor"),
    ],
)
def test_errors_say_what_was_given(call, words):
    """Catches: a wrong call that is let through, or answered by an error about something else."""
    with pytest.raises(ValueError, match=words):
        call(Tensor(X))
