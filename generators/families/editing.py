"""Directions in the noise: how to change in an image what its caption does not say.

An image's noise holds what its caption leaves out.  So there are two ways to make a thin seven bold:

    by caption     read the noise under "a thin seven", decode it under "a bold seven": `family.edit`
    by direction   let the caption be silent about the stroke, "a seven": then the noise has to hold it.  The mean
                   noise of bold images less the mean noise of thin ones points from thin to bold; add it, and decode

The second needs no caption that says what is to change, only examples of it, and can be taken in any amount: half,
double, or backwards.  Any family can that has `encode` and `decode`.

    directions = Directions(model, training)
    bold = directions.edit(images, ["a thin seven"], ["a bold seven"])

Source: Kingma and Dhariwal 2018, section 6 (semantic manipulation).
"""

from functools import partial

import numpy as np
from tqdm import tqdm

from datasets import DataError
from datasets.dataset import Dataset
from generators.family import Family
from nn.parallel import Threads

# What is changed as one: another digit is another variant too, and a variant is one of its digit.
CHANGED_TOGETHER = (("digit", "variant"), ("stroke",), ("slant",), ("size",))
IMAGES_AT_A_TIME = 64  # two shards or more, so that one can see how far it is


class Directions:
    """The directions of one model, each measured when it is first asked for, on images of `dataset`.

    Raises DataError if nothing but their class is known of the images.
    """

    def __init__(self, model: Family, dataset: Dataset, threads: Threads | None = None, **reading):
        """reading: options of the model's `encode`."""
        if not dataset.attributes:
            raise DataError(
                f"of the images of {dataset.name} no attributes are known, such as thin or bold, so no direction from "
                "one to the other can be measured on them; change the caption instead, or use the built-in digits"
            )
        self.model, self.dataset, self.threads = model, dataset, threads
        self.language, self.reading = dataset.language, reading
        # Guidance keeps the image what it is in all that the silent caption does say.
        self.emphasis = {} if model.direction_guidance is None else {"guidance": model.direction_guidance}
        self._known: dict[tuple, np.ndarray] = {}

    def edit(
        self, images: np.ndarray, captions: list[str], wanted: list[str], amount: float | None = None
    ) -> np.ndarray:
        """The images (N, H, W, C) in [0, 1], described by `captions`, changed into what `wanted` says, all at once.

        amount: how far to go; 1 is the way from one mean to the other, below 0 is away from it; None: as far as suits
            the model.
        What `wanted` says and an image is already, by its caption, does not change.
        """
        said = list(zip(captions, wanted, strict=True))
        silent = [self.language.silence(c, self.changes(c, w)) for c, w in said]
        z = self.model.encode(images, silent, self.threads).copy()
        for noise, pair in zip(z, said, strict=True):
            noise += self.between(*pair) * z.dtype.type(self.model.direction_amount if amount is None else amount)
        edited = self.model.decode(z, silent, self.threads, **self.emphasis)
        same = [i for i, pair in enumerate(said) if not self.changes(*pair)]
        if self.emphasis and same:  # guided they would not come back as they were
            edited[same] = self.model.decode(z[same], [silent[i] for i in same], self.threads)
        return edited

    def between(self, caption: str, wanted: str) -> np.ndarray:
        """The direction from the noise of images like `caption` to that of images like `wanted`.

        Of the noise's shape; a single 0 if nothing differs.

        The sum of one for each attribute that differs, among images of the same digit: a bold one is not thicker in
        the places where a bold eight is.  Their captions are silent about that attribute alone: of what they say the
        noise is free, else "right" would mean "thin" too to a four, which is never both bold and slanting right.
        Where `caption` does not mention the attribute, it leads from all images that are not as wanted.

        Raises DataError if there are no images to measure one on.
        """
        said, asked, changed = *map(self.language.parse, (caption, wanted)), self.changes(caption, wanted)
        same = {"digit": said["digit"]} if "digit" in said.keys() - changed else {}
        way = np.float32(0)
        for names in CHANGED_TOGETHER:
            if silent := changed.intersection(names):
                old, new = (same | {name: says[name] for name in names if name in says} for says in (said, asked))
                way = way + self._mean(silent, new, {}) - self._mean(silent, old, new)
        return way

    def _mean(self, silent: frozenset[str], having: dict[str, str], lacking: dict[str, str]) -> np.ndarray:
        """The mean noise of images that have all of `having` and not all of `lacking`, under silent captions."""
        key = (silent, *having.items(), "not", *lacking.items())
        if key not in self._known:
            data = self.dataset
            fits = self._has(having) & ~self._has(lacking) if lacking else self._has(having)
            chosen = np.flatnonzero(fits)[: self.model.direction_examples]
            if not len(chosen):
                raise DataError(f"none of the {len(data):,} images of {data.name} is {' and '.join(having.values())}")
            captions = [self.language.silence(caption, silent) for caption in data.captions(chosen)]
            images = data.images[chosen] * np.float32(1 / 255)
            parts = [slice(start, start + IMAGES_AT_A_TIME) for start in range(0, len(chosen), IMAGES_AT_A_TIME)]
            watched = tqdm(parts, "measuring the direction", unit="block", leave=False, disable=None)
            read = partial(self.model.encode, threads=self.threads, **self.reading)
            noise = [read(images[part], captions[part]) for part in watched]
            self._known[key] = np.concatenate(noise).mean(axis=0)
        return self._known[key]

    def _has(self, attributes: dict[str, str]) -> np.ndarray:
        """Which images have all of these attributes, bool (N,)."""
        codes, values = self.dataset.attributes, self.language.attributes
        return np.all([codes[name] == values[name].index(value) for name, value in attributes.items()], axis=0)

    def changes(self, caption: str, wanted: str) -> frozenset[str]:
        """The attributes of which `wanted` says something that `caption` does not say; with the digit, its variant."""
        said, asked = self.language.parse(caption), self.language.parse(wanted)
        names = {name for name, value in asked.items() if said.get(name) != value}
        return frozenset(names | {"variant"} if "digit" in names else names)
