"""What can be done with a family that reads noise off an image and paints the image of a noise: once for all of them.

    encode(images, captions, threads=None, **options) -> noise z (N, ...)       what the captions leave out
    decode(z, captions, threads=None, **options) -> images (N, H, W, C) in [0, 1]

An image's noise under its own caption gives the image back (`reconstruct`); a way between two noises is one between two
images (`interpolate`); under another caption the same noise is the image edited (`edit`).  All three refuse images
and captions as `Family.understood` does.
"""

import numpy as np

from nn.parallel import Threads, map_shards


class AutoEncode:
    """Mixin for families that have, for the images of a shard and tokens (n, L) of their captions,

        to_noise(images, tokens, **options) -> z            to_images(z, tokens, **options) -> images

    both of as many examples as a shard has.
    """

    processes = False  # whether these take seconds, so that they are worth processes (`map_shards`)

    def encode(
        self, images: np.ndarray, captions: list[str], threads: Threads | None = None, **options
    ) -> np.ndarray:
        """The noise z (N, ...) of images (N, H, W, C) under these captions."""
        tokens = self.vocabulary.encode(captions)
        read = lambda part: self.to_noise(images[part], tokens[part], **options)  # noqa: E731
        return map_shards(read, len(images), threads, self.processes)

    def decode(self, z: np.ndarray, captions: list[str], threads: Threads | None = None, **options) -> np.ndarray:
        """The images (N, H, W, C) in [0, 1] of noise z under these captions."""
        tokens = self.vocabulary.encode(captions)
        paint = lambda part: self.to_images(z[part], tokens[part], **options)  # noqa: E731
        return map_shards(paint, len(z), threads, self.processes)

    def reconstruct(
        self, images: np.ndarray, captions: list[str], threads: Threads | None = None, **options
    ) -> np.ndarray:
        """The images (N, H, W, C) after the way into noise and back; options: of both, such as diffusion's steps."""
        captions = self.understood(captions, images)
        return self.decode(self.encode(images, captions, threads, **options), captions, threads, **options)

    def interpolate(
        self, first: np.ndarray, second: np.ndarray, captions: list[str], steps: int, threads: Threads | None = None
    ) -> np.ndarray:
        """From each first image to its second, both under its caption, in `steps` pictures: (steps, N, H, W, C)."""
        captions = self.understood(captions, first, second)
        start, end = self.encode(first, captions, threads), self.encode(second, captions, threads)
        path = np.concatenate([self.between(start, end, fraction) for fraction in np.linspace(0, 1, steps).tolist()])
        return self.decode(path, captions * steps, threads).reshape(steps, *first.shape)

    def between(self, start: np.ndarray, end: np.ndarray, fraction: float) -> np.ndarray:
        """The noise at this fraction of the way, a straight line unless a family says otherwise."""
        return start + fraction * (end - start)

    def edit(
        self, images: np.ndarray, captions: list[str], wanted: list[str], threads: Threads | None = None, **emphasis
    ) -> np.ndarray:
        """The images (N, H, W, C), described by `captions`, as `wanted` has them: the same noise, another caption.

        emphasis: `guidance`, for families that have one (`edit_options`).  Under it an image would not come back as it
            was, so where the captions say the same it stays as it is.
        """
        captions, wanted = self.understood(captions, images), self.understood(wanted, images)
        reading, painting = self.edit_options(**emphasis)
        edited = self.decode(self.encode(images, captions, threads, **reading), wanted, threads, **painting)
        if not painting:
            return edited
        asked = np.array([old != new for old, new in zip(captions, wanted, strict=True)])
        return np.where(asked[:, None, None, None], edited, images)

    def edit_options(self) -> tuple[dict, dict]:
        """The options of `encode` and of `decode` for an edit."""
        return {}, {}
