"""Directions in the noise: how to change in an image what its caption does not say.

An image's noise holds what its caption leaves out.  So there are two ways to make a thin seven bold:

    by caption     read the noise under "a thin seven", decode it under "a bold seven": `family.edit`
    by direction   let the caption be silent about the stroke, "seven": then the noise has to hold it.  The mean noise
                   of bold images less the mean noise of thin ones points from thin to bold; add it, and decode

The second needs no caption that says what is to change, only examples of it, and can be taken in any amount: half,
double, or backwards.  Any family can that has `encode` and `decode`.

    directions = Directions(model, training)
    bold = directions.edit(images, ["a thin seven"], ["a bold seven"], amount=1.0)

Source: Kingma and Dhariwal 2018, section 6 (semantic manipulation).
"""
from __future__ import annotations

import numpy as np

from datasets import DataError
from datasets import captions as language
from datasets.dataset import Dataset
from generators.training import Family
from nn.parallel import Threads

EXAMPLES = 250  # images that each mean is taken over, if there are so many
# What is changed as one: another digit is another variant too, and a variant is one of its digit.
TOGETHER = (("digit", "variant"), ("stroke",), ("slant",), ("size",))


class Directions:
    """The directions of one model, each measured when it is first asked for, on images of `dataset`.

    Raises DataError if nothing but their class is known of the images.
    """

    def __init__(self, model: Family, dataset: Dataset, threads: Threads | None = None, examples: int = EXAMPLES):
        if not dataset.attributes:
            raise DataError(
                f"of the images of {dataset.name} no attributes are known, such as thin or bold, so no direction from "
                "one to the other can be measured on them; change the caption instead, or use the built-in digits"
            )
        self.model, self.dataset, self.threads, self.examples = model, dataset, threads, examples
        self._known: dict[tuple, np.ndarray] = {}

    def edit(self, images: np.ndarray, captions: list[str], wanted: list[str], amount: float = 1.0) -> np.ndarray:
        """The images (N, H, W, C) in [0, 1], described by `captions`, changed into what `wanted` says, all at once.

        amount: how far to go; 1 is the way from one kind of image to the other, below 0 is away from it.
        What `wanted` says and an image is already, by its caption, does not change.
        """
        silent = [self.silent(*pair) for pair in zip(captions, wanted, strict=True)]
        z = self.model.encode(images, silent, self.threads).copy()
        for noise, *pair in zip(z, captions, wanted, strict=True):
            noise += self.between(*pair) * z.dtype.type(amount)
        return self.model.decode(z, silent, self.threads)

    @staticmethod
    def silent(caption: str, wanted: str) -> str:
        """The caption under which the noise is read and decoded: the digit's name, or nothing if that is to change."""
        digit = language.parse(caption).get("digit", "")
        return digit if language.parse(wanted).get("digit", digit) == digit else ""

    def between(self, caption: str, wanted: str) -> np.ndarray:
        """The direction from the noise of images like `caption` to that of images like `wanted`, of the noise's shape.

        The sum of one for each attribute that differs; where `caption` does not mention it, from all images that are
        not as wanted.  Raises DataError if there are no images to measure one on.
        """
        said, asked, named = language.parse(caption), language.parse(wanted), self.silent(caption, wanted) != ""
        way = np.float32(0)
        for names in TOGETHER:
            old, new = ({name: says[name] for name in names if name in says} for says in (said, asked))
            if not new.items() <= old.items():
                way = way + self._mean(named, new, {}) - self._mean(named, old, new)
        return way

    def _mean(self, named: bool, having: dict[str, str], lacking: dict[str, str]) -> np.ndarray:
        """The mean noise of images that have all of `having` and not all of `lacking`, their digits named or not."""
        key = (named, *having.items(), "not", *lacking.items())
        if key not in self._known:
            data = self.dataset
            fits = self._has(having) & ~self._has(lacking) if lacking else self._has(having)
            chosen = np.flatnonzero(fits)[: self.examples]
            if not len(chosen):
                raise DataError(f"none of the {len(data):,} images of {data.name} is {' and '.join(having.values())}")
            captions = [data.classes[label] if named else "" for label in data.labels[chosen]]
            images = data.images[chosen] * np.float32(1 / 255)
            self._known[key] = self.model.encode(images, captions, self.threads).mean(axis=0)
        return self._known[key]

    def _has(self, attributes: dict[str, str]) -> np.ndarray:
        """Which images have all of these attributes, bool (N,)."""
        has = np.ones(len(self.dataset), bool)
        for name, value in attributes.items():
            has &= self.dataset.attributes[name] == self.dataset.attribute_values[name].index(value)
        return has
