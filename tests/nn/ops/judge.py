"""The verdict on one op at given inputs: forward against an oracle, backward against differences of the forward."""
from __future__ import annotations

import numpy as np

from tests.nn.ops.run import backward, forward
from tests.oracles.numeric import assert_close, vjp


def judge(function, arrays, expected, seed=0, **options) -> None:
    """Fail unless function(*arrays) is `expected` and its gradients, for a random cotangent, are the derivative.

    expected: the array, or tuple of arrays, that an oracle computed
    """
    outputs = forward(function, arrays, **options)
    for y, truth in zip(outputs, expected if isinstance(expected, tuple) else (expected,), strict=True):
        assert_close(y, truth, 1e-12, "the result", floor=1e-9)
    cotangents = [np.random.default_rng(seed).standard_normal(y.shape) for y in outputs]
    gradients = vjp(lambda *inputs: forward(function, inputs, **options), arrays, cotangents)
    for i, (ours, truth) in enumerate(zip(backward(function, arrays, cotangents, **options), gradients, strict=True)):
        if truth is not None:
            assert_close(ours, truth, 1e-6, f"the gradient of input {i}", floor=1e-4)
