"""What holds for every op, whatever it computes: checked at random shapes, one test a property."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn import functional as F
from nn.tensor import Tensor
from tests.nn.gradcheck import gradcheck
from tests.nn.ops.cases import CASES, empty_axes
from tests.nn.ops.run import as_dtype, backward, forward, is_float
from tests.oracles.numeric import assert_close, vjp

every_op = pytest.mark.parametrize("case", CASES, ids=str)
seeds = given(seed=st.integers(0, 10**6))
few = settings(max_examples=6)


def drawn(case, seed):
    """Inputs, options, and a random cotangent for each output."""
    rng = np.random.default_rng(seed)
    arrays, options = case.draw(rng)
    return arrays, options, [rng.standard_normal(y.shape) for y in forward(case.function, arrays, **options)]


def test_every_public_op_is_in_the_table():
    """Catches: an op that is added to nn.functional and never tested."""
    assert {case.name.partition(".")[0] for case in CASES} == set(F.__all__)


@every_op
@few
@seeds
def test_backward_is_the_derivative_of_forward(case, seed):
    """Catches: any wrong gradient, by its first wrong entry; judged by differences of forward alone."""
    arrays, options, cotangents = drawn(case, seed)
    expected = vjp(lambda *a: forward(case.function, a, **options), arrays, cotangents)
    gradients = backward(case.function, arrays, cotangents, **options)
    for i, (ours, truth) in enumerate(zip(gradients, expected, strict=True)):
        if truth is not None:
            assert_close(ours, truth, 1e-6, f"the gradient of input {i}", floor=1e-4)


@every_op
@few
@seeds
def test_gradcheck_passes(case, seed):
    """Catches: a gradient that is wrong for several outputs at once; a gradcheck that rejects what is right."""
    rng = np.random.default_rng(seed)
    arrays, options = case.draw(rng)
    gradcheck(lambda *inputs: case.function(*inputs, **options), arrays, rng)


@every_op
@few
@seeds
def test_backward_is_linear(case, seed):
    """Catches: a backward that ignores, squares or thresholds the gradient that it is given."""
    arrays, options, u = drawn(case, seed)
    rng = np.random.default_rng(seed + 1)
    v = [rng.standard_normal(part.shape) for part in u]
    both = backward(case.function, arrays, [2 * a - 3 * b for a, b in zip(u, v, strict=True)], **options)
    of_u = backward(case.function, arrays, u, **options)
    of_v = backward(case.function, arrays, v, **options)
    for together, a, b in zip(both, of_u, of_v, strict=True):
        if together is not None:
            assert_close(together, 2 * a - 3 * b, 1e-11, floor=1)


@every_op
@few
@seeds
def test_nothing_is_changed_or_shared(case, seed):
    """Catches: an op that works in place on its inputs or on the gradient it is given; gradients that share memory."""
    arrays, options, cotangents = drawn(case, seed)
    for array in [*(a for a in arrays if isinstance(a, np.ndarray)), *cotangents]:
        array.flags.writeable = False  # an attempt to write raises
    gradients = [g for g in backward(case.function, arrays, cotangents, **options) if g is not None]
    for i, gradient in enumerate(gradients):
        others = [*(a for a in arrays if is_float(a)), *cotangents, *gradients[:i]]
        assert not any(np.shares_memory(gradient, other) for other in others)


@every_op
@few
@seeds
def test_float32_takes_the_same_path(case, seed):
    """Catches: a stray float64 constant that turns float32 into float64; precision lost by a careless formula."""
    arrays, options, cotangents = drawn(case, seed)
    singles = as_dtype(arrays, np.float32)
    exact = as_dtype(singles, np.float64)
    u = as_dtype(cotangents, np.float32)
    for ours, truth in zip(
        forward(case.function, singles, **options), forward(case.function, exact, **options), strict=True
    ):
        assert ours.dtype == np.float32 and truth.dtype == np.float64
        assert_close(ours, truth, 5e-5)
    ours_back = backward(case.function, singles, u, **options)
    truth_back = backward(case.function, exact, as_dtype(u, np.float64), **options)
    for ours, truth in zip(ours_back, truth_back, strict=True):
        if ours is not None:
            assert ours.dtype == np.float32 and truth.dtype == np.float64
            assert_close(ours, truth, 5e-5, floor=1)


@every_op
@few
@seeds
def test_a_gradient_does_not_depend_on_which_others_are_wanted(case, seed):
    """Catches: an op that, with one input constant, skips work that another input's gradient needs."""
    arrays, options, cotangents = drawn(case, seed)
    floats = [i for i, a in enumerate(arrays) if is_float(a)]
    full = backward(case.function, arrays, cotangents, **options)
    for i in floats:
        others = [j for j in floats if j != i]
        alone = backward(case.function, arrays, cotangents, constant=others, **options)
        np.testing.assert_allclose(alone[i], full[i], rtol=1e-12, atol=1e-12)
        assert all(alone[j] is None for j in others)


@every_op
@few
@seeds
def test_strided_inputs_give_the_same(case, seed):
    """Catches: a kernel that reads the memory of a view as if it were contiguous."""
    arrays, options, cotangents = drawn(case, seed)
    outputs, plain = forward(case.function, arrays, **options), backward(case.function, arrays, cotangents, **options)
    for rearrange in (with_gaps, lambda array: np.array(array, order="F")):
        views = [rearrange(a) if is_float(a) else a for a in arrays]
        for a, b in zip(outputs, forward(case.function, views, **options), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
        strided = [rearrange(u) for u in cotangents]
        for a, b in zip(plain, backward(case.function, views, strided, **options), strict=True):
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


@every_op
@settings(max_examples=20)
@seeds
@pytest.mark.filterwarnings("error")
def test_nothing_in_nothing_out(case, seed):
    """Catches: a reshape to -1, a maximum over nothing, a division by a count of 0, a kernel that reads the first of no
    pixels; gradients left out, uninitialised, or of another shape."""
    rng = np.random.default_rng(seed)
    with empty_axes():
        draws = (case.draw(rng) for _ in range(100))
        arrays, options = next(draw for draw in draws if not all(a.size for a in draw[0]))
    outputs = forward(case.function, arrays, **options)
    cotangents = [rng.standard_normal(y.shape) for y in outputs]
    gradients = backward(case.function, arrays, cotangents, **options)
    expected = vjp(lambda *a: forward(case.function, a, **options), arrays, cotangents)
    for i, (ours, truth) in enumerate(zip(gradients, expected, strict=True)):
        if truth is not None:
            assert_close(ours, truth, 1e-6, f"the gradient of input {i}", floor=1e-4)
    if case.name not in ("mean", "logsumexp"):  # whose values of nothing are NaN and -inf
        assert all(np.isfinite(y).all() for y in outputs)


def as_numpy(options, of):
    """The options with each number in them turned into one of NumPy's."""
    if isinstance(options, dict):
        return {k: v if k in ("index", "seed") else as_numpy(v, of) for k, v in options.items()}
    if isinstance(options, list | tuple):
        return type(options)(as_numpy(part, of) for part in options)
    return of(options) if isinstance(options, int | float) else options


@every_op
@few
@seeds
def test_options_may_be_numbers_of_numpy(case, seed):
    """Catches: isinstance(n, int), and float64 numbers that turn float32 into float64."""
    arrays, options, _ = drawn(case, seed)
    singles = as_dtype(arrays, np.float32)
    plain = forward(case.function, singles, **options)
    for of in (np.asarray, lambda number: np.asarray(number)[()]):
        for a, b in zip(plain, forward(case.function, singles, **as_numpy(options, of)), strict=True):
            assert b.dtype == np.float32
            np.testing.assert_array_equal(a, b)


NUMBERS = [np.int64(2), np.uint8(2), np.float64(2), np.float16(2), np.bool_(True), np.array(2), np.array(2.0)]


@pytest.mark.parametrize("number", [*NUMBERS, np.array([2, 1, 3]), [2, 1, 3]], ids=repr)
@pytest.mark.parametrize("op", [F.add, F.sub, F.mul, F.div], ids=lambda op: op.__name__)
def test_operands_may_be_numbers_of_numpy(op, number):
    """Catches: a float32 network that one number of NumPy's, or an array of integers, turns into float64."""
    x = np.array([0.5, 1.5, 2.5], np.float32)
    exact = np.asarray(number, np.float64)
    for sides in (lambda a, b: (a, b), lambda a, b: (b, a)):
        tensor = Tensor(x, requires_grad=True)
        y = op(*sides(tensor, number))
        y.backward(np.ones(3))
        assert y.dtype == tensor.grad.dtype == np.float32
        np.testing.assert_allclose(y.data, forward(op, sides(x.astype(np.float64), exact))[0], rtol=1e-6)


@every_op
@few
@seeds
def test_integers_are_taken_as_numpy_would_and_float16_is_refused(case, seed):
    """Catches: integers that reach a kernel, an in-place division, np.empty of an integer dtype; float16 likewise."""
    arrays, options, _ = drawn(case, seed)
    whole = [np.asarray(np.abs(7 * a) % 3 // 1 + 1) if is_float(a) else a for a in arrays]
    exact = forward(case.function, whole, **options)
    for dtype in (np.int8, np.int64):
        integers = as_dtype(whole, dtype)
        for y, truth in zip(forward(case.function, integers, **options), exact, strict=True):
            assert_close(y, truth, 1e-5)
        mixed = forward(case.function, [integers[0].astype(np.float32), *integers[1:]], **options)
        assert all(y.dtype == np.float32 for y in mixed)
    with pytest.raises(TypeError, match="float16"):
        forward(case.function, as_dtype(arrays, np.float16), **options)


def with_gaps(array):
    """The same numbers, each beside one that is none of them."""
    return np.stack([array, np.full_like(array, 1e3)], axis=-1)[..., 0]


@settings(max_examples=20)
@seeds
def test_softmax_does_not_see_a_shift(seed):
    """Catches: a log_softmax that is not normalised, or subtracts a maximum over the wrong axis."""
    rng = np.random.default_rng(seed)
    x, shift = rng.standard_normal((3, 4, 2)), 100 * rng.standard_normal((3, 1, 2))
    one, other = (forward(F.log_softmax, [values], axis=1)[0] for values in (x, x + shift))
    assert_close(one, other, 1e-10)
    assert_close(np.exp(one).sum(axis=1), np.ones((3, 2)), 1e-12)


@settings(max_examples=20)
@seeds
def test_convolution_and_its_transpose_are_adjoint(seed):
    """Catches: a transposed convolution that flips the kernel, or is shifted by its padding or stride.

    <conv(x), y> = <x, conv_transpose(y)> with the same weights, their channels swapped.
    """
    rng = np.random.default_rng(seed)
    kernel, stride, padding, size = (int(rng.integers(*ends)) for ends in ((1, 5), (1, 4), (0, 3), (4, 9)))
    left_over = (size + 2 * padding - kernel) % stride  # rows that no stride reaches: what output_padding is for
    x, w = rng.standard_normal((2, size, size, 3)), rng.standard_normal((kernel, kernel, 3, 2))
    image = forward(F.conv2d, [x, w], stride=stride, padding=padding)[0]
    y = rng.standard_normal(image.shape)
    options = {"stride": stride, "padding": padding, "output_padding": left_over}
    back = forward(F.conv_transpose2d, [y, w.transpose(0, 1, 3, 2)], **options)[0]
    assert back.shape == x.shape
    np.testing.assert_allclose(np.vdot(image, y), np.vdot(x, back), rtol=1e-9, atol=1e-9)
