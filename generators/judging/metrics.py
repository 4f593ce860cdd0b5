"""How good, how varied, how new: figures for generated images, in NumPy alone and in float64.

Most compare two clouds of points, features (N, D) that a judge read off images: `frechet_distance` says how far apart
the clouds are, `precision_recall` whether it is the samples that are bad or the variety that is missing, and
`nearest` whether the samples are merely copies. None of them knows where its features come from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from generators.errors import Refusal
from nn.parallel import Threads

BLOCK = 2**22  # numbers in a block of distances: 32 MB in float64, for each thread


class MetricError(Refusal):
    """A figure was asked of arrays that cannot give it; the message is one sentence."""


# Distance between clouds


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and covariance (D, D) of a cloud, all that the Fréchet distance looks at."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        features = _cloud(features, at_least=2)
        return cls(features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False)))


def frechet_distance(a: Moments | np.ndarray, b: Moments | np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): the squared 2-Wasserstein distance of two Gaussians.

    On features of a judge this is the FID (Heusel et al. 2017, eq. 6). The trace of the root is taken of the symmetric
    C_a^(1/2) C_b C_a^(1/2), which has the same eigenvalues, so that no complex number appears where a covariance is
    singular. Takes features (N, D) or their `Moments`; raises MetricError where the two differ in D.
    """
    a, b = (cloud if isinstance(cloud, Moments) else Moments.of(cloud) for cloud in (a, b))
    if a.mean.shape != b.mean.shape:
        raise MetricError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions cannot be compared")
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b.covariance @ root), 0))
    shift = a.mean - b.mean
    return float(max(0, shift @ shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * roots.sum()))


def precision_recall(
    real: np.ndarray, generated: np.ndarray, k: int = 3, threads: Threads | None = None
) -> tuple[float, float]:
    """(share of samples that look real, share of reality that the samples reach), by k-nearest-neighbour manifolds.

    A cloud's manifold is the union of balls around its points, each reaching to the point's k-th neighbour
    (Kynkäänniemi et al. 2019, eq. 1 and 2). Blurred samples lose precision; a collapsed generator loses recall.
    """
    real, generated = _cloud(real, k + 1), _cloud(generated, k + 1)
    return _share_inside(generated, real, k, threads), _share_inside(real, generated, k, threads)


def _radii(cloud: np.ndarray, k: int, threads: Threads | None) -> np.ndarray:
    """(N,) squared distance of each point to its k-th nearest other point."""

    def reach(points: np.ndarray) -> np.ndarray:
        # Column k, counting from 0, since each point is its own nearest; a copy, for a view would keep the whole block.
        squares = _squared(points, cloud)
        squares.partition(k, axis=1)
        return squares[:, k].copy()

    return _by_blocks(reach, cloud, cloud, threads)


def _share_inside(points: np.ndarray, cloud: np.ndarray, k: int, threads: Threads | None) -> float:
    """The share of points that lie in any of the cloud's balls."""
    radii = _radii(cloud, k, threads)
    return float(_by_blocks(lambda part: (_squared(part, cloud) <= radii).any(axis=1), points, cloud, threads).mean())


# Copies


def nearest(
    queries: np.ndarray, references: np.ndarray, threads: Threads | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each query image the Euclidean distance to its nearest reference, and that one's index: (N,) and (N,).

    Images of any shape (N, ...), uint8 (read as 0 to 1) or float. The search runs in float32; the distance is then
    taken anew in float64 from the pixels themselves, so that an exact copy scores exactly 0.
    """
    a, b = _unit(queries, np.float32), _unit(references, np.float32)
    if a.shape[1] != b.shape[1]:
        raise MetricError(f"images of shape {queries.shape[1:]} and {references.shape[1:]} cannot be compared")
    lengths = np.einsum("nd,nd->n", b, b)

    def search(part: np.ndarray) -> np.ndarray:
        scores = part @ b.T  # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, and |a|^2 is the same for every b
        scores *= -2
        scores += lengths
        return scores.argmin(axis=1)

    indices = _by_blocks(search, a, b, threads)
    distances = np.empty(len(a))
    for start in range(0, len(a), 1024):
        part = slice(start, start + 1024)
        difference = _unit(queries[part]) - _unit(references[indices[part]])
        distances[part] = np.sqrt(np.einsum("nd,nd->n", difference, difference))
    return distances, indices


def copying(samples: np.ndarray, unseen: np.ndarray) -> dict[str, float]:
    """Whether samples lie nearer to the training images than unseen real images do; both are distances of `nearest`.

    Returns the means and `copies`: the share of samples nearer than all but one in a hundred unseen images.
    Independent draws from the same distribution score 0.01; a generator that repeats the training set scores 1. A
    blurred image is near to many: to be read beside precision.
    """
    return {
        "nearest_mean": float(samples.mean()),
        "nearest_mean_test": float(unseen.mean()),
        "copies": float((samples < np.quantile(unseen, 0.01)).mean()),
    }


# Meaning


def caption_match(read: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How often a judge reads in the images what their captions asked for.

    `read` and `asked` map an attribute's name to values (N,); -1 in `asked` where the caption is silent. Returns the
    share that matches for each attribute over the captions that state it, and `all`: of images that have
    everything their caption states.
    """
    everything = np.ones(len(next(iter(asked.values()))), dtype=bool)
    match = {}
    for name, wanted in asked.items():
        stated = wanted >= 0
        right = read[name] == wanted
        everything &= right | ~stated
        if stated.any():
            match[name] = float(right[stated].mean())
    return match | {"all": float(everything.mean())}


# Pixels


def sharpness(images: np.ndarray) -> float:
    """Root mean square of the difference between neighbouring pixels, images (N, H, W, C); a blur lowers it.

    Noise raises it, so it is to be read beside the same figure for real images.
    """
    pixels = _unit(images).reshape(images.shape)
    across, down = np.diff(pixels, axis=2), np.diff(pixels, axis=1)
    return float(np.sqrt(((across**2).mean() + (down**2).mean()) / 2))


def variety(images: np.ndarray) -> float:
    """How far two images (N, H, W, C) of a set lie apart: the root mean square of their Euclidean distance.

    Of many answers to one caption it says whether the noise decides anything: 0 if they are all the same picture. FID
    and recall look at the answers to all captions together, and so cannot tell this fault from others.
    """
    if len(images) < 2:
        raise MetricError("variety is a distance between images, and there are fewer than two")
    return float(np.sqrt(2 * _unit(images).var(axis=0, ddof=1).sum()))  # E |a - b|^2 = 2 E |a - mean|^2


# Blocks


def _cloud(features: np.ndarray, at_least: int) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < at_least:
        raise MetricError(f"features must have shape (N, D) with N at least {at_least}, not {features.shape}")
    if not np.isfinite(features).all():
        raise MetricError("features hold a NaN or an infinity")
    return features


def _unit(images: np.ndarray, dtype=np.float64) -> np.ndarray:
    """(N, D) float in [0, 1]."""
    flat = images.reshape(len(images), -1).astype(dtype)
    return flat / 255 if images.dtype == np.uint8 else flat


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances (N, M) between points (N, D) and (M, D)."""
    squares = a @ b.T
    squares *= -2
    squares += np.einsum("nd,nd->n", a, a)[:, None]
    squares += np.einsum("nd,nd->n", b, b)
    return np.maximum(squares, 0, out=squares)


def _by_blocks(
    function: Callable[[np.ndarray], np.ndarray], points: np.ndarray, cloud: np.ndarray, threads: Threads | None
) -> np.ndarray:
    """`function` over blocks of `points`, small enough that a block of distances to `cloud` stays within bounds.

    Blocks do not depend on the number of threads, so the figures do not either.
    """
    size = max(1, BLOCK // len(cloud))
    blocks = [points[start : start + size] for start in range(0, len(points), size)]
    return np.concatenate((threads or Threads()).map(function, blocks))
