"""The flow with a critic: what it is shown, how the two losses are weighed, and that without it nothing changes."""
from dataclasses import replace

import numpy as np
import pytest

from generators.families.flow.flowgan import Balance, FlowGAN
from generators.families.flow.realnvp import RealNVP, quantise
from generators.family import OptimiserConfig, Shard
from generators.parts.critic import critic_loss
from generators.training import Trainer, plain_steps
from nn.optim import AdamW
from nn.parallel import FlatParameters, Threads
from nn.tensor import Tensor
from tests.generators.families.test_gan import moved, weights
from tests.generators.toys import build, pool, toy_data

SMALL = {"steps": (1, 1), "widths": (8, 8), "depth": 1, "features": 8, "batch_size": 12, "shard_size": 6, "sketches": 2,
         "image_size": 8}
JUDGED = SMALL | {"critic_width": 8}
DATA = toy_data(64)
DATA = replace(DATA, images=DATA.images[:, 2:26:3, 2:26:3])  # every third pixel: 8x8


def shard(model, count=6, batch_size=6):
    indices = np.arange(count)
    captions, encode = DATA.captions(indices), model.vocabulary.encode
    lies = DATA.contradicting(indices, captions, np.random.default_rng(0))
    images = DATA.images[indices] / np.float32(255)
    return Shard(images, encode(captions), encode(lies), DATA.labels[indices], indices, batch_size)


def shaken(**settings):
    """A small model with no weight where it began, so that no coupling is the identity."""
    model = build(FlowGAN, DATA, **(JUDGED | settings))
    for p in model.parameters():
        p.data += 0.05 * np.random.default_rng(p.size).standard_normal(p.shape).astype(np.float32)
    return model


@pytest.mark.parametrize("settings", [{"critic_weight": 0.0}, {"begins": 0.5}], ids=["weight 0", "before it begins"])
def test_without_the_critic_it_is_the_plain_flow_bit_for_bit(settings):
    """Catches: a draw, a condition, an optimiser or a sum that is another; a critic that comes in early, or never."""
    plain = Trainer(build(RealNVP, DATA, **SMALL), DATA, 3, 8, pool())
    judged = Trainer(build(FlowGAN, DATA, **JUDGED, **settings), DATA, 3, 8, pool())
    for step in range(5):
        before, metrics = plain.step(), judged.step()
        same = [np.array_equal(a, judged.family.state()[name]) for name, a in plain.family.state().items()]
        assert all(same) == (step < 4 or "critic_weight" in settings)
        if step < 4:
            assert metrics["bits_per_dimension"] == before["bits_per_dimension"]


def test_the_plain_loop_has_phases_that_begin_later_too():
    """Catches: a phase that is not there at step 0 and so has no optimiser, one that begins a step early or late."""
    plain, fast = (build(FlowGAN, DATA, **JUDGED, begins=0.5) for _ in range(2))
    losses = list(plain_steps(plain, DATA, 3, 4))
    quick = Trainer(fast, DATA, 3, 4, pool())
    metrics = [quick.step() for _ in range(4)]
    assert [sorted(names) for names in losses] == [["flow"]] * 2 + [["discriminator", "flow"]] * 2
    assert [list(one.values())[-1] for one in losses] == pytest.approx([one["flow_loss"] for one in metrics], rel=1e-6)
    for (name, a), b in zip(plain.state().items(), fast.state().values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize(
    ("settings", "count"), [({"begins": 0.95}, 2), ({"begins": 1.0}, 2), ({"critic_weight": 0.0}, 1)]
)
def test_a_critic_that_has_not_come_in_by_the_end_may_in_a_longer_run(settings, count):
    """Catches: a run that ends before the critic comes in, is lengthened, and has no optimiser for it."""
    assert len(Trainer(build(FlowGAN, DATA, **JUDGED, **settings), DATA, 0, 4, pool()).phase_states) == count


def test_the_second_gradient_is_made_as_long_as_the_first_times_the_weight():
    """Catches: the two exchanged, a length squared, a direction that changes, a division by nothing."""
    a, b = (Tensor(np.random.default_rng(i).standard_normal((3, 4)), requires_grad=True) for i in range(2))
    da, db = (np.random.default_rng(i).standard_normal((3, 4)) for i in (2, 3))
    first, second = Balance.apply(a, b, weight=0.3)
    assert np.array_equal(first.data, a.data) and np.array_equal(second.data, b.data)
    ((first * da).sum() + (second * 100 * db).sum()).backward()
    np.testing.assert_allclose(a.grad, da)
    np.testing.assert_allclose(b.grad, 0.3 * db * np.linalg.norm(da) / np.linalg.norm(db))
    first, second = Balance.apply(a, b, weight=0.3)
    b.grad = None
    ((first * da).sum() + (second * 0.0).sum()).backward()
    np.testing.assert_array_equal(b.grad, 0)


def test_the_gradient_is_the_likelihoods_and_the_critics_in_proportion():
    """Of the loss with the critic at several weights: a line, which begins at the likelihood's own gradient.  Catches:
    a critic that reaches the flow past the balance, that moves the dequantiser, or that does not reach a channel
    matrix; another condition or noise than the likelihood has alone."""
    model = shaken()
    part = shard(model, batch_size=24)

    def gradient(loss):
        value, metrics = loss(part, np.random.default_rng(5))
        value.backward()
        found = {name: 0 * p.data if p.grad is None else p.grad for name, p in model.named_parameters()}
        for p in model.parameters():
            p.grad = None
        return found, metrics

    def at(weight):
        model.config = replace(model.config, critic_weight=weight)
        return gradient(model.loss_with_critic)[0]

    (alone, plain), (_, metrics) = gradient(model.loss), gradient(model.loss_with_critic)
    none, one, two = at(0.0), at(1.0), at(2.0)
    flow = [name for name in alone if name.startswith(("flow.", "text.", "sketches."))]
    for name in alone:
        if not name.startswith("discriminator"):
            largest = np.abs(two[name]).max() + 1e-6
            np.testing.assert_allclose(none[name], alone[name], atol=2e-4 * largest, err_msg=name)
            np.testing.assert_allclose(two[name] - none[name], 2 * (one[name] - none[name]), atol=2e-3 * largest)
            assert (np.abs(one[name] - none[name]).max() > 1e-5 * largest) == (name in flow), name
    assert metrics["bits_per_dimension"] == pytest.approx(plain["bits_per_dimension"], rel=1e-5)
    assert metrics["unconvinced"] > 0


def test_the_critic_sees_what_is_sampled_before_it_is_rounded():
    """At temperature 1, unguided.  Catches: another temperature, another scale, rounding on the way back."""
    model, captions = shaken(), DATA.captions(np.arange(6))
    part = shard(model)
    painted = model.painted(part, np.random.default_rng(3)).data / 2 + 0.5
    sampled = model.sample(captions, np.random.default_rng(3), Threads(1), temperature=1.0, guidance=1.0)
    assert np.mean(quantise(painted) != sampled) < 0.01 and np.abs(quantise(painted) - sampled).max() < 0.01
    assert np.mean(np.abs(painted * 256 - np.rint(painted * 256)) < 1e-3) < 0.1


def test_real_pictures_are_shown_dequantised():
    """Each number within the interval of its value, drawn anew each time, by the dequantiser that the flow learns
    with.  Catches: real pictures on their levels, uniform noise for learned."""
    model = shaken()
    part = shard(model)
    first, again = (model.real(part, np.random.default_rng(i)) / 2 + 0.5 for i in range(2))
    np.testing.assert_array_equal(quantise(first), part.images)
    assert (first != again).mean() > 0.9
    model.dequantiser.network.leave.bias.data[4:] += 3  # the shift
    fine = lambda x: (x * 256 - np.rint(part.images * 255)).mean()  # noqa: E731
    assert fine(model.real(part, np.random.default_rng(0)) / 2 + 0.5) > fine(first) + 0.1


@pytest.mark.parametrize("shown", ["as they are", "dequantised"])
def test_a_critic_has_nothing_to_see_in_the_noise(shown):
    """Real pictures that are dequantised against the same ones rounded and dequantised again: it stays at chance, while
    it soon knows pictures that are shown as they are.  Catches: noise that is another for the two."""
    model = build(FlowGAN, DATA, **JUDGED)
    critic, rng = model.discriminator, np.random.default_rng(0)
    flat = FlatParameters(critic.parameters())
    adam, wins = AdamW(flat.values, betas=(0.0, 0.99)), []
    for _ in range(120):
        part = shard(model, 32)
        again = replace(part, images=quantise(model.real(part, rng) / 2 + 0.5))
        first = model.real(part, rng) if shown == "dequantised" else part.images * 2 - 1
        loss, sums = critic_loss(critic, first, model.real(again, rng), part.tokens, None, rng, 0.0, 0.05)
        loss.backward()
        gradients = np.zeros_like(flat.values)
        for view, p in zip(flat.views(gradients), flat.parameters, strict=True):
            view[...] = p.grad
            p.grad = None
        adam.step(gradients, 2e-3)
        wins.append(sums["real_wins"] / 32)
    late = np.mean(wins[-30:])
    assert abs(late - 0.5) < 0.06 if shown == "dequantised" else late > 0.9


class OnePhase(FlowGAN):
    only = 0

    def phases(self, step):
        return super().phases(step)[self.only : self.only + 1]


@pytest.mark.parametrize("only", [0, 1])
def test_each_phase_moves_its_own_networks(only):
    """Catches: a critic that moves the flow, a flow that softens its critic, a network that nobody trains."""
    model = build(OnePhase, DATA, **JUDGED, begins=0.0)
    model.only = only
    trainer = Trainer(model, DATA, 0, 10, pool())
    modules = (model.discriminator, model.flow, model.text, model.sketches, model.dequantiser)
    trainer.step()
    before = [weights(module) for module in modules]
    for _ in range(3):
        trainer.step()
    for module, old in zip(modules, before, strict=True):
        assert set(moved(old, module)) == {(module is model.discriminator) == (only == 0)}


def test_images_still_come_back_exactly():
    """Catches: a critic that bends the flow until its inverse is none in float32."""
    model = build(FlowGAN, DATA, **JUDGED, begins=0.2, critic_weight=3.0,
                  optimiser=OptimiserConfig(rate=3e-2, warmup_steps=5))  # fmt: skip
    trainer = Trainer(model, DATA, 0, 20, pool())
    for _ in range(20):
        trainer.step()
    images, captions = DATA.images[:16] / np.float32(255), DATA.captions(np.arange(16))
    np.testing.assert_array_equal(model.reconstruct(images, captions, Threads(1)), images)
