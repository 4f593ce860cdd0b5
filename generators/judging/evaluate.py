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

import lzma
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tokenize import TokenError

import numpy as np

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
Progress = Callable[[Iterable, str, int], Iterable]  # wraps a loop of so many rounds, and says what it does


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
    progress: Progress = lambda rounds, what, count: rounds  # for what takes long, if it is to be seen

    @property
    def samples(self) -> int:
        return self.count or len(self.test)

    @property
    def workers(self) -> int | None:
        return self.threads.count if self.threads else None

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
        return metrics.nearest(self.test.images, self.seen, self.workers)[0]

    @cached_property
    def figures(self) -> dict:
        """What real images and pure noise score, and how far the judge can be trusted."""
        shape = (self.samples, *self.test.images.shape[1:])
        noise = derive_rng(0, "noise").integers(0, 256, shape, dtype=np.uint8)
        floor = metrics.frechet_distance(self.fresh_features, self.moments)
        if not floor > 0:
            raise metrics.MetricError("the real images are all alike, so there is no floor to compare with")
        precision, recall = metrics.precision_recall(self.reading.features, self.fresh_features, threads=self.workers)
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
        watched = partial(self.progress, what=what, count=SCORE_STEPS)
        return accuracy_score(images, labels, self.test, self.threads or Threads(), SCORE_STEPS, progress=watched)

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
    images = draw(family, captions, seed, reference.threads, options, reference.progress)
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
        painted = draw(family, new, seed + 1, reference.threads, options, reference.progress)
        values = judge.judge(painted, reference.threads).values
        figures["match_unseen"] = metrics.caption_match(values, judge.asked(new))
    if len(reference.common):
        named = np.repeat(reference.common, max(2, min(DRAWS, NAMED // len(reference.common))))
        names = [test.classes[label] for label in named]
        painted = draw(family, names, seed + 2, reference.threads, options, reference.progress)
        figures["variety"] = reference.mean_variety(painted, named)
    if hasattr(family, "likelihood_figures"):
        figures |= family.likelihood_figures(test, seed, reference.threads, reference.progress)
    if score and len(test.classes) > 1:
        few = min(count, len(reference.fresh))  # as many as there are real ones to compare with
        figures["accuracy_score"] = reference.score(images[:few], labels[:few], f"learning from {family.name}")
        figures["accuracy_score_real"] = reference.real_score
    return figures | reference.figures


def of_images(images: np.ndarray, captions: list[str] | None, reference: Reference) -> dict:
    """The figures for which images are enough, (N, H, W, C) uint8, and `match` if their captions are known."""
    reading = reference.judge.judge(images, reference.threads)
    precision, recall = metrics.precision_recall(
        reference.reading.features, reading.features, threads=reference.workers
    )
    fid = metrics.frechet_distance(reading.features, reference.moments)
    figures = {
        "samples": len(images),
        "fid": fid,
        "fid_ratio": fid / reference.figures["fid_floor"],
        "precision": precision,
        "recall": recall,
        "sharpness": metrics.sharpness(images),
        **metrics.copying(
            metrics.nearest(images, reference.seen, reference.workers)[0], reference.test_distances
        ),
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
            images, captions = (
                _read_array(archive, name) if name in sizes else None for name in ("images.npy", "captions.npy")
            )
    except (FileNotFoundError, MetricError):
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, ValueError,
            struct.error, OverflowError, LookupError, OSError, zlib.error, lzma.LZMAError, SyntaxError, TokenError,
            MemoryError) as error:  # fmt: skip
        # all that zipfile, the compressions and NumPy are known to raise on bytes that are no arrays
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


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        member.read()  # to the end, where its checksum is looked at
    return array


def captions_of(dataset: Dataset, count: int) -> tuple[list[str], np.ndarray]:
    """`count` captions and their labels: the fullest of each image in turn, from the first on, over and over."""
    indices = np.arange(count) % len(dataset)
    return dataset.captions(indices), dataset.labels[indices]


def draw(
    family: Family, captions: list[str], seed: int, threads: Threads | None = None, options: Mapping | None = None,
    progress: Progress = lambda rounds, what, count: rounds,
) -> np.ndarray:  # fmt: skip
    """One sample for each caption, uint8 (N, H, W, C), drawn in chunks with a generator each."""
    starts, chunks = range(0, len(captions), CHUNK), []
    for start in progress(starts, f"sampling {family.name}", len(starts)):
        rng = derive_rng(seed, "samples", start)
        chunks.append(to_uint8(family.sample(captions[start : start + CHUNK], rng, threads, **options or {})))
    return np.concatenate(chunks)


def summary(figures: Mapping) -> list[tuple[str, str, str]]:
    """(figure, its value, what real images score) for people to read, of what `evaluate` returned."""
    lines = [
        ("FID", f"{figures['fid']:.3f}", f"{figures['fid_floor']:.3f}"),
        ("FID / floor", f"{figures['fid_ratio']:.1f}", "1"),
        ("precision", f"{figures['precision']:.1%}", f"{figures['precision_real']:.1%}"),
        ("recall", f"{figures['recall']:.1%}", f"{figures['recall_real']:.1%}"),
        ("sharpness", f"{figures['sharpness']:.4f}", f"{figures['sharpness_real']:.4f}"),
        ("distance to nearest", f"{figures['nearest_mean']:.2f}", f"{figures['nearest_mean_test']:.2f}"),
        ("copies", f"{figures['copies']:.1%}", "1.0%"),
    ]
    if "variety" in figures:
        lines.append(("variety of a class", f"{figures['variety']:.2f}", f"{figures['variety_real']:.2f}"))
    titles = {"match": "caption match", "match_unseen": "never seen"}
    for key, title in titles.items():
        ceiling = figures.get("match_unseen_ceiling" if key == "match_unseen" else "match_ceiling", {})
        shares = figures.get(key, {})
        for name, share in shares.items():
            if name == "all" and len(shares) <= 2:
                continue  # of a single thing to read, all is that thing
            lines.append((f"{title}: {name}", f"{share:.1%}", f"{ceiling[name]:.1%}" if name in ceiling else ""))
    likelihoods = {
        "bits_per_dimension": "bits per dimension, given the caption",
        "bits_per_dimension_8": "the same, by 8 draws of the noise",
        "nats": "log-likelihood bound, nats",
    }
    lines += [(title, f"{figures[key]:.3f}", "") for key, title in likelihoods.items() if key in figures]
    if "accuracy_score" in figures:
        ours, real = figures["accuracy_score"], figures["accuracy_score_real"]
        lines.append(("accuracy score", f"{ours:.1%}", f"{real:.1%}"))
        if real:
            lines.append(("accuracy score / real", f"{ours / real:.3f}", "1"))
    return lines
