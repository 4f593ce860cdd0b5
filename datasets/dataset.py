"""What every source of images is made into."""

from dataclasses import dataclass, field

import numpy as np

from datasets.captions import Language


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and what can be said about them.

    images       uint8 (N, H, W, C), or films (N, T, H, W, C): ink 255 on black 0
    labels       int64 (N,): index into classes
    classes      the caption of each class; "" where there are no classes (a flat folder)
    language     what its captions can say
    attributes   name -> int64 (N,), index into language.attributes[name]; none where captions are names of classes
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    language: Language
    attributes: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        what, size = "films" if len(self.images.shape) == 5 else "images", "x".join(map(str, self.images.shape[1:]))
        return f"Dataset({self.name!r}, {len(self)} {what} of {size}, {len(self.classes)} classes)"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word that the captions use."""
        return self.language.vocabulary

    def describe(self, index: int) -> dict[str, str]:
        """The attributes of one image in words."""
        return {name: self.language.attributes[name][codes[index]] for name, codes in self.attributes.items()}

    def captions(self, indices, rng: np.random.Generator | None = None) -> list[str]:
        """Captions of images: with rng as training draws them, without it the fullest there is."""
        codes = self._codes(indices)
        return [self.language.full(row) for row in codes.tolist()] if rng is None else self.language.draw(codes, rng)

    def contradicting(self, indices, given: list[str], rng: np.random.Generator) -> list[str]:
        """For each image a caption that is false of it, of the kind of its given (true) caption.

        Nothing of the empty caption's kind is false: it becomes the name of another class. DataError if there is none.
        """
        return self.language.contradicting(self._codes(indices), given, rng)

    def _codes(self, indices):
        columns = self.attributes.values() or [self.labels]
        return np.stack([codes[np.asarray(indices)] for codes in columns], axis=1)
