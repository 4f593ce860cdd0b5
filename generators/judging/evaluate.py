"""All figures of a trained family, by one protocol: for `inkling evaluate` and `python -m bench quality`.

The judge learnt from the first half of the training images (30,000 of 60,000). The next ones, which it never saw, say
what real images score: the floor of each figure. One sample is drawn for each test image, under its fullest caption,
and rounded to bytes before anything is measured: captions have the frequencies of the data, and the samples are the
very ones that `inkling sample RUN -n 10000 --out x.npz` writes, for other judges to look at. Besides, some are drawn
under combinations never trained on, and some under the name of each class alone. With fewer samples the floor uses as
few real images: FID grows as sets shrink.

    reference = Reference(judge, training, test, unseen)     # once for each data set
    figures = evaluate(family, reference, seed=0)
"""

import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets.dataset import Dataset
from generators.family import Family
from generators.judging import metrics
from generators.judging.classifier import Classifier, Reading, accuracy, accuracy_score, cut, judged_count
from generators.judging.metrics import MetricError
from generators.showing.pictures import to_uint8
from nn.parallel import Threads, derive_rng

CHUNK = 500  # samples drawn at a time, to bound memory
UNSEEN = 2000  # samples drawn under combinations never trained on
DRAWS, NAMED = 40, 2000  # of each class's name, to see how they vary; fewer where the classes would need more in all
LARGEST_FILE = 4 << 30  # bytes of samples that another tool has made
SCORE_STEPS = 800  # of the classifier that learns from samples alone


@dataclass(frozen=True)
class Reference:
    """Real images as the judge reads them, and what they score among themselves: computed once, on demand."""

    judge: Classifier
    training: Dataset
    test: Dataset
    unseen: Dataset | None = None  # combinations of attributes that are kept out of training, where there are any
    threads: Threads | None = None
    count: int | None = None  # samples to be drawn of a generator; None: as many as there are test images
    limit: int | None = None  # training images, the first ones, that the generators saw; None: all

    @property
    def samples(self) -> int:
        return self.count or len(self.test)

    @property
    def seen(self) -> np.ndarray:
        """The images that the generators saw, and may have copied."""
        return self.training.images[: self.limit]

    @cached_property
    def fresh(self) -> Dataset:
        """Training images that the judge has not seen, as many as samples are drawn or as there are."""
        start = judged_count(len(self.training))
        return cut(self.training, start, start + self.samples)

    @cached_property
    def reading(self) -> Reading:
        return self.judge.judge(self.test.images, self.threads)

    @cached_property
    def fresh_features(self) -> np.ndarray:
        return self.judge.judge(self.fresh.images, self.threads).features

    @cached_property
    def moments(self) -> metrics.Moments:
        return metrics.Moments.of(self.reading.features)

    @cached_property
    def test_distances(self) -> np.ndarray:
        return metrics.nearest(self.test.images, self.seen, self.threads)[0]

    @cached_property
    def figures(self) -> dict:
        """What real images and pure noise score, and how far the judge can be trusted."""
        shape = (self.samples, *self.test.images.shape[1:])
        noise = derive_rng(0, "noise").integers(0, 256, shape, dtype=np.uint8)
        floor = metrics.frechet_distance(self.fresh_features, self.moments)
        if not floor > 0:
            raise metrics.MetricError("the real images are all alike, so there is no floor to compare with")
        precision, recall = metrics.precision_recall(self.reading.features, self.fresh_features, threads=self.threads)
        ceilings = {"match_ceiling": accuracy(self.judge, self.test, self.threads)}
        if self.unseen is not None:
            ceilings["match_unseen_ceiling"] = accuracy(self.judge, self.unseen, self.threads)
        return {
            "judge": self.judge.weights_hash(),
            "fid_floor": floor,
            "fid_noise": metrics.frechet_distance(self.judge.judge(noise, self.threads).features, self.moments),
            "precision_real": precision,
            "recall_real": recall,
            "sharpness_real": metrics.sharpness(self.test.images),
            **ceilings,
            **({"variety_real": self.mean_variety(self.test.images, self.test.labels)} if len(self.common) else {}),
        }

    def about_the_judge(self) -> str:
        """A sentence to stand beside every figure."""
        (name, share), *_ = self.figures["match_ceiling"].items()
        return f"Judge {self.figures['judge']}: reads the {name} of {share:.2%} of the test images rightly."

    @cached_property
    def common(self) -> np.ndarray:
        """The labels of which there are two test images or more, and so a distance between them."""
        labels, counts = np.unique(self.test.labels, return_counts=True)
        return labels[counts > 1]

    def score(self, images: np.ndarray, labels: np.ndarray, what: str) -> float:
        """The accuracy score of these images."""
        return accuracy_score(images, labels, self.test, self.threads or Threads(), SCORE_STEPS, what=what)

    @cached_property
    def real_score(self) -> float:
        """The accuracy score of as many real images, which the judge has not seen."""
        return self.score(self.fresh.images, self.fresh.labels, "learning from real images")

    def mean_variety(self, images: np.ndarray, labels: np.ndarray) -> float:
        """`metrics.variety` of the images of one class, the mean over the common classes."""
        return float(np.mean([metrics.variety(images[labels == label]) for label in self.common]))


def evaluate(
    family: Family, reference: Reference, seed: int = 0, options: Mapping | None = None, score: bool = True
) -> dict:
    """Every figure that a family can be given, as a dict of JSON values; those of `reference.figures` are beside them.

    options: for the family's `sample`. score: also the classification accuracy score, which trains a classifier or two.
    """
    test, judge, count = reference.test, reference.judge, reference.samples
    captions, labels = captions_of(test, count)
    start = time.perf_counter()
    images = draw(family, captions, seed, reference.threads, options)
    figures = {
        "family": family.name,
        "seed": seed,
        "options": dict(options or {}),
        "parameters": family.parameter_count(),
        "sampling_seconds": time.perf_counter() - start,
        **of_images(images, captions, reference),
    }
    if reference.unseen is not None:
        new, _ = captions_of(reference.unseen, min(UNSEEN, count))
        painted = draw(family, new, seed + 1, reference.threads, options)
        values = judge.judge(painted, reference.threads).values
        figures["match_unseen"] = metrics.caption_match(values, judge.asked(new))
    if len(reference.common):
        named = np.repeat(reference.common, max(2, min(DRAWS, NAMED // len(reference.common))))
        names = [test.classes[label] for label in named]
        painted = draw(family, names, seed + 2, reference.threads, options)
        figures["variety"] = reference.mean_variety(painted, named)
    figures |= family.likelihood_figures(test, seed, reference.threads)
    if score and len(test.classes) > 1:
        few = min(count, len(reference.fresh))  # as many as there are real ones to compare with
        figures["accuracy_score"] = reference.score(images[:few], labels[:few], f"learning from {family.name}")
        figures["accuracy_score_real"] = reference.real_score
    return figures | reference.figures


def of_images(images: np.ndarray, captions: list[str] | None, reference: Reference) -> dict:
    """The figures for which images are enough, (N, H, W, C) uint8, and `match` if their captions are known."""
    reading = reference.judge.judge(images, reference.threads)
    real, threads = reference.reading.features, reference.threads
    precision, recall = metrics.precision_recall(real, reading.features, threads=threads)
    fid = metrics.frechet_distance(reading.features, reference.moments)
    figures = {
        "samples": len(images),
        "fid": fid,
        "fid_ratio": fid / reference.figures["fid_floor"],
        "precision": precision,
        "recall": recall,
        "sharpness": metrics.sharpness(images),
        **metrics.copying(metrics.nearest(images, reference.seen, threads)[0], reference.test_distances),
    }
    if captions is None:
        return figures
    return figures | {"match": metrics.caption_match(reading.values, reference.judge.asked(captions))}


def read_samples(path: str | Path) -> tuple[np.ndarray, list[str] | None] | None:
    """Images uint8 (N, H, W, C) and captions, if it has any, of an .npz file; None if it has no array `images`.

    Raises MetricError, in one sentence, for a file that is none, or too large, and for images that are none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if "images.npy" not in sizes:
                return None
            if sum(sizes.values()) > LARGEST_FILE:
                raise MetricError(f"{path} holds more than {LARGEST_FILE >> 30} GB of arrays")
            if damaged := archive.testzip():
                raise ValueError(f"the checksum of {damaged} is wrong")
        with np.load(path, allow_pickle=False) as arrays:
            images, captions = arrays["images"], arrays.get("captions")
    except (FileNotFoundError, MetricError):
        raise
    except Exception as error:  # zipfile, the compressions and NumPy raise two dozen kinds on bytes that are no arrays
        raise MetricError(f"{path} cannot be read as arrays: {error}; write it anew with numpy.savez") from error
    if images.ndim == 3:
        images = images[..., None]
    numbers = images.dtype == np.uint8 or images.dtype.kind == "f" and np.isfinite(images).all()
    whole = images.ndim == 4 and images.size and numbers
    if not whole or images.dtype.kind == "f" and not 0 <= images.min() <= images.max() <= 1:
        raise MetricError(
            f"`images` of {path} must be bytes, or numbers from 0 to 1, of shape (N, H, W) or (N, H, W, C), none of "
            f"them 0; given {images.dtype} of shape {images.shape}"
        )
    if captions is not None and captions.shape != (len(images),):
        raise MetricError(f"{path} has {len(images)} images, and captions of shape {captions.shape}")
    return to_uint8(images), None if captions is None else [str(caption) for caption in captions]


def captions_of(dataset: Dataset, count: int) -> tuple[list[str], np.ndarray]:
    """`count` captions and their labels: the fullest of each image in turn, from the first on, over and over."""
    indices = np.arange(count) % len(dataset)
    return dataset.captions(indices), dataset.labels[indices]


def draw(
    family: Family, captions: list[str], seed: int, threads: Threads | None = None, options: Mapping | None = None
) -> np.ndarray:
    """One sample for each caption, uint8 (N, H, W, C), drawn in chunks with a generator each."""
    starts, chunks = range(0, len(captions), CHUNK), []
    for start in tqdm(starts, f"sampling {family.name}", leave=False, disable=len(starts) == 1 or None):
        rng = derive_rng(seed, "samples", start)
        chunks.append(to_uint8(family.sample(captions[start : start + CHUNK], rng, threads, **options or {})))
    return np.concatenate(chunks)


# Title, figure, its form, and what real images score: a figure, or a text.  Matches come after the first of SOMETIMES.
ALWAYS = (
    ("FID", "fid", ".3f", "fid_floor"), ("FID / floor", "fid_ratio", ".1f", "1"),
    ("precision", "precision", ".1%", "precision_real"), ("recall", "recall", ".1%", "recall_real"),
    ("sharpness", "sharpness", ".4f", "sharpness_real"),
    ("distance to nearest", "nearest_mean", ".2f", "nearest_mean_test"), ("copies", "copies", ".1%", "1.0%"),
)  # fmt: skip
SOMETIMES = (
    ("variety of a class", "variety", ".2f", "variety_real"),
    ("bits per dimension, given the caption", "bits_per_dimension", ".3f", ""),
    ("the same, by 8 draws of the noise", "bits_per_dimension_8", ".3f", ""),
    ("bits per dimension, given the caption, at most", "bits_per_dimension_bound", ".3f", ""),
    ("log-likelihood bound, nats", "nats", ".3f", ""),
    ("accuracy score", "accuracy_score", ".1%", "accuracy_score_real"),
)


def summary(figures: Mapping) -> list[tuple[str, str, str]]:
    """(figure, its value, what real images score) for people to read, of what `evaluate` returned."""

    def lines(rows: Iterable[tuple[str, str, str, str]]) -> list[tuple[str, str, str]]:
        return [(title, format(figures[key], form), format(figures[real], form) if real in figures else real)
                for title, key, form, real in rows]  # fmt: skip

    told = lines(ALWAYS) + lines(row for row in SOMETIMES[:1] if row[1] in figures)
    for key, title in (("match", "caption match"), ("match_unseen", "never seen")):
        shares, ceiling = figures.get(key, {}), figures.get(f"{key}_ceiling", {})
        for name, share in shares.items():
            if name != "all" or len(shares) > 2:  # of a single thing to read, all is that thing
                told.append((f"{title}: {name}", f"{share:.1%}", f"{ceiling[name]:.1%}" if name in ceiling else ""))
    told += lines(row for row in SOMETIMES[1:] if row[1] in figures)
    if real := figures.get("accuracy_score_real"):
        told.append(("accuracy score / real", f"{figures['accuracy_score'] / real:.3f}", "1"))
    return told
