"""What convolutions owe beyond the properties of all ops: adjointness, layouts, float32 accuracy, clear errors."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import functional as F
from nn.tensor import Tensor
from tests.nn.gradcheck import gradcheck
from tests.oracles import convolution as oracle
from tests.oracles.numeric import assert_close


@given(
    size=st.integers(3, 8),
    channels=st.sampled_from([(1, 16), (16, 16), (16, 3), (5, 7)]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
)
def test_conv_transpose_is_the_adjoint_of_conv(size, channels, kernel, stride, padding):
    """<conv(x), y> = <x, conv_transpose(y)>.  Catches: kernels flipped or channels swapped in one of the two."""
    if size + 2 * padding < kernel or kernel <= padding:
        return
    rng = np.random.default_rng([size, kernel, stride])
    x, w = rng.standard_normal((2, size, size, channels[0])), rng.standard_normal((kernel, kernel, *channels))
    convolved = F.conv2d(x, w, stride=stride, padding=padding).data
    y = rng.standard_normal(convolved.shape)
    left = (size + 2 * padding - kernel) % stride
    back = F.conv_transpose2d(y, w.transpose(0, 1, 3, 2), stride=stride, padding=padding, output_padding=left).data
    assert np.vdot(convolved, y) == pytest.approx(np.vdot(x, back), rel=1e-11)


@pytest.mark.parametrize(("channels", "stride"), [((16, 32), 1), ((1, 16), 1), ((16, 1), 1), ((5, 7), 2)])
def test_any_layout_in_memory_will_do(channels, stride):
    """Catches: kernels that read a transposed, sliced or broadcast array as if it were contiguous."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((channels[0], 2, 14, 9)).transpose(1, 2, 3, 0)[:, ::2]
    w = rng.standard_normal((*channels, 3, 3)).transpose(2, 3, 0, 1)
    expected = oracle.conv2d(x, w, None, stride, 1)
    assert_close(F.conv2d(x, w, stride=stride, padding=1).data, expected, 1e-12)
    ones = np.broadcast_to(np.ones(()), expected.shape)
    results = []
    for g in (ones, np.ascontiguousarray(ones)):
        tx, tw = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
        F.conv2d(tx, tw, stride=stride, padding=1).backward(g)
        results.append((tx.grad, tw.grad))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_gradients_of_winograd(size):
    """Catches: a wrong gradient of the algorithm that small random channel counts never reach."""
    rng = np.random.default_rng(size)
    arrays = [rng.standard_normal(s) for s in ((2, size, size, 16), (3, 3, 16, 16), (16,), (2, size, size, 16))]
    gradcheck(lambda x, w, b: F.conv2d(x, w, b, padding=1), arrays[:3], rng)
    gradcheck(lambda x, w, b, a: F.conv2d(x, w, b, padding=1, onto=a), arrays, rng)
    x, w, b, a = arrays
    assert_close(F.conv2d(x, w, b, padding=1, onto=a).data, a + oracle.conv2d(x, w, b, 1, 1), 1e-12)
    apart = np.repeat(a, 2, axis=2)[:, :, ::2]  # the same numbers, but not side by side
    np.testing.assert_array_equal(F.conv2d(x, w, padding=1, onto=apart).data, F.conv2d(x, w, padding=1, onto=a).data)


def test_winograd_keeps_the_digits_of_float32():
    """Catches: interpolation points that lose precision (the usual ones reach 6e-6)."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 28, 28, 64)), rng.standard_normal((3, 3, 64, 16))
    y = F.conv2d(x.astype(np.float32), w.astype(np.float32), padding=1).data
    assert_close(y, oracle.conv2d(x, w, None, 1, 1), 3e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: F.conv2d(np.ones((1, 5, 5, 2)), np.ones((3, 3, 3, 4))), "2 channels"),
        (lambda: F.conv2d(np.ones((5, 5, 2)), np.ones((3, 3, 2, 4))), "given (5, 5, 2)"),
        (lambda: F.conv2d(np.ones((1, 2, 2, 2)), np.ones((3, 3, 2, 4))), "larger than an image"),
        (lambda: F.conv2d(np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 4)), np.ones(3)), "bias"),
        (lambda: F.conv_transpose2d(np.ones((1, 2, 2, 2)), np.ones((3, 3, 2, 4)), output_padding=1), "output_padding"),
        (lambda: F.conv_transpose2d(np.ones((1, 1, 1, 2)), np.ones((3, 3, 2, 4)), padding=2), "nothing is left"),
        (lambda: F.conv2d(np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 4)), onto=np.ones((1, 5, 5, 4))), "(1, 3, 3, 4); g"),
        (lambda: F.conv2d(np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 4)), stride=0), "stride must be at least 1"),
        (lambda: F.conv_transpose2d(np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 4)), padding=-1), "given 1 and -1"),
    ],
)
def test_what_does_not_fit_is_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert words in str(error.value)
