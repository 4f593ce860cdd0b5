"""Judges the exercise on diffusion's loss by what the network is shown, told and blamed for."""

import numpy as np
import pytest

from generators.families.diffusion import ddpm, process
from generators.family import Shard
from nn import functional as F
from nn.tensor import Tensor
from tests.exercises.trial import SameNoise, Trial, bare, normal


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


@pytest.mark.exercise(id="ddpm-loss")
@pytest.mark.parametrize("size", [3, 12], ids=["batch", "part_of_a_batch"])
@pytest.mark.parametrize("kind", ["noise", "v"])
def test_ddpm_loss(kind, size):
    model, shard = tiny_ddpm(prediction=kind, time_steps=50, caption_dropout=0.0), tiny_shard(3, size)
    tags = [f'where the network predicts "{kind}"']
    tags += ["where the shard is a part of a batch"] if size > 3 else []
    trial = Trial(f"DDPM.loss(shard, rng), batch_size = {size}", *tags, images=shard.images, tokens=shard.tokens)
    rng = SameNoise()
    loss = trial.expect_loss_and_metrics(trial.run(model.loss, shard, rng))
    x_t, t, captions = model.network.seen(trial, 3)
    ab = model.alpha_bar[t].reshape(-1, 1, 1, 1)
    x0, eps = shard.images * 2 - 1, SameNoise().standard_normal(shard.images.shape)
    instead = {
        "the images have to go from [0, 1] to [-1, 1]": np.sqrt(ab) * shard.images + np.sqrt(1 - ab) * eps,
        "uniform noise; normal numbers are wanted": np.sqrt(ab) * x0 + np.sqrt(1 - ab) * SameNoise().random(x0.shape),
        "the network is shown the clean image": x0,
    }
    right = np.sqrt(ab) * x0 + np.sqrt(1 - ab) * eps
    trial.expect(x_t, right, "what the network is shown at these times", rtol=1e-4, atol=1e-5, instead=instead)
    rng.expect_normals(trial, shard.images.size)
    trial.expect(captions, shard.tokens, "what the network is told of the captions, none of them dropped")

    said = shard.tokens.sum(axis=1).reshape(3, 1, 1, 1)
    answer = x_t.astype(float) * model.network.w.data + said / 10 + t.reshape(3, 1, 1, 1) / 100
    v = np.sqrt(ab) * eps - np.sqrt(1 - ab) * x0

    def error(target):
        return ((answer - target) ** 2).mean(axis=(1, 2, 3))

    squared = error(eps if kind == "noise" else v)
    instead = {
        "divide by shard.batch_size, not by the length of the shard": squared.sum() / 3,
        "the sum over examples is not divided by shard.batch_size": squared.sum(),
        "the sum over pixels, where the mean is wanted": squared.sum() * 4 / size,
        "the network is asked for another target than `training_target` of config.prediction":
            error(v if kind == "noise" else eps).sum() / size,
        "the network is asked for the clean image": error(x0).sum() / size,
    }  # fmt: skip
    right = squared.sum() / size
    instead = {cause: value for cause, value in instead.items() if abs(value - right) > 1e-4}
    trial.expect(loss, right, "the loss", rtol=1e-4, atol=1e-5, dtype=np.float32, instead=instead)


@pytest.mark.exercise(id="ddpm-loss")
def test_ddpm_loss_drops_captions():
    model, shard = tiny_ddpm(caption_dropout=1.0), tiny_shard(3, 3)
    trial = Trial("DDPM.loss(shard, rng), caption_dropout = 1", tokens=shard.tokens)
    trial.run(model.loss, shard, SameNoise())
    captions = model.network.seen(trial, 3)[2]
    instead = {"no caption is dropped": shard.tokens}
    trial.expect(captions, np.zeros((3, 2)), "what the network is told of the captions, all dropped", instead=instead)


@pytest.mark.exercise(id="ddpm-loss")
@pytest.mark.parametrize("times", ["even", "middle"])
def test_ddpm_loss_at_which_times(times):
    model, shard = tiny_ddpm(training_times=times, time_steps=50), tiny_shard(500, 500)
    trial = Trial("DDPM.loss(shard, rng)", f'with training_times = "{times}"')
    trial.run(model.loss, shard, np.random.default_rng(0))
    t = model.network.seen(trial, 500)[1]
    trial.require(1 <= t.min() and t.max() <= 50, f"times from {t.min()} to {t.max()} were drawn; 1 ... 50 are wanted")
    share = np.arange(1, 51) / 50 if times == "even" else process.middle_share(50)
    drawn = np.array([(t <= last).mean() for last in range(1, 51)])
    cause = "draw_times wants self.training_share" if times == "middle" else "self.training_share is None here"
    off = np.abs(drawn - share).max()
    trial.require(off < 0.1, f"of the times 1 ... t another share than wanted was drawn, by up to {off:.0%}", cause)
    ends = t.min() == 1 and t.max() == 50
    trial.require(ends, f"of 500 times from 1 ... 50 the least is {t.min()} and the largest {t.max()}; both ends count")


@pytest.mark.exercise(id="ddpm-loss")
def test_ddpm_loss_with_real_noise():
    """Every pixel of every image gets normal noise of its own, and of the captions a share is dropped, each whole."""
    model, shard = tiny_ddpm(time_steps=50, caption_dropout=0.25), tiny_shard(500, 500)
    trial = Trial("DDPM.loss(shard, rng), caption_dropout = 0.25", "with real noise")
    trial.run(model.loss, shard, np.random.default_rng(0))
    x_t, t, captions = model.network.seen(trial, 500)
    ab = model.alpha_bar[t].reshape(-1, 1, 1, 1)
    eps = ((x_t - np.sqrt(ab) * (2.0 * shard.images - 1)) / np.sqrt(1 - ab)).reshape(500, 4)
    normal_ = abs(eps.mean()) < 0.1 and 0.9 < eps.std() < 1.1
    trial.require(normal_, f"the noise has mean {eps.mean():.2f} and deviation {eps.std():.2f}; 0 and 1 are wanted")
    alike = np.abs(np.corrcoef(eps.T) - np.eye(4)).max() > 0.25 or np.abs(eps.mean(axis=0)).max() > 0.25
    trial.require(not alike, "pixels share their noise", "normal numbers of the images' whole shape")
    empty, whole = (captions == 0).all(axis=1), (captions == shard.tokens).all(axis=1)
    trial.require((empty | whole).all(), "a caption is neither whole nor empty", "drop all of its words, or none")
    share = empty.mean()
    trial.require(0.17 < share < 0.33, f"{share:.0%} of the captions were dropped; 25% are wanted, each by itself")


@pytest.mark.exercise(id="ddpm-loss")
@pytest.mark.parametrize("learns", ["network", "text"])
def test_ddpm_loss_can_be_trained(learns):
    model, shard = tiny_ddpm(learns, caption_dropout=0.0), tiny_shard(3, 3)
    trial = Trial(f"DDPM.loss(shard, rng), where the {learns} wants a gradient")
    loss = trial.expect_loss_and_metrics(trial.run(model.loss, shard, SameNoise()))
    flows = getattr(loss, "requires_grad", False)
    trial.require(flows, f"no gradient flows back to the {learns}", "work with tensors, not with .data")
