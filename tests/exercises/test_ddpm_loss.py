"""Judges the exercise on diffusion's loss by what the network is shown, told and blamed for."""

import numpy as np
import pytest

from generators.families.diffusion import ddpm, process
from generators.family import Shard
from nn import functional as F
from nn.tensor import Tensor
from tests.exercises.chance import expect_each_by_chance, expect_from_rng, expect_normals
from tests.exercises.trial import Trial, bare, normal


class Watched:
    """A network that keeps what it was shown: w x + t / 100 + c / 10."""

    def __init__(self, learns):
        self.w, self.calls = Tensor(normal((1,), 3, np.float32), learns), []

    def __call__(self, x, t, caption):
        said = F.sum(caption, axis=1)
        self.calls.append((np.array(getattr(x, "data", x)), np.atleast_1d(np.asarray(t)), np.array(caption.data)))
        times = np.float32(0.01) * np.reshape(t, (-1, 1, 1, 1)).astype(np.float32)
        return x * self.w + F.reshape(said, (-1, 1, 1, 1)) * 0.1 + times

    def seen(self, trial, count):
        """(x_t, t, captions) of the images that it was asked about."""
        trial.require(bool(self.calls), "the network was not asked", "self.network(Tensor(x_t), t, self.text(tokens))")
        x_t, t, captions = (np.concatenate(several) for several in zip(*self.calls, strict=True))
        trial.require(len(x_t) == count, f"the network was asked about {len(x_t)} images; the shard has {count}")
        trial.require(t.shape == (count,), f"the network was told {t.shape} times; one for each image is wanted")
        return x_t, t, captions


def tiny_ddpm(learns="network", **settings):
    model = bare(ddpm.DDPM)
    model.config = ddpm.DDPMConfig(image_size=2, channels=1, vocabulary=("a",), **settings)
    model.network = Watched(learns == "network")
    model.text = lambda tokens: Tensor(np.float32(tokens), learns == "text")
    return model


def tiny_shard(count, batch_size):
    images = np.random.default_rng(1).random((count, 2, 2, 1), dtype=np.float32)
    tokens = np.arange(1, 2 * count + 1).reshape(count, 2)
    return Shard(images, tokens, None, np.zeros(count, int), np.arange(count), batch_size)


def mixed(model, images, t, eps):
    """(x_t, the v of it), by the formulas."""
    ab = model.alpha_bar[t].reshape(-1, 1, 1, 1)
    x0 = images * 2.0 - 1
    return np.sqrt(ab) * x0 + np.sqrt(1 - ab) * eps, np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0


def noise_in(model, images, x_t, t):
    """The eps that was mixed in."""
    ab = model.alpha_bar[t].reshape(-1, 1, 1, 1)
    return (x_t - np.sqrt(ab) * (images * 2.0 - 1)) / np.sqrt(1 - ab)


class Oracle(Watched):
    """A network that is never wrong: it knows the images by their captions."""

    def __init__(self, model, shard):
        super().__init__(False)
        self.model, self.shard = model, shard

    def __call__(self, x, t, caption):
        super().__call__(x, t, caption)
        x_t, times, said = self.calls[-1]
        images = self.shard.images[(said[:, 0].astype(int) - 1) // 2]
        eps = noise_in(self.model, images, x_t, np.broadcast_to(times, len(x_t)))
        v = mixed(self.model, images, np.broadcast_to(times, len(x_t)), eps)[1]
        return Tensor(np.float32(eps if self.model.config.prediction == "noise" else v))


RANGE = "the images have to go from [0, 1] to [-1, 1]"
OWN_NOISE = "the target has a noise of its own: draw once, for x_t and for the target"


def loss_of_an_oracle(kind):
    """(the loss of a network whose answer is always right, whether the images were brought to [-1, 1])."""
    model, shard = tiny_ddpm(prediction=kind, time_steps=50, caption_dropout=0.0), tiny_shard(50, 50)
    model.network = Oracle(model, shard)
    loss, _ = model.loss(shard, np.random.default_rng(0))
    x_t, t = (np.concatenate(several) for several in list(zip(*model.network.calls, strict=True))[:2])
    of_raw = noise_in(model, (shard.images + 1) / 2, x_t, t).std()  # if they were not, this is the noise
    brought = abs(noise_in(model, shard.images, x_t, t).std() - 1) < abs(of_raw - 1)
    return float(np.asarray(getattr(loss, "data", loss))), brought


@pytest.mark.exercise(id="ddpm-loss")
@pytest.mark.parametrize("size", [3, 12], ids=["batch", "part_of_a_batch"])
@pytest.mark.parametrize("kind", ["noise", "v"])
def test_ddpm_loss(kind, size):
    model, shard = tiny_ddpm(prediction=kind, time_steps=50, caption_dropout=0.0), tiny_shard(3, size)
    tags = [f'where the network predicts "{kind}"']
    tags += ["where the shard is a part of a batch"] if size > 3 else []
    trial = Trial(f"DDPM.loss(shard, rng), batch_size = {size}", *tags, images=shard.images, tokens=shard.tokens)
    loss = trial.expect_loss_and_metrics(trial.run(model.loss, shard, np.random.default_rng(0)))
    x_t, t, captions = model.network.seen(trial, 3)
    trial.require(x_t.dtype == np.float32, f"the network is shown {x_t.dtype}", "the images' dtype, float32, is lost")
    told = "what the network is told of the captions, none of them dropped"
    trial.expect(captions, shard.tokens.astype(np.float32), told)

    eps, said = noise_in(model, shard.images, x_t, t), shard.tokens.sum(axis=1).reshape(3, 1, 1, 1)
    answer = x_t.astype(float) * model.network.w.data + said / 10 + t.reshape(3, 1, 1, 1) / 100

    def error(target):
        return ((answer - target) ** 2).mean(axis=(1, 2, 3))

    _, v = mixed(model, shard.images, t, eps)
    squared = error(eps if kind == "noise" else v)
    instead = {
        "divide by shard.batch_size, not by the length of the shard": squared.sum() / 3,
        "the sum over examples is not divided by shard.batch_size": squared.sum(),
        "the sum over pixels, where the mean is wanted": squared.sum() * 4 / size,
        "the network is asked for another target than `training_target` of config.prediction":
            error(v if kind == "noise" else eps).sum() / size,
        "the network is asked for the clean image": error(shard.images * 2 - 1).sum() / size,
        "the first image only": squared[0] / size,
    }  # fmt: skip
    right = squared.sum() / size
    instead = {cause: value for cause, value in instead.items() if abs(value - right) > 1e-4}
    of_oracle, brought = loss_of_an_oracle(kind)
    if not brought or of_oracle > 0.5:
        instead = {OWN_NOISE if brought else RANGE: getattr(loss, "data", loss)}
    trial.expect(loss, right, "the loss", rtol=1e-3, atol=1e-4, dtype=np.float32, instead=instead)


@pytest.mark.exercise(id="ddpm-loss")
@pytest.mark.parametrize("kind", ["noise", "v"])
def test_ddpm_loss_of_a_network_that_is_never_wrong(kind):
    trial = Trial("DDPM.loss(shard, rng), of a network whose answer is always right")
    loss, brought = trial.call_it(loss_of_an_oracle, (kind,), {})
    cause = OWN_NOISE if brought else RANGE
    trial.require(abs(loss) < 1e-2, f"the loss is {loss:.3f}; 0 is wanted", cause)


@pytest.mark.exercise(id="ddpm-loss")
def test_ddpm_loss_draws_from_rng():
    trial = Trial("DDPM.loss(shard, rng), with one generator and with another")
    for about in range(2):  # what it is shown, and when

        def draw(rng, about=about):
            model, shard = tiny_ddpm(time_steps=50, caption_dropout=0.25), tiny_shard(20, 20)
            trial.run(model.loss, shard, rng)
            x_t, t, captions = model.network.seen(trial, 20)
            return [noise_in(model, shard.images, x_t, t), np.column_stack([t, captions])][about]

        expect_from_rng(trial, draw)


@pytest.mark.exercise(id="ddpm-loss")
def test_ddpm_loss_drops_all_captions():
    model, shard = tiny_ddpm(caption_dropout=1.0), tiny_shard(3, 3)
    trial = Trial("DDPM.loss(shard, rng), caption_dropout = 1", tokens=shard.tokens)
    trial.run(model.loss, shard, np.random.default_rng(0))
    captions = model.network.seen(trial, 3)[2]
    instead = {"no caption is dropped": shard.tokens}
    told = "what the network is told of the captions, all dropped"
    trial.expect(captions, np.zeros((3, 2), np.float32), told, instead=instead)


@pytest.mark.exercise(id="ddpm-loss")
@pytest.mark.parametrize("times", ["even", "middle"])
def test_ddpm_loss_at_which_times(times):
    model, shard = tiny_ddpm(training_times=times, time_steps=50), tiny_shard(2000, 2000)
    trial = Trial("DDPM.loss(shard, rng)", f'with training_times = "{times}"')
    trial.run(model.loss, shard, np.random.default_rng(0))
    t = model.network.seen(trial, 2000)[1]
    trial.require(
        t.min() != t.max(), f"all images are at t = {t[0]}", "one time for the whole batch; each wants its own"
    )
    trial.require(1 <= t.min() and t.max() <= 50, f"times from {t.min()} to {t.max()} were drawn; 1 ... 50 are wanted")
    share = np.arange(1, 51) / 50 if times == "even" else process.middle_share(50)
    drawn = np.array([(t <= last).mean() for last in range(1, 51)])
    cause = "draw_times wants self.training_share" if times == "middle" else ""
    off = np.abs(drawn - share).max()
    trial.require(off < 0.06, f"of the times 1 ... t another share than wanted was drawn, by up to {off:.0%}", cause)
    ends = (1, share[0]), (50, 1 - share[-2])
    for end, chance in ends:  # only where independent draws, too, would not miss it by chance
        told = f"of 2000 times from 1 ... 50 none is {end}: both ends count"
        trial.require(end in t or (1 - chance) ** 2000 > 1e-8, told)


@pytest.mark.exercise(id="ddpm-loss")
def test_ddpm_loss_noise_for_each_pixel_and_chance_for_each_caption():
    model, shard = tiny_ddpm(time_steps=50, caption_dropout=0.25), tiny_shard(500, 500)
    trial = Trial("DDPM.loss(shard, rng), caption_dropout = 0.25, 500 images")
    trial.run(model.loss, shard, np.random.default_rng(0))
    x_t, t, captions = model.network.seen(trial, 500)
    clean = np.abs(x_t - (shard.images * 2 - 1)).max() < 1e-3
    trial.require(not clean, "the network is shown the clean image", "show it x_t")
    plain = noise_in(model, (shard.images + 1) / 2, x_t, t)
    cause = RANGE if abs(plain.std() - 1) < 0.1 else ""
    eps = noise_in(model, shard.images, x_t, t)
    trial.require(abs(eps.std() - 1) < 0.5 or not cause, "what the network is shown is not x_t", cause)
    expect_normals(trial, eps)
    empty, whole = (captions == 0).all(axis=1), (captions == shard.tokens).all(axis=1)
    trial.require((empty | whole).all(), "a caption is neither whole nor empty", "drop all of its words, or none")
    rounds = []
    for seed in range(200):
        model, shard = tiny_ddpm(time_steps=50, caption_dropout=0.25), tiny_shard(20, 20)
        trial.run(model.loss, shard, np.random.default_rng(seed))
        rounds.append((model.network.seen(trial, 20)[2] == 0).all(axis=1))
    expect_each_by_chance(trial, np.array(rounds), 0.25)


@pytest.mark.exercise(id="ddpm-loss")
@pytest.mark.parametrize("learns", ["network", "text"])
def test_ddpm_loss_can_be_trained(learns):
    model, shard = tiny_ddpm(learns, caption_dropout=0.0), tiny_shard(3, 3)
    trial = Trial(f"DDPM.loss(shard, rng), where the {learns} wants a gradient")
    loss = trial.expect_loss_and_metrics(trial.run(model.loss, shard, np.random.default_rng(0)))
    flows = getattr(loss, "requires_grad", False)
    trial.require(flows, f"no gradient flows back to the {learns}", "work with tensors, not with .data")
