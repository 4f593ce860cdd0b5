"""Bijectors are judged by what defines them: the inverse undoes, and log_det is that of the numerical Jacobian.

Always with random parameters: at initialisation couplings are identities, which would hide any mistake.
"""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.families.flow import bijectors as B
from generators.parts.patches import squeeze
from nn import functional as F
from nn.modules import Linear, Module
from nn.tensor import Tensor
from tests.nn.gradcheck import gradcheck

FEATURES = 3


class Pointwise(Module):
    """A small network for couplings: every pixel by itself, and the caption."""

    def __init__(self, inputs, outputs, rng):
        self.enter, self.caption = Linear(inputs, 8, rng), Linear(FEATURES, 8, rng)
        self.leave = Linear(8, outputs, rng)

    def __call__(self, x, condition):
        return self.leave(F.tanh(self.enter(x) + self.caption(condition).reshape(len(x), 1, 1, 8)))


def factored(h, w, c, rng):
    """A composition with a part that leaves early, as in the real flow."""
    inner = (h // 2, w // 2, 2 * c)
    return B.Composition(
        B.ChannelMix(c, rng),
        B.Coupling(Pointwise(c // 2, c, rng), swap=True),
        B.FactorOut(
            B.Composition(
                B.Squeeze(), B.ActNorm(2 * c), B.Coupling(Pointwise(c, 2 * c, rng)), B.Flatten(inner),
                B.CaptionAffine(Linear(FEATURES, 2 * inner[0] * inner[1] * inner[2], rng)),
            ),
            (h, w, c),
        ),
    )  # fmt: skip


MAKERS = {
    "ActNorm": lambda h, w, c, rng: B.ActNorm(c),
    "ChannelMix": lambda h, w, c, rng: B.ChannelMix(c, rng),
    "Checkerboard": lambda h, w, c, rng: B.Checkerboard(),
    "Coupling": lambda h, w, c, rng: B.Coupling(Pointwise(c // 2, c, rng)),
    "Coupling swapped": lambda h, w, c, rng: B.Coupling(Pointwise(c // 2, c, rng), swap=True),
    "Flatten": lambda h, w, c, rng: B.Flatten((h, w, c)),
    "Logit": lambda h, w, c, rng: B.Logit(0.05),
    "Squeeze": lambda h, w, c, rng: B.Squeeze(),
    "CaptionAffine": lambda h, w, c, rng: B.Composition(
        B.Flatten((h, w, c)), B.CaptionAffine(Linear(FEATURES, 2 * h * w * c, rng))
    ),
    "FactorOut": factored,
}
every_bijector = pytest.mark.parametrize("name", MAKERS)
shapes = st.tuples(st.sampled_from([2, 4]), st.sampled_from([2, 6]), st.just(4))
seeds = st.integers(0, 10**6)


def randomise(module, rng, size=0.3):
    """The module in float64 with every parameter moved away from where it was initialised."""
    module.astype(np.float64)
    for parameter in module.parameters():
        parameter.data += size * rng.standard_normal(parameter.shape)
    return module


def random_case(name, shape, seed, batch=3):
    rng = np.random.default_rng(seed)
    bijector = randomise(MAKERS[name](*shape, rng), rng)
    x = Tensor(rng.uniform(0.02, 0.98, (batch, *shape)))
    return bijector, x, Tensor(rng.standard_normal((batch, FEATURES)))


def numerical_log_det(bijector, x, condition, step=1e-5):
    """log |det dz/dx| of one example x (...), by central differences: all 2 D shifted copies as one batch."""
    size = x.size
    shifts = step * np.concatenate([np.eye(size), -np.eye(size)]).reshape(2 * size, *x.shape)
    conditions = Tensor(np.repeat(condition[None], 2 * size, axis=0))
    z = bijector.forward(Tensor(x + shifts), conditions)[0].data.reshape(2 * size, size)
    return np.linalg.slogdet((z[:size] - z[size:]) / (2 * step))[1]


def check_log_det(bijector, x, condition):
    log_det = bijector.forward(x, condition)[1]
    assert log_det.shape == (len(x),)
    expected = [numerical_log_det(bijector, row, said) for row, said in zip(x.data, condition.data, strict=True)]
    np.testing.assert_allclose(log_det.data, expected, rtol=1e-6, atol=1e-6)


@every_bijector
@given(shape=shapes, seed=seeds)
def test_inverse_undoes_forward_and_forward_undoes_inverse(name, shape, seed):
    bijector, x, condition = random_case(name, shape, seed)
    z, _ = bijector.forward(x, condition)
    assert isinstance(z, Tensor) and z.size == x.size
    np.testing.assert_allclose(bijector.inverse(z, condition).data, x.data, rtol=0, atol=1e-9)
    z = Tensor(np.random.default_rng(seed + 1).standard_normal(z.shape))
    np.testing.assert_allclose(bijector.forward(bijector.inverse(z, condition), condition)[0].data, z.data, atol=1e-9)


@every_bijector
@given(shape=st.tuples(st.just(2), st.sampled_from([2, 4]), st.just(4)), seed=seeds)
def test_log_det_is_that_of_the_numerical_jacobian(name, shape, seed):
    check_log_det(*random_case(name, shape, seed, batch=2))


@every_bijector
def test_the_way_back_is_differentiable(name):
    """In the noise, the condition and every parameter, against finite differences.  Catches: an inverse by arrays
    through which no gradient comes back, such as NumPy's of ChannelMix's matrix; that gradient untransposed."""
    bijector, x, condition = random_case(name, (2, 2, 4), seed=2)
    z, rng = bijector.forward(x, condition)[0].data, np.random.default_rng(2)
    told = (condition.data,) if name in ("Coupling", "Coupling swapped", "CaptionAffine", "FactorOut") else ()
    back = lambda z, *more: bijector.inverse(z, more[0] if told else condition)  # noqa: E731
    gradcheck(back, (z, *told, *bijector.parameters()), rng)


@pytest.mark.parametrize("name", ["ActNorm", "ChannelMix", "Coupling", "Logit", "CaptionAffine", "FactorOut"])
def test_the_check_itself_catches_a_wrong_sign(name):
    bijector, x, condition = random_case(name, (2, 2, 4), seed=1)
    forward = bijector.forward
    bijector.forward = lambda x, condition: (lambda z, log_det: (z, -log_det))(*forward(x, condition))
    with pytest.raises(AssertionError):
        check_log_det(bijector, x, condition)


@given(seed=seeds)
def test_log_det_of_a_composition_is_the_sum(seed):
    rng = np.random.default_rng(seed)
    first, second = (randomise(MAKERS[name](2, 2, 4, rng), rng) for name in ("ActNorm", "Coupling"))
    x, condition = Tensor(rng.standard_normal((3, 2, 2, 4))), Tensor(rng.standard_normal((3, FEATURES)))
    y, log_det_1 = first.forward(x, condition)
    _, log_det_2 = second.forward(y, condition)
    np.testing.assert_allclose(
        B.Composition(first, second).forward(x, condition)[1].data, log_det_1.data + log_det_2.data, rtol=1e-12
    )


def test_halves_after_checkerboard_are_the_two_colours():
    rows, columns = np.indices((4, 6))
    colour = ((rows + columns) % 2)[None, :, :, None].astype(float)
    halves = B.Checkerboard().forward(squeeze(Tensor(colour)), None)[0].data
    assert halves.shape == (1, 2, 3, 4)
    assert (halves[..., :2] == 0).all() and (halves[..., 2:] == 1).all()


@pytest.mark.parametrize("swap", [False, True])
def test_coupling_leaves_one_half_alone_and_changes_the_other(swap):
    rng = np.random.default_rng(0)
    coupling = randomise(B.Coupling(Pointwise(2, 4, rng), swap), rng)
    x = Tensor(rng.standard_normal((2, 3, 3, 4)))
    z = coupling.forward(x, Tensor(np.ones((2, FEATURES))))[0].data
    kept, changed = (slice(2, 4), slice(0, 2)) if swap else (slice(0, 2), slice(2, 4))
    assert (z[..., kept] == x.data[..., kept]).all()
    assert (z[..., changed] != x.data[..., changed]).all()


def test_coupling_formula():
    b, s, t = (np.random.default_rng(i).standard_normal((2, 3, 3, 2)) for i in range(3))
    z, log_det = B.couple(Tensor(b), Tensor(s), Tensor(t))
    np.testing.assert_allclose(z.data, b * np.exp(s) + t, rtol=1e-12)
    np.testing.assert_allclose(log_det.data, s.sum(axis=(1, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(B.uncouple(z, Tensor(s), Tensor(t)).data, b, rtol=1e-9, atol=1e-12)


LOUD = {  # shapes of what goes in and of the network's answer, and the bijector with a network that answers so
    "Coupling": ((2, 2, 4), (2, 2, 4), lambda answer: B.Coupling(lambda a, condition: answer * condition)),
    "CaptionAffine": ((8,), (16,), lambda answer: B.CaptionAffine(lambda condition: answer * condition)),
}


@pytest.mark.parametrize("condition", [1.0, B.Guided(1.0, -1.0, 2.0)], ids=["plain", "guided"])
@pytest.mark.parametrize("name", LOUD)
@given(seed=seeds)
def test_a_scale_is_bounded_whatever_the_network_says(name, condition, seed):
    """Catches an answer that is taken as it is: then neither the noise nor the image is a number; and one that is
    bounded before it is exaggerated."""
    inside, answered, make = LOUD[name]
    rng = np.random.default_rng(seed)
    x, answer = Tensor(rng.standard_normal((3, *inside))), 1e6 * rng.choice([-1.0, 1.0], (3, *answered))
    raw, _ = np.split(answer, 2, axis=-1)
    raw[:2] = np.abs(raw[:2])
    raw[1] *= -1  # all scales as large as can be, all as small, and a mixture
    bijector = make(Tensor(answer))
    z, log_det = bijector.forward(x, condition)
    assert np.abs(log_det.data).max() <= raw[0].size * B.MAX_LOG_SCALE * (1 + 1e-9)
    assert log_det.data[0] * log_det.data[1] < 0
    np.testing.assert_allclose(bijector.inverse(z, condition).data, x.data, rtol=0, atol=1e-6)


@given(shape=shapes, seed=seeds)
def test_actnorm_begins_with_mean_0_and_variance_1_per_channel(shape, seed):
    rng = np.random.default_rng(seed)
    actnorm = B.ActNorm(shape[-1]).astype(np.float64)
    x = Tensor(rng.standard_normal((32, *shape)) * rng.uniform(0.1, 9, shape[-1]) + rng.uniform(-5, 5, shape[-1]))
    z = actnorm.prepare(x, None)
    np.testing.assert_allclose(z.data, actnorm.forward(x, None)[0].data)
    np.testing.assert_allclose(z.data.mean(axis=(0, 1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(z.data.var(axis=(0, 1, 2)), 1, atol=1e-4)


def test_a_composition_prepares_each_link_on_what_reaches_it():
    rng = np.random.default_rng(0)
    first, second = B.ActNorm(4), B.ActNorm(4)
    chain = B.Composition(first, B.ChannelMix(4, rng), second).astype(np.float64)
    chain.links[1].weight.data += rng.standard_normal((4, 4))
    z = chain.prepare(Tensor(rng.standard_normal((64, 2, 2, 4)) * 7 + 3), None)
    np.testing.assert_allclose(z.data.var(axis=(0, 1, 2)), 1, atol=1e-4)
    assert np.abs(first.log_scale.data).min() > 0.5 and np.abs(second.log_scale.data).max() > 1e-2


@given(seed=seeds)
def test_gradient_of_log_abs_det(seed):
    rng = np.random.default_rng(seed)
    w = Tensor(rng.standard_normal((4, 4)), requires_grad=True)
    direction = rng.standard_normal((4, 4))
    B.LogAbsDet.apply(w).backward(np.asarray(1.7))
    up, down = (np.linalg.slogdet(w.data + s * direction)[1] for s in (1e-6, -1e-6))
    np.testing.assert_allclose((w.grad * direction).sum(), 1.7 * (up - down) / 2e-6, rtol=1e-5, atol=1e-5)


def test_density_on_two_pixels_integrates_to_one():
    """exp(log N(z) + log |det|) summed over a fine grid; the logit reaches a margin beyond 0 and 1 on either side."""
    rng = np.random.default_rng(3)
    margin = 0.05
    flow = B.Composition(
        B.Logit(margin), B.ActNorm(2), B.Coupling(Pointwise(1, 2, rng)), B.ChannelMix(2, rng),
        B.Coupling(Pointwise(1, 2, rng), swap=True), B.Flatten((1, 1, 2)), B.CaptionAffine(Linear(FEATURES, 4, rng)),
    )  # fmt: skip
    randomise(flow, rng)
    low, high, count = -margin / (1 - 2 * margin), 1 + margin / (1 - 2 * margin), 500
    ticks = low + (high - low) * (np.arange(count) + 0.5) / count
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 1, 1, 2)
    condition = np.repeat(rng.standard_normal((1, FEATURES)), len(points), axis=0)
    z, log_det = flow.forward(Tensor(points), Tensor(condition))
    log_p = -0.5 * (z.data**2).sum(axis=1) - np.log(2 * np.pi) + log_det.data
    assert abs(np.exp(log_p).sum() * ((high - low) / count) ** 2 - 1) < 1e-3
