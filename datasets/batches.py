"""Batches in an order that is shuffled anew each epoch and can be entered at any step."""

from dataclasses import dataclass

import numpy as np

from datasets.dataset import Dataset
from datasets.errors import DataError


@dataclass(frozen=True, eq=False)
class Batch:
    images: np.ndarray  # (N, H, W, C) float32 in [0, 1]
    captions: list[str]
    labels: np.ndarray  # (N,) int64
    indices: np.ndarray  # (N,) int64: where in the data set the images are


class Batches:
    """All batches of a training run: `at(step)` is a pure function of (data set, batch size, seed, step).

    Every epoch is a permutation from (seed, epoch); a batch that reaches over the end of an epoch continues in the
    next, so every image is seen equally often and every batch is full.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int):
        if len(dataset) == 0:
            raise DataError(f"the data set {dataset.name!r} is empty; training needs at least one image")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def at(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        size, total = self.batch_size, len(self.dataset)
        seen = (divmod(number, total) for number in range(step * size, (step + 1) * size))  # epochs, and images in them
        indices = np.array([self._permutation(epoch)[place] for epoch, place in seen])
        rng = np.random.default_rng((self.seed, 1, step))
        return Batch(
            images=self.dataset.images[indices] * np.float32(1 / 255),
            captions=self.dataset.captions(indices, rng),
            labels=self.dataset.labels[indices],
            indices=indices,
        )

    def _permutation(self, epoch):
        if epoch != self._epoch:
            rng = np.random.default_rng((self.seed, 0, epoch))
            self._epoch, self._order = epoch, rng.permutation(len(self.dataset))
        return self._order
