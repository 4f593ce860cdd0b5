"""Judges the exercises on attention, against one query at a time and numerical differentiation."""

import numpy as np
import pytest

from nn.ops.attention import ScaledDotProductAttention
from tests.exercises.trial import Trial, context, normal
from tests.oracles.attention import attention
from tests.oracles.numeric import vjp

IGNORED = "the incoming gradient is ignored: this is what a gradient of ones would give"
sizes = pytest.mark.parametrize(
    "n, heads, queries, keys, d, dv",
    [(1, 1, 3, 3, 4, 4), (2, 3, 4, 4, 2, 2), (2, 2, 3, 5, 4, 1), (2, 3, 5, 2, 3, 4)],
    ids=str,
)


def made(n, heads, queries, keys, d, dv, size=1.0):
    """q, k and v, and what is special about their shapes."""
    q = normal((n, heads, queries, d), 0) * size
    k, v = normal((n, heads, keys, d), 1) * size, normal((n, heads, keys, dv), 2)
    tags = (["at extreme values"] if size > 1 else []) + (
        ["where keys and queries differ in number"] * (keys != queries)
    )
    return (q, k, v), tags


def saved_by(q, k, v):
    """What the library's forward leaves in ctx: E = exp(S - the largest of its row), the sums of its rows, and Y."""
    scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[3])
    e = np.exp(scores - scores.max(axis=3, keepdims=True))
    total = e.sum(axis=3, keepdims=True)
    return q, k, v, e, total, e @ v / total


@pytest.mark.exercise(id="attention")
@sizes
@pytest.mark.parametrize("size", [1.0, 60.0], ids=["ordinary", "extreme"])
def test_attention(n, heads, queries, keys, d, dv, size):
    (q, k, v), tags = made(n, heads, queries, keys, d, dv, size)
    assert np.allclose(saved_by(q, k, v)[5], attention(q, k, v))
    trial = Trial("ScaledDotProductAttention.forward(ctx, q, k, v)", *tags, q=q, k=k, v=v)
    ctx = context(ScaledDotProductAttention, (True, True, True))
    got = trial.run(ScaledDotProductAttention.forward, ctx, q, k, v)
    instead = {
        "the scores are not divided by sqrt(d)": attention(q * d**0.5, k, v),
        "divided by d, where sqrt(d) is right": attention(q * d**-0.5, k, v),
    }
    if queries == keys:
        instead["the softmax goes along the queries; each query shares itself out among the keys"] = transposed(q, k, v)
    trial.expect(got, attention(q, k, v), rtol=1e-6, instead=instead)
    _, _, _, e, total, y = trial.expect_saved(ctx, "q, k, v, e, total, y")
    for name, mine, right in zip("qkvy", (*ctx.saved[:3], y), (q, k, v, attention(q, k, v)), strict=True):
        trial.expect(mine, right, f"the {name} in ctx.saved", rtol=1e-6)
    weights = saved_by(q, k, v)
    trial.require(
        np.ndim(total) == 4 and np.shape(total)[3] == 1, "total in ctx.saved is not of shape (N, heads, Tq, 1)"
    )
    cause = "backward divides e by total: save what makes that right"
    right = np.allclose(e / total, weights[3] / weights[4], rtol=1e-6, atol=1e-9)
    trial.require(right, "in ctx.saved e / total is not the softmax", cause)


def transposed(q, k, v):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(axis=-2, keepdims=True))
    return weights / weights.sum(axis=-2, keepdims=True) @ v


@pytest.mark.exercise(id="attention-backward")
@sizes
def test_attention_backward(n, heads, queries, keys, d, dv):
    inputs, tags = made(n, heads, queries, keys, d, dv)
    ctx = context(ScaledDotProductAttention, (True, True, True))
    ctx.save(*saved_by(*inputs))
    _, _, v, e, total, y = ctx.saved
    grad = normal(y.shape, 3)
    call = "ScaledDotProductAttention.backward(ctx, grad)"
    trial = Trial(call, *tags, **dict(zip("qkv", inputs, strict=True)), grad=grad)
    got = trial.run(ScaledDotProductAttention.backward, ctx, grad)
    trial.require(isinstance(got, tuple) and len(got) == 3, "three gradients are wanted: those of q, k and v")

    def gradients(grad):
        return vjp(lambda q, k, v: (saved_by(q, k, v)[5],), inputs, [grad])

    p, right, ones = e / total, gradients(grad), gradients(np.ones_like(grad))
    dp, (q, k, _) = grad @ v.swapaxes(2, 3), inputs
    held = p * dp / np.sqrt(d)  # without what a score takes from the others of its row
    whole = e * (dp - (grad * y).sum(axis=3, keepdims=True)) / np.sqrt(d)  # with E in the place of P
    by_query = p * (dp - (p * dp).sum(axis=2, keepdims=True)) / np.sqrt(d)
    slope = p * (1 - p) * dp / np.sqrt(d)
    along = "the sum of P dP goes along the keys, axis 3: one for each query"
    sigmoid = "p (1 - p) is the sigmoid's slope; of softmax, each score also moves the others in its row"
    alone = "a score also lowers the weights of the others in its row: minus the row sum of P dP"
    undivided = "e is not yet the softmax: divide by total"
    instead = {
        "q": {undivided: whole @ k, alone: held @ k, along: by_query @ k, sigmoid: slope @ k},
        "k": {undivided: whole.swapaxes(2, 3) @ q, alone: held.swapaxes(2, 3) @ q},
        "v": {undivided: e.swapaxes(2, 3) @ grad},
    }
    if queries == keys:
        instead["v"]["the weights are transposed here: what key j gave to query i comes back to j"] = p @ grad
    for name, mine, one, of_ones in zip("qkv", got, right, ones, strict=True):
        causes = {IGNORED: of_ones, "the scale 1 / sqrt(d) is missing": one * np.sqrt(d)} if name != "v" else {}
        others = zip("qkv", right, strict=True)
        exchanged = {f"this is the gradient of {o}: exchanged": g for o, g in others if o != name}
        trial.expect(mine, one, f"the gradient of {name}", atol=1e-7, instead={**instead[name], **causes, **exchanged})


@pytest.mark.exercise(id="attention-backward")
@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_attention_backward_of_what_is_wanted(wanted):
    inputs, _ = made(2, 2, 3, 4, 2, 3)
    ctx = context(ScaledDotProductAttention, tuple(i == wanted for i in range(3)))
    ctx.save(*saved_by(*inputs))
    grad = normal(ctx.saved[5].shape, 3)
    tag = "where one gradient is wanted and the others are not"
    trial = Trial("ScaledDotProductAttention.backward(ctx, grad)", tag, grad=grad)
    got = trial.run(ScaledDotProductAttention.backward, ctx, grad)
    trial.require(isinstance(got, tuple) and len(got) == 3, "three are wanted, None for what nobody needs")
    right = vjp(lambda q, k, v: (saved_by(q, k, v)[5],), inputs, [grad])[wanted]
    trial.expect(got[wanted], right, f"the gradient of {'qkv'[wanted]}", atol=1e-7)
