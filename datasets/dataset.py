"""What every source of images is made into."""

from dataclasses import dataclass, field

import numpy as np

from datasets import captions
from datasets.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and what can be said about them.

    images            uint8 (N, H, W, C): ink 255 on black 0
    labels            int64 (N,): index into classes
    classes           the caption of each class; "" where there are no classes (a flat folder)
    vocabulary        every word that the captions use
    attributes        name -> int64 (N,), index into attribute_values[name]; only the digits have them
    attribute_values  name -> the words for the values
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    vocabulary: tuple[str, ...]
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    attribute_values: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        n, height, width, channels = self.images.shape
        return f"Dataset({self.name!r}, {n} images of {height}x{width}x{channels}, {len(self.classes)} classes)"

    def describe(self, index: int) -> dict[str, str]:
        """The attributes of one image in words, as captions.contradicts wants them."""
        return {name: self.attribute_values[name][codes[index]] for name, codes in self.attributes.items()}

    def captions(self, indices, rng: np.random.Generator | None = None) -> list[str]:
        """Captions of images: with rng as training draws them, without it the fullest there is.

        Where there are no attributes the caption is the class name, in training now and then (captions.MIX) the empty
        one, so that a model learns what to paint when it is told nothing.
        """
        if not self.attributes:
            names = [self.classes[label] for label in self.labels[np.asarray(indices)].tolist()]
            if rng is None:
                return names
            silent = rng.random(len(names)) < captions.MIX["empty"]
            return ["" if said_nothing else name for said_nothing, name in zip(silent, names, strict=True)]
        codes = self._codes(indices)
        return [captions.full(row) for row in codes.tolist()] if rng is None else captions.draw(codes, rng)

    def contradicting(self, indices, given: list[str], rng: np.random.Generator) -> list[str]:
        """For each image a caption that is false of it, of the kind of its given (true) caption.

        Of the empty caption's kind nothing is false: it becomes the name of another class.

        DataError for a data set of a single class, of which nothing is false.
        """
        if self.attributes:
            return captions.contradicting(self._codes(indices), given, rng)
        labels = self.labels[np.asarray(indices)]
        if len(self.classes) < 2:
            raise DataError(f"the data set {self.name!r} has a single class, so no caption is false of its images")
        others = (labels + rng.integers(1, len(self.classes), len(labels))) % len(self.classes)
        return [self.classes[label] for label in others.tolist()]

    def _codes(self, indices):
        return np.stack([codes[np.asarray(indices)] for codes in self.attributes.values()], axis=1)
