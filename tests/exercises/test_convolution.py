"""Judges the exercises on convolution, against loops over every output number."""

import numpy as np
import pytest

from nn.kernels.convolution import output_size
from nn.kernels.reference import convolution as simple
from nn.kernels.reference.im2col import im2col
from nn.ops.conv import Conv2d, ConvTranspose2d
from tests.exercises.test_autograd import exchanged
from tests.exercises.trial import Trial, context, normal
from tests.oracles import convolution as loops
from tests.oracles.numeric import vjp

STRIDE, PADDING = "with stride", "with padding"
IGNORED = "the incoming gradient is ignored: this is what a gradient of ones would give"
# images (N, H, W, C), kernel (kh, kw), output channels, stride, padding
CASES = [
    ((1, 4, 4, 1), (3, 3), 1, 1, 0),
    ((2, 4, 5, 2), (2, 3), 3, 1, 0),
    ((2, 4, 4, 2), (3, 3), 2, 1, 1),
    ((1, 3, 4, 2), (3, 3), 2, 1, 2),
    ((1, 5, 5, 1), (3, 3), 2, 2, 0),
    ((2, 5, 6, 2), (3, 2), 2, 2, 1),
    ((1, 7, 6, 2), (2, 2), 1, 3, 1),
]


def tags_of(stride, padding):
    return ([STRIDE] if stride > 1 else []) + ([PADDING] if padding else [])


def named(case):
    return f"{'x'.join(map(str, case[0]))}-k{case[1][0]}{case[1][1]}-o{case[2]}-s{case[3]}-p{case[4]}"


cases = pytest.mark.parametrize("case", CASES, ids=named)


@pytest.mark.exercise(id="output-size")
@cases
def test_output_size(case):
    shape, kernel, _, stride, padding = case
    trial = Trial(f"output_size({shape}, {kernel}, stride={stride}, padding={padding})", *tags_of(stride, padding))
    got = trial.run(output_size, shape, kernel, stride, padding)
    expected = []
    for size, k in zip(shape[1:3], kernel, strict=True):
        places = [start for start in range(-padding, size + padding, stride) if start + k <= size + padding]
        expected.append(len(places))
    places = np.array(expected)
    sizes, k = np.array(shape[1:3]), np.array(kernel)
    instead = {
        "padding is on both sides: 2 * padding": (sizes + padding - k) // stride + 1,
        "the stride is left out": sizes + 2 * padding - k + 1,
        "the padding is left out": (sizes - k) // stride + 1,
        "one too few: the last place fits too": places - 1,
        "one too many": places + 1,
    }
    instead = {cause: value for cause, value in instead.items() if not np.array_equal(value, places)}
    if expected[0] != expected[1]:
        instead["height and width are exchanged"] = places[::-1]
    trial.require(isinstance(got, tuple | list) and len(got) == 2, "two numbers are wanted, (height, width)")
    trial.expect(np.array(got), np.array(expected), "(height, width)", instead=instead)


@pytest.mark.exercise(id="im2col")
@cases
def test_im2col(case):
    shape, kernel, _, stride, padding = case
    x = normal(shape, 0)
    trial = Trial(f"im2col(x, {kernel}, stride={stride}, padding={padding})", *tags_of(stride, padding), x=x)
    trial.expect(trial.run(im2col, x, kernel, stride, padding), patches(x, kernel, stride, padding))


def patches(x, kernel, stride, padding):
    """(N, H', W', kh, kw, C), by looking at every place."""
    n, height, width, channels = x.shape
    rows = (height + 2 * padding - kernel[0]) // stride + 1
    columns = (width + 2 * padding - kernel[1]) // stride + 1
    result = np.zeros((n, rows, columns, *kernel, channels), x.dtype)
    for i, j, u, v in np.ndindex(rows, columns, *kernel):
        r, c = i * stride + u - padding, j * stride + v - padding
        if 0 <= r < height and 0 <= c < width:
            result[:, i, j, u, v] = x[:, r, c]
    return result


FLIPPED = "the kernel is flipped: this is convolution in the strict sense, and correlation is wanted"


@pytest.mark.exercise(id="conv2d-forward")
@cases
def test_convolve(case):
    shape, kernel, out, stride, padding = case
    x, w, b = normal(shape, 0), normal((*kernel, shape[3], out), 1), normal((out,), 2)
    call = f"convolve(x, weight, bias, stride={stride}, padding={padding})"
    trial = Trial(call, *tags_of(stride, padding), x=x, weight=w, bias=b)
    instead = {
        FLIPPED: loops.conv2d(x, w[::-1, ::-1], b, stride, padding),
        "the bias is left out": loops.conv2d(x, w, None, stride, padding),
    }
    got = trial.run(simple.convolve, x, w, b, stride, padding)
    trial.expect(got, loops.conv2d(x, w, b, stride, padding), instead=instead)


@pytest.mark.exercise(id="conv2d-weight-gradient")
@cases
def test_weight_gradient(case):
    shape, kernel, out, stride, padding = case
    x, w = normal(shape, 0), normal((*kernel, shape[3], out), 1)
    grad = normal(loops.conv2d(x, w, None, stride, padding).shape, 3)
    call = f"weight_gradient(x, grad, {kernel}, stride={stride}, padding={padding})"
    trial = Trial(call, *tags_of(stride, padding), x=x, grad=grad)
    got = trial.run(simple.weight_gradient, x, grad, kernel, stride, padding)

    def forward(w):
        return (loops.conv2d(x, w, None, stride, padding),)

    (right,), (ones,) = (vjp(forward, [w], [u], linear=True) for u in (grad, np.ones_like(grad)))
    instead = {IGNORED: ones, "the kernel is flipped": right[::-1, ::-1]}
    trial.expect(got, right, "the gradient of the weights", atol=1e-7, instead=instead)


@pytest.mark.exercise(id="conv2d-input-gradient")
@cases
def test_input_gradient(case):
    shape, kernel, out, stride, padding = case
    x, w = normal(shape, 0), normal((*kernel, shape[3], out), 1)
    grad = normal(loops.conv2d(x, w, None, stride, padding).shape, 3)
    call = f"input_gradient(grad, weight, {shape}, stride={stride}, padding={padding})"
    trial = Trial(call, *tags_of(stride, padding), grad=grad, weight=w)
    got = trial.run(simple.input_gradient, grad, w, shape, stride, padding)

    def gradient(w, grad):
        return vjp(lambda x: (loops.conv2d(x, w, None, stride, padding),), [x], [grad], linear=True)[0]

    instead = {IGNORED: gradient(w, np.ones_like(grad)), "the kernel is flipped": gradient(w[::-1, ::-1], grad)}
    trial.expect(got, gradient(w, grad), "the gradient of x", atol=1e-7, instead=instead)


@pytest.mark.exercise(id="conv2d-backward")
@cases
def test_conv2d_backward(case):
    shape, kernel, out, stride, padding = case
    x, w, b = normal(shape, 0), normal((*kernel, shape[3], out), 1), normal((out,), 2)
    ctx = context(Conv2d, (True, True, True))
    y = Conv2d.forward(ctx, x, w, b, stride=stride, padding=padding)
    grad = normal(y.shape, 3)
    call = f"Conv2d.backward(ctx, grad), stride={stride}, padding={padding}"
    trial = Trial(call, *tags_of(stride, padding), x=x, w=w, b=b, grad=grad)
    got = trial.run(Conv2d.backward, ctx, grad)
    trial.require(isinstance(got, tuple) and len(got) == 3, "three gradients are wanted: those of x, w and b")

    def forward(x, w, b):
        return (loops.conv2d(x, w, b, stride, padding),)

    expected, ones = (vjp(forward, [x, w, b], [u], linear=True) for u in (grad, np.ones_like(grad)))
    for name, mine, right, one in zip("xwb", got, expected, ones, strict=True):
        instead = {IGNORED: one, **exchanged(name, "xwb", expected)}
        if name == "w":
            instead["the kernel is flipped"] = right[::-1, ::-1]
        trial.expect(mine, right, f"the gradient of {name}", atol=1e-7, instead=instead)


@pytest.mark.exercise(id="conv2d-backward")
@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_conv2d_backward_of_what_is_wanted(wanted):
    x, w, b = normal((1, 4, 4, 1), 0), normal((3, 3, 1, 2), 1), normal((2,), 2)
    b = b if wanted == 2 else None
    ctx = context(Conv2d, tuple(i == wanted for i in range(3)))
    y = Conv2d.forward(ctx, x, w, b, stride=1, padding=1)
    grad = normal(y.shape, 3)
    trial = Trial(
        "Conv2d.backward(ctx, grad)", "where one gradient is wanted and the others are not", x=x, w=w, grad=grad
    )
    got = trial.run(Conv2d.backward, ctx, grad)
    inputs = [x, w, np.zeros(2) if b is None else b]
    expected = vjp(lambda x, w, b: (loops.conv2d(x, w, b, 1, 1),), inputs, [grad], linear=True)
    trial.expect(got[wanted], expected[wanted], f"the gradient of {'xwb'[wanted]}", atol=1e-7)


TRANSPOSED = [
    ((1, 3, 3, 1), (3, 3), 1, 1, 0, 0),
    ((2, 3, 4, 2), (2, 3), 3, 1, 0, 0),
    ((1, 3, 3, 2), (3, 3), 2, 1, 1, 0),
    ((1, 3, 3, 2), (3, 3), 1, 2, 0, 0),
    ((2, 3, 2, 2), (4, 4), 3, 2, 1, 0),
    ((1, 3, 3, 1), (3, 3), 2, 2, 1, 1),
]


@pytest.mark.exercise(id="transposed-convolution")
@pytest.mark.parametrize("case", TRANSPOSED, ids=named)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_conv_transpose(case, bias):
    shape, kernel, out, stride, padding, extra = case
    x, w, b = normal(shape, 0), normal((*kernel, shape[3], out), 1), normal((out,), 2) if bias else None
    tags = tags_of(stride, padding) + (["with output_padding"] if extra else [])
    call = f"ConvTranspose2d.forward(ctx, x, w, b, stride={stride}, padding={padding}, output_padding={extra})"
    trial = Trial(call, *tags, x=x, w=w, **({"b": b} if bias else {}))
    ctx = context(ConvTranspose2d, (True, True, bias))
    got = trial.run(ConvTranspose2d.forward, ctx, x, w, b, stride=stride, padding=padding, output_padding=extra)
    expected = loops.conv_transpose2d(x, w, b, stride, padding, extra)
    instead = {"the kernel is flipped": loops.conv_transpose2d(x, w[::-1, ::-1], b, stride, padding, extra)}
    if bias:
        instead["the bias is left out"] = loops.conv_transpose2d(x, w, None, stride, padding, extra)
    trial.expect(got, expected, instead=instead)
    grad = normal(expected.shape, 3)
    trial = Trial(
        "ConvTranspose2d.backward(ctx, grad), on what your forward has left in ctx", *tags, x=x, w=w, grad=grad
    )
    back = trial.run(ConvTranspose2d.backward, ctx, grad)
    right = vjp(lambda x, w: (loops.conv_transpose2d(x, w, None, stride, padding, extra),), [x, w], [grad], linear=True)
    trial.expect(back[0], right[0], "the gradient of x", atol=1e-7)
    trial.expect(back[1], right[1], "the gradient of w", atol=1e-7)
