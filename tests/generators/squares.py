"""Toy images for the judge and the protocol of evaluation: a square on the left is a zero, on the right a one.

It may be bold (bright) or thin (dim); of the other attributes of the built-in digits it has always the same value.
"""

import numpy as np

from datasets.captions import HANDWRITING, Names
from datasets.dataset import Dataset
from datasets.glyphs import VARIANTS, VARIANTS_OF
from generators.family import OptimiserConfig
from generators.judging.classifier import ClassifierConfig

SIDE = 8
PLACES = ("zero", "one")
SMALL = ClassifierConfig(
    width=8, features=16, shift=1, dropout=0.1, batch_size=16, shard_size=8, ema_decay=0.9,
    optimiser=OptimiserConfig(muon=False, rate=1e-2, warmup_steps=5),
)  # fmt: skip


def squares(count, seed=0, attributes=True):
    rng = np.random.default_rng(seed)
    place, light = rng.integers(0, 2, (2, count))
    images = rng.integers(0, 20, (count, SIDE, SIDE, 1), dtype=np.uint8)
    for image, x, bright in zip(images, place, light, strict=True):
        image[2:6, 1 + 3 * x : 4 + 3 * x] += np.uint8(200 if bright else 90)
    if not attributes:
        return Dataset("squares", images, place, PLACES, Names(PLACES, PLACES))
    variants = [VARIANTS.index(VARIANTS_OF[name][0]) for name in PLACES]
    same = np.zeros(count, dtype=np.int64)
    codes = {"digit": place, "variant": np.array(variants)[place], "stroke": light, "slant": same, "size": same}
    return Dataset("squares", images, place, PLACES, HANDWRITING, codes)
