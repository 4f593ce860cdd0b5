"""All figures of a trained family, by one protocol: for `inkling evaluate` and `python -m bench quality`.

The judge learnt from the first half of the training images (30,000 of 60,000). The next ones, which it never saw, say
what real images score: the floor of each figure. As many samples as there are test images are drawn, under captions
with the frequencies of the data, and rounded to bytes before anything is measured; besides some under full captions,
and some under the name of each class alone. Where fewer are drawn, the floor is that of as many real images: the
smaller two clouds of the same kind, the larger the distance between them.

    reference = Reference(judge, training, test, unseen)     # once for each data set
    figures = evaluate(family, reference, seed=0)
"""

import json
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

import datasets
from datasets.dataset import Dataset
from generators import metrics
from generators.classifier import Classifier, Reading, accuracy, accuracy_score, cut, judged_count
from generators.pictures import to_uint8, write_atomically
from generators.registry import open_run
from generators.training import Family
from nn.parallel import Threads, derive_rng

CHUNK = 500  # samples drawn at a time, to bound memory
FULL = 2000  # samples drawn under full captions, and as many under combinations never trained on
DRAWS = 40  # of each class's name, to see how they vary; fewer where there are many classes


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
        precision, recall = metrics.precision_recall(self.reading.features, self.fresh_features, threads=self.workers)
        ceilings = {"match_ceiling": accuracy(self.judge, self.test, self.threads)}
        if self.unseen is not None:
            ceilings["match_unseen_ceiling"] = accuracy(self.judge, self.unseen, self.threads)
        return {
            "judge": self.judge.weights_hash(),
            "fid_floor": metrics.frechet_distance(self.fresh_features, self.moments),
            "fid_noise": metrics.frechet_distance(self.judge.judge(noise, self.threads).features, self.moments),
            "precision_real": precision,
            "recall_real": recall,
            "sharpness_real": metrics.sharpness(self.test.images),
            **ceilings,
            **({"variety_real": self.mean_variety(self.test.images, self.test.labels)} if len(self.common) else {}),
        }

    @cached_property
    def common(self) -> np.ndarray:
        """The labels of which there are two test images or more, and so a distance between them."""
        labels, counts = np.unique(self.test.labels, return_counts=True)
        return labels[counts > 1]

    def mean_variety(self, images: np.ndarray, labels: np.ndarray) -> float:
        """`metrics.variety` of the images of one class, the mean over the common classes."""
        return float(np.mean([metrics.variety(images[labels == label]) for label in self.common]))


@lru_cache(maxsize=8)
def real_score(reference: Reference, count: int) -> float:
    """The accuracy score of `count` real images that the judge has not seen."""
    fresh = cut(reference.fresh, 0, count)
    return accuracy_score(fresh.images, fresh.labels, reference.test, reference.threads or Threads())


def evaluate(
    family: Family,
    reference: Reference,
    seed: int = 0,
    options: Mapping | None = None,
    score: bool = False,
    progress: Callable = iter,
) -> dict:
    """Every figure that a family can be given, as a dict of JSON values; those of `reference.figures` are beside them.

    options: for the family's `sample`. score: also the classification accuracy score, which trains a classifier.
    progress: wraps the loop over chunks of samples.
    """
    test, judge, count = reference.test, reference.judge, reference.samples
    rng = derive_rng(seed, "evaluate")
    # Every test image's caption once, or as evenly as the count allows: the frequencies are the data's own.
    indices = np.concatenate([rng.permutation(len(test)) for _ in range(-(-count // len(test)))])[:count]
    captions = test.captions(indices, rng)
    start = time.perf_counter()
    images = draw(family, captions, seed, reference.threads, options, progress)
    seconds = time.perf_counter() - start
    reading = judge.judge(images, reference.threads)
    asked = judge.asked(captions)
    precision, recall = metrics.precision_recall(
        reference.reading.features, reading.features, threads=reference.workers
    )
    fid = metrics.frechet_distance(reading.features, reference.moments)
    figures = {
        "family": family.name,
        "parameters": family.parameter_count(),
        "samples": count,
        "sampling_seconds": seconds,
        "fid": fid,
        "fid_ratio": fid / reference.figures["fid_floor"],
        "precision": precision,
        "recall": recall,
        "sharpness": metrics.sharpness(images),
        **metrics.copying(
            metrics.nearest(images, reference.seen, reference.workers)[0], reference.test_distances
        ),
        "match": metrics.caption_match(reading.values, asked),
    }
    for name, dataset in (("match_full", test), ("match_unseen", reference.unseen)):
        if dataset is not None and dataset.attributes:
            full = dataset.captions(np.arange(min(FULL, count, len(dataset))))
            painted = draw(family, full, seed + 1, reference.threads, options, progress)
            figures[name] = metrics.caption_match(judge.judge(painted, reference.threads).values, judge.asked(full))
    if len(reference.common):
        labels = np.repeat(reference.common, max(2, min(DRAWS, FULL // len(reference.common))))
        names = [test.classes[label] for label in labels]
        painted = draw(family, names, seed + 2, reference.threads, options, progress)
        figures["variety"] = reference.mean_variety(painted, labels)
    if hasattr(family, "likelihood_figures"):
        figures |= family.likelihood_figures(test, seed, reference.threads)
    labels = asked[judge.config.names[0]]
    named = np.flatnonzero(labels >= 0)[: len(reference.fresh)]  # some captions leave the class open
    if score and len(named):
        threads = reference.threads or Threads()
        figures["accuracy_score"] = accuracy_score(images[named], labels[named], test, threads)
        figures["accuracy_score_real"] = real_score(reference, len(named))
    return figures | reference.figures


def draw(
    family: Family,
    captions: list[str],
    seed: int,
    threads: Threads | None = None,
    options: Mapping | None = None,
    progress: Callable = iter,
) -> np.ndarray:
    """One sample for each caption, uint8 (N, H, W, C), drawn in chunks with a generator each."""
    chunks = [
        to_uint8(
            family.sample(captions[start : start + CHUNK], derive_rng(seed, "samples", start), threads, **options or {})
        )
        for start in progress(range(0, len(captions), CHUNK))
    ]
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
    titles = {"match": "caption match", "match_full": "full captions", "match_unseen": "never seen"}
    for key, title in titles.items():
        ceiling = figures.get("match_unseen_ceiling" if key == "match_unseen" else "match_ceiling", {})
        shares = figures.get(key, {})
        for name, share in shares.items():
            if name == "all" and len(shares) == 2:
                continue  # of a single thing to read, all is that thing
            lines.append((f"{title}: {name}", f"{share:.1%}", f"{ceiling[name]:.1%}" if name in ceiling else ""))
    for key, title in (("bits_per_dimension", "bits per dimension"), ("nats", "log-likelihood bound, nats")):
        if key in figures:
            lines.append((title, f"{figures[key]:.3f}", ""))
    if "accuracy_score" in figures:
        lines.append(("accuracy score", f"{figures['accuracy_score']:.1%}", f"{figures['accuracy_score_real']:.1%}"))
    return lines


def command(options: Namespace) -> int:
    """`inkling evaluate RUN`: the figures as a table, and as JSON where asked."""
    from generators.cli import UsageError
    from generators.commands import data_name

    family, meta = open_run(options.run)
    if not hasattr(family, "sample"):
        raise UsageError(f"{options.run} holds a {family.name}, which makes no images to evaluate")
    data = data_name(meta)
    folder = Path(options.judge or f"runs/classifier-{Path(data).name}")
    if not folder.exists():
        advice = f"inkling train classifier --data {data} --out {folder}"
        raise UsageError(f"there is no judge in {folder}; train one first: {advice}")
    judge, _ = open_run(folder)
    if not isinstance(judge, Classifier):
        raise UsageError(f"{folder} holds a {judge.name}, not a classifier, so it cannot judge")
    if judge.image_shape != family.image_shape:
        raise UsageError(f"the judge in {folder} reads images of {judge.image_shape}, not {family.image_shape}")
    threads = Threads(options.threads)
    training, test = datasets.load(data, "train"), datasets.load(data, "test")
    unseen = datasets.load(data, "unseen") if data == "digits" else None
    if options.n > len(test):
        print(f"There are {len(test):,} test images, so as many samples are drawn, not {options.n:,}.")
    plan = meta.get("plan")
    limit = plan.get("limit") if isinstance(plan, dict) else None
    reference = Reference(
        judge, training, test, unseen, threads,
        count=min(options.n, len(test)), limit=limit if type(limit) is int and limit > 0 else None,
    )  # fmt: skip
    progress = partial(tqdm, desc="sampling", unit="block", leave=False)
    try:
        figures = evaluate(family, reference, options.seed, progress=progress)
    except metrics.MetricError as error:
        raise UsageError(f"{options.run} cannot be evaluated: {error}") from error
    lines = [("", family.name, "real images"), *summary(figures)]
    width = max(len(name) for name, *_ in lines)
    for name, value, real in lines:
        print(f"{name:<{width}}  {value:>12}  {real:>12}")
    reading = figures["match_ceiling"][judge.config.names[0]]
    print(f"\nJudge {figures['judge']}: reads {reading:.2%} of the test images rightly.")
    if options.json:
        write_atomically(options.json, (json.dumps(figures, indent=2) + "\n").encode())
    return 0
