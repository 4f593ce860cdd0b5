"""Judges the exercises on Numba kernels: first as plain Python, then compiled; `out` comes filled with NaN."""

import numpy as np
import pytest

from nn.kernels.reference import loops as kernels
from tests.exercises.test_convolution import cases, patches, tags_of
from tests.exercises.trial import Trial, normal
from tests.oracles import convolution, normalisation

UNUSED = "out is filled with NaN before the call: every entry has to be written"


def written(trial, kernel, *arguments, out):
    """Run a kernel that writes into `out`, which holds nothing but NaN."""
    out[...] = np.nan
    trial.run(kernel, *arguments, out)
    left = int(np.isnan(out).sum())
    trial.require(left == 0, f"{left} of {out.size} entries of out are NaN", UNUSED)
    return out


@pytest.mark.exercise(id="im2col-kernel")
@cases
def test_im2col_kernel(case):
    shape, kernel, _, stride, padding = case
    x = normal(shape, 0)
    expected = patches(x, kernel, stride, padding)
    trial = Trial(f"im2col(x, *{kernel}, stride={stride}, padding={padding}, out)", *tags_of(stride, padding), x=x)
    got = written(trial, kernels.im2col, x, *kernel, stride, padding, out=np.empty_like(expected))
    trial.expect(got, expected, "out")


@pytest.mark.exercise(id="convolution-kernel")
@cases
def test_convolution_kernel(case):
    shape, kernel, out, stride, padding = case
    x, w = normal(shape, 0), normal((*kernel, shape[3], out), 1)
    expected = convolution.conv2d(x, w, None, stride, padding)
    trial = Trial(
        f"convolve(x, weight, stride={stride}, padding={padding}, out)", *tags_of(stride, padding), x=x, weight=w
    )
    flipped = convolution.conv2d(x, w[::-1, ::-1], None, stride, padding)
    instead = {"the kernel is flipped: this is convolution in the strict sense, and correlation is wanted": flipped}
    got = written(trial, kernels.convolve, x, w, stride, padding, out=np.empty_like(expected))
    trial.expect(got, expected, "out", instead=instead)


@pytest.mark.exercise(id="norm-silu-kernel")
@pytest.mark.parametrize("n, positions, channels, groups", [(1, 4, 2, 1), (2, 3, 4, 2), (2, 5, 6, 3)], ids=str)
def test_group_norm_silu_kernel(n, positions, channels, groups):
    x, eps = 2 * normal((n, positions, channels), 0) + 3, 0.1
    gamma, beta = normal((channels,), 1), normal((channels,), 2)
    trial = Trial(f"group_norm_silu(x, gamma, beta, groups={groups}, eps={eps}, out)", x=x, gamma=gamma, beta=beta)
    h = normalisation.group_norm(x, gamma, beta, groups, eps)
    got = written(trial, kernels.group_norm_silu, x, gamma, beta, groups, eps, out=np.empty_like(x))
    instead = {
        "SiLU is left out": h,
        "the sigmoid without its factor h": 1 / (1 + np.exp(-h)),
        "the sign in the sigmoid": h / (1 + np.exp(h)),
        "gamma and beta are not used": normalisation.silu((h - beta) / gamma),
        "SiLU comes last, after scale and shift": normalisation.silu((h - beta) / gamma) * gamma + beta,
    }
    trial.expect(got, normalisation.silu(h), "out", instead=instead)
