"""The floating-point operations of a training step: matrix products and convolutions by the direct method.

A product of (m, k) and (k, n) is 2 m k n operations, forwards and for each gradient that is wanted.  What an algorithm
saves (Winograd needs 4 times fewer multiplications) is not subtracted: the count is of the task.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from generators.training import Trainer
from nn.ops import attention, conv, matmul
from nn.tensor import Function

Operations = tuple[int, tuple[int, ...]]  # of forward, and of the gradient with respect to each input


def _product(output, *inputs) -> Operations:
    """Of a @ w and linear(x, w, b): every output number is a sum over the last axis of the first input."""
    count = 2 * output.size * inputs[0].shape[-1]
    return count, (count, count)


def _convolution(output, x, w, *_) -> Operations:
    count = 2 * output.size * math.prod(w.shape[:3])
    return count, (count, count)


def _transposed(output, x, w, *_) -> Operations:
    count = 2 * x.size * math.prod(w.shape[:2]) * w.shape[3]
    return count, (count, count)


def _attention(output, q, k, v) -> Operations:
    """Q K^T and P V; the gradients of both factors of both (that of P on the way to that of Q)."""
    scores, mixing = 2 * q.size * k.shape[2], 2 * output.size * k.shape[2]
    return scores + mixing, (scores + mixing, scores, mixing)


COUNTS = {
    matmul.MatMul: _product,
    matmul.Linear: _product,
    conv.Conv2d: _convolution,
    conv.Conv2dOnto: _convolution,
    conv.ConvTranspose2d: _transposed,
    attention.ScaledDotProductAttention: _attention,
}


def count_step(trainer: Trainer) -> int:
    """The operations of the trainer's next step, which it makes."""
    with counted() as total:
        trainer.step()
    return total[0]


@contextmanager
def counted() -> Iterator[list[int]]:
    """Inside this block (on one thread) the operations of every op, both ways, add up in the only entry of the list."""
    total = [0]

    def counting(forward, backward, count):
        def new_forward(ctx, *inputs, **options):
            output = forward(ctx, *inputs, **options)
            operations, ctx.operations = count(output, *inputs)
            total[0] += operations
            return output

        def new_backward(ctx, *grads):
            total[0] += sum(n for n, need in zip(ctx.operations, ctx.needs, strict=False) if need)
            return backward(ctx, *grads)

        return staticmethod(new_forward), staticmethod(new_backward)

    kept: list[tuple[type[Function], object, object]] = [
        (kind, vars(kind)["forward"], vars(kind)["backward"]) for kind in COUNTS
    ]
    try:
        for kind, count in COUNTS.items():
            kind.forward, kind.backward = counting(kind.forward, kind.backward, count)
        yield total
    finally:
        for kind, forward, backward in kept:
            kind.forward, kind.backward = forward, backward
