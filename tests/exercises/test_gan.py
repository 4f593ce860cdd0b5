"""Judges the exercises on the GAN: its networks are replaced by one-liners, so that every number is known."""

import numpy as np
import pytest

from datasets.captions import HANDWRITING
from generators.parts import critic
from nn import functional as F
from nn.tensor import Parameter, Tensor
from tests.exercises.chance import expect_from_rng, expect_normals
from tests.exercises.trial import Trial, normal
from tests.oracles.elementary import each, softplus


@pytest.mark.exercise(id="discriminator-loss")
@pytest.mark.parametrize("size", [1.0, 2000.0], ids=["ordinary", "extreme"])
def test_relativistic_discriminator_loss(size):
    real, fake = normal((5,), 0) * size, normal((5,), 1) * size
    trial = Trial(
        "relativistic_discriminator_loss(real, fake)",
        *(["at extreme values"] if size > 1 else []),
        real=real,
        fake=fake,
    )
    instead = {
        "real and fake are exchanged: this is what the generator wants": each(softplus, real - fake),
        "real and fake are judged apart; here they are compared": each(softplus, -real) + each(softplus, fake),
        "softplus is missing": fake - real,
    }
    got = trial.run(critic.relativistic_discriminator_loss, Tensor(real), Tensor(fake))
    trial.expect(got, each(softplus, fake - real), "the loss", instead=instead)


def leaves(tensor):
    """The ids of all leaves that a tensor was computed from and that get a gradient."""
    found, todo, seen = set(), [tensor], set()
    while todo:
        current = todo.pop()
        if current.node is None:
            if current.requires_grad:
                found.add(id(current))
        elif id(current.node) not in seen:
            seen.add(id(current.node))
            todo.extend(t for t in current.node.inputs if isinstance(t, Tensor) and t.requires_grad)
    return found


def check_that_both_are_taught(function):
    real, fake = Parameter(normal((5,), 0)), Parameter(normal((5,), 1))
    trial = Trial(f"{function.__name__}(real, fake), where both want a gradient", real=real.data, fake=fake.data)
    loss = trial.run(function, real, fake)
    trial.require(isinstance(loss, Tensor), "a tensor is wanted, so that a gradient can flow")
    for name, scores in (("real", real), ("fake", fake)):
        reached = id(scores) in leaves(loss)
        trial.require(reached, f"no gradient flows back to {name}", "work with tensors, not with .data")


@pytest.mark.exercise(id="discriminator-loss")
def test_relativistic_discriminator_loss_can_be_trained():
    check_that_both_are_taught(critic.relativistic_discriminator_loss)


@pytest.mark.exercise(id="generator-loss")
def test_relativistic_generator_loss_can_be_trained():
    check_that_both_are_taught(critic.relativistic_generator_loss)


@pytest.mark.exercise(id="generator-loss")
@pytest.mark.parametrize("size", [1.0, 2000.0], ids=["ordinary", "extreme"])
def test_relativistic_generator_loss(size):
    real, fake = normal((5,), 0) * size, normal((5,), 1) * size
    trial = Trial(
        "relativistic_generator_loss(real, fake)", *(["at extreme values"] if size > 1 else []), real=real, fake=fake
    )
    instead = {
        "real and fake are exchanged: this is what the discriminator wants": each(softplus, fake - real),
        "this does not look at the real one; here they are compared": each(softplus, -fake),
        "minus the discriminator's loss: its gradient fades just when the generator loses": -each(
            softplus, fake - real
        ),
    }
    got = trial.run(critic.relativistic_generator_loss, Tensor(real), Tensor(fake))
    trial.expect(got, each(softplus, real - fake), "the loss", instead=instead)


class TinyDiscriminator:
    """D(x, c) = <w, x>^2 / 4 + c <v, x>: a discriminator whose every number is known, and that keeps what it saw."""

    def __init__(self, dtype=np.float32):
        self.w, self.v = Parameter(normal((4, 1), 0, dtype)), Parameter(normal((4, 1), 1, dtype))
        self.seen = []

    def look(self, images):
        self.seen.append(np.array(getattr(images, "data", images)))
        return F.reshape(images, (-1, 4))

    def score(self, features, tokens):
        match = F.reshape(F.matmul(features, self.v), (-1,)) * np.float32(tokens)[:, 0]
        return F.reshape(F.matmul(features, self.w), (-1,)) ** 2 * 0.25 + match

    def score_of(self, images, tokens):
        flat = images.reshape(-1, 4)
        return (flat @ self.w.data)[:, 0] ** 2 / 4 + (flat @ self.v.data)[:, 0] * tokens[:, 0]

    def directions(self, trial, real, fake, step):
        """The noise by which each picture was moved, (2 N, H, W, C), the real ones first."""
        trial.require(bool(self.seen), "the critic was not asked", "critic.score(critic.look(Tensor(images)), tokens)")
        seen, pictures = np.concatenate(self.seen), np.concatenate([real, fake])
        trial.require(seen.dtype == np.float32, f"the critic looks at {seen.dtype}", "np.float32(step) * float32 noise")
        apart = [((picture - pictures) ** 2).sum(axis=(1, 2, 3)) for picture in seen]
        furthest = max(d.min() for d in apart) ** 0.5
        told = f"the critic looks at pictures {furthest:.2f} away from those that it was given; step is {step}"
        trial.require(furthest < 20 * step, told, "moved by step * noise, not by the noise itself")
        moved = [(int(d.argmin()), picture) for d, picture in zip(apart, seen, strict=True) if d.min() > 0]
        found, absent = np.full(pictures.shape, np.nan), {True: "real (R1)", False: "fake (R2)"}
        for index, picture in moved:
            found[index] = (picture.astype(float) - pictures[index]) / step
        for index in range(len(pictures)):
            what = absent[index < len(real)]
            told = f"the critic looked at no picture beside one of the {what.split()[0]} ones"
            trial.require(np.isfinite(found[index]).all(), told, f"the penalty is for {what} pictures, too")
        return found


def pictures(count=3):
    """Real and painted ones, so many of each, none of them near another."""
    return [np.tanh(normal((count, 2, 2, 1), seed, np.float32)) for seed in (2, 5)]


STEP, GAMMA, LIES = 0.01, 0.05, 0.4


@pytest.mark.exercise(id="discriminator-step")
@pytest.mark.parametrize("lies", [False, True], ids=["no_lies", "lies"])
def test_critic_loss(lies):
    (real, fake), tiny, s = pictures(), TinyDiscriminator(), STEP
    tokens, false = np.array([[1], [2], [3]]), np.array([[2], [3], [1]])
    call = f"critic_loss(critic, real, fake, tokens, false_tokens, rng, gamma={GAMMA}, step={s}, lies={LIES})"
    trial = Trial(call, *(["with captions that lie"] if lies else []), real=real, fake=fake, tokens=tokens)
    rng = np.random.default_rng(0)
    got = trial.run(critic.critic_loss, tiny, real, fake, tokens, false if lies else None, rng, GAMMA, s, LIES)
    loss = trial.expect_loss_and_metrics(got)
    exact = TinyDiscriminator(np.float64)
    on_real, on_fake = exact.score_of(real, tokens), exact.score_of(fake, tokens)
    contest = each(softplus, on_fake - on_real)
    lie = LIES * each(softplus, exact.score_of(real, false) - on_real) if lies else 0 * contest
    lie_on_fake = LIES * each(softplus, exact.score_of(fake, false) - on_real) if lies else 0 * contest
    near = {"rtol": 2e-3, "atol": 1e-3}  # of differences over a step of 1/100, in float32
    missing = np.allclose(float(getattr(loss, "data", loss)), (contest + lie).sum(), **near)
    none_moved = missing and sum(map(len, tiny.seen)) < 12
    trial.require(not none_moved, "the penalty is missing", "it compares with pictures that are moved")
    directions = tiny.directions(trial, real, fake, s)

    def penalty_of(x, d):
        return ((exact.score_of(x + s * d, tokens) - exact.score_of(x, tokens)) / s) ** 2

    moved = np.concatenate([real, fake]) + s * directions
    slope = (exact.score_of(moved, np.tile(tokens, (2, 1))) - np.concatenate([on_real, on_fake])) / s
    r1, r2 = penalty_of(real, directions[:3]), penalty_of(fake, directions[3:])
    penalty = GAMMA / 2 * (r1 + r2)
    right = (contest + lie + penalty).sum()
    small = missing and penalty.sum() > 0.05 * right
    trial.require(not small, "the penalty is next to nothing", "divide by step squared")
    instead = {
        "the sum over the pairs is wanted, not the mean": right / 3,
        "real and fake are exchanged": (each(softplus, on_real - on_fake) + lie + penalty).sum(),
        "the contest with false captions is not weighed by `lies`": (contest + lie / LIES + penalty).sum(),
        "captions that lie are not shown": (contest + penalty).sum(),
        "a lie is about a real picture, not about a painted one": (contest + lie_on_fake + penalty).sum(),
        "the penalty is for fake pictures too (R2)": (contest + lie + GAMMA / 2 * r1).sum(),
        "the penalty is for real pictures too (R1)": (contest + lie + GAMMA / 2 * r2).sum(),
        "half of gamma, not gamma": (contest + lie + 2 * penalty).sum(),
        "the sum of the penalties, not their mean": (contest + lie).sum() + penalty.sum() / 6,
        "`lies` weighs the second contest alone": (LIES * contest + lie + penalty).sum(),
        "in the second contest the false caption is compared with the true one, both of the real picture":
            (contest + LIES * each(softplus, exact.score_of(real, false) - on_fake) + penalty).sum(),
        "in the second contest the true caption should win":
            (contest + LIES * each(softplus, on_real - exact.score_of(real, false)) + penalty).sum(),
        "the slopes are to be squared": (contest + lie).sum() + GAMMA / 2 * slope.sum(),
        "the first pair only": (contest + lie + penalty)[0],
    }
    instead = {cause: value for cause, value in instead.items() if abs(value - right) > 0.01 * abs(right) + 0.01}
    trial.expect(loss, right, "the loss", **near, instead=instead)

    def again(gamma):
        contest = each(softplus, exact.score_of(fake, tokens) - exact.score_of(real, tokens))
        lie = LIES * each(softplus, exact.score_of(real, false) - exact.score_of(real, tokens)) if lies else 0
        slopes = penalty_of(real, directions[:3]) + penalty_of(fake, directions[3:])
        return (contest + lie + gamma / 2 * slopes).sum()

    trial.require(getattr(loss, "requires_grad", False), "no gradient reaches the critic", "work with tensors")
    loss.backward()
    for name in ("w", "v"):
        weight, slopes = getattr(exact, name).data, np.empty((2, 4, 1))  # with the penalty and without
        for i in range(4):
            was = weight[i, 0]
            ends = []
            for weight[i, 0] in (was - 1e-5, was + 1e-5):
                ends.append([again(GAMMA), again(0.0)])
            weight[i, 0], slopes[:, i, 0] = was, (np.array(ends[1]) - ends[0]) / 2e-5
        about, got = f"the gradient of the critic's {name}", getattr(tiny, name).grad
        cut = got is not None and np.allclose(got, slopes[1], **near) and not np.allclose(got, slopes[0], **near)
        trial.require(not cut, f"{about} comes through the contest alone", "the penalty is to teach it, too: no .data")
        trial.expect(got, slopes[0], about, rtol=5e-3, atol=5e-3)


@pytest.mark.exercise(id="discriminator-step")
def test_critic_loss_moves_each_picture_its_own_way():
    real, fake = pictures(200)
    tokens = np.ones((200, 1), int)
    trial = Trial("critic_loss(critic, real, fake, tokens, None, rng, gamma, step), 200 pairs")

    def draw(rng, count=200):
        tiny = TinyDiscriminator()
        pair = real[:count], fake[:count]
        trial.call_it(critic.critic_loss, (tiny, *pair, tokens[:count], None, rng, GAMMA, STEP), {})
        return tiny.directions(trial, *pair, STEP)

    found = draw(np.random.default_rng(0)).round(4)
    for what, of in (("real", found[:200]), ("fake", found[200:])):
        expect_normals(trial, of, f"the direction in which a {what} picture is moved")
    expect_from_rng(trial, lambda rng: draw(rng, 3))


THING = {"digit": "seven", "variant": "with a bar", "stroke": "bold", "slant": "right", "size": "small"}


@pytest.mark.exercise(id="contradicting-captions")
@pytest.mark.parametrize(
    "text, expected, tags",
    [
        ("", False, ["for the empty caption"]),
        ("seven", False, []),
        ("three", True, []),
        ("a bold seven with a bar, slanting right, small", False, []),
        ("a bold seven with a bar, slanting left, small", True, ["where one thing of many is false"]),
        ("a thin digit", True, []),
        ("small, slanting right", False, ["where the caption says only some things"]),
        ("large", True, []),
        ("A Bold SEVEN", False, ["with capitals"]),
        ("a digit", False, ["where the caption says nothing"]),
        ("a seven without a bar", True, ["where one thing of many is false", "where the variant alone is false"]),
        (
            "a bold seven without a bar, slanting right, small",
            True,
            ["where one thing of many is false", "where the variant alone is false"],
        ),
        ("seven with a bar", False, []),
        ("thin", True, ["where one word is all that is said"]),
        ("slanting left", True, ["where one word is all that is said"]),
    ],
)
def test_contradicts(text, expected, tags):
    thing = dict(THING)
    thing["variant"] = next(v for v in HANDWRITING.attributes["variant"] if "bar" in v and "out" not in v)
    trial = Trial(f"HANDWRITING.contradicts({text!r}, attributes)", *tags, attributes=thing)
    got = trial.run(HANDWRITING.contradicts, text, thing)
    reversed_ = got is not None and HANDWRITING.contradicts("", thing) and not HANDWRITING.contradicts("three", thing)
    cause = "the answer is the wrong way round: True means that it contradicts" if reversed_ else ""
    trial.require(got is not None and got == expected, f"the answer is {got!r}; {expected} is right", cause)
