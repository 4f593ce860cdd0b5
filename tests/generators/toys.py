"""Models and data small enough to train a thousand times in a test."""
import json
from dataclasses import dataclass, replace

import numpy as np

import datasets
from datasets.captions import Names
from datasets.dataset import Dataset
from generators import registry
from generators.family import Family, FamilyConfig, OptimiserConfig, Phase
from nn import functional as F
from nn.modules import Linear
from nn.parallel import Threads, derive_rng
from nn.tensor import Tensor


@dataclass(frozen=True)
class ToyConfig(FamilyConfig):
    batch_size: int = 24
    shard_size: int = 5
    ema_decay: float = 0.9
    optimiser: OptimiserConfig = OptimiserConfig(rate=0.01, warmup_steps=2)


class Toy(Family):
    """A linear auto-encoder with noise and two phases: everything that the loop does, in microseconds."""

    name = "toy"
    Config = ToyConfig
    wants_false_captions = True

    def __init__(self, config, rng):
        super().__init__(config)
        self.first, self.middle = Linear(784, 4, rng), Linear(4, 6, rng)  # of each phase one matrix for each of two
        self.late, self.second = Linear(6, 4, rng), Linear(4, 784, rng)  # workers
        self.prepared = 0

    def prepare(self, images, tokens, rng):
        assert len(images) == self.config.batch_size
        self.prepared += 1

    def phases(self, step):
        config = self.config.optimiser
        return [
            Phase("read", [*self.first.parameters(), *self.middle.parameters()], self.loss, config),
            Phase(
                "write", [*self.late.parameters(), *self.second.parameters()], self.loss,
                replace(config, rate=2 * config.rate),
            ),
        ]

    def loss(self, shard, rng):
        x = shard.images.reshape(len(shard.images), -1)
        noisy = Tensor(x + 0.1 * rng.standard_normal(x.shape, dtype=np.float32))
        error = F.mse(self.second(self.late(self.middle(self.first(noisy)))), x)
        return F.sum(error) * (1 / shard.batch_size), {"share": len(x) / shard.batch_size}

    def sample(self, captions, rng, threads=None):
        painted = self.second(Tensor(rng.random((len(captions), 4), np.float32))).data
        return np.clip(painted, 0, 1).reshape(-1, 28, 28, 1)


def sets_of(settings):
    """Settings of a config, by name, as options of the command line."""
    return [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]


def of_images(families):
    """Those of the families that learn from images."""
    return [name for name in families if registry.FAMILIES[name].data == "digits"]


def toy_data(count=60):
    return datasets.load("digits", split="train", limit=count)


def build(kind, data, seed=0, **settings):
    return kind(kind.Config(vocabulary=tuple(data.vocabulary), **settings), derive_rng(seed, "weights"))


def shaken(model):
    """The model, with no weight where it began: what begins at zero no longer hides what comes before it."""
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.data += 0.1 * rng.standard_normal(parameter.shape, np.float32)
    return model


def pool(threads=1):
    return Threads(threads)


def tones(count=200):
    """Images that are dark or bright all over, and say so."""
    labels = np.arange(count) % 2
    tone = np.array([40, 190])[labels, None, None, None]
    images = (tone + np.random.default_rng(0).integers(0, 40, (count, 8, 8, 1))).astype(np.uint8)
    return Dataset("tones", images, labels, ("dark", "bright"), Names(("dark", "bright"), ("bright", "dark")))
