"""Films: the same denoising once more, by patches of space and time that look at one another.

A film is an image with one more axis, so it is cut into tubelets, a few frames deep, and denoised whole, every tubelet
seeing all others at all times (Ho et al. 2022; Brooks et al. 2024, on Sora).  The network is the transformer of
`dit.py`, the loss, guidance and samplers are those of `ddpm.py`, and only this is new:

    levels       each slice of tubelets may have a level of noise of its own (diffusion forcing; Chen et al. 2024).  One
                 that is clean is given: the same network then continues a film, or fills in its middle (`continue_`).
    times        frames repeat one another, and what is seen twelve times is seen through more noise than what is seen
                 once.  So what is to be learnt lies at higher levels of noise, by `noise_factor`.

Read on: `Transformer` in `dit.py`; films and their captions in `datasets/moving.py`; whether what comes out obeys the
law of motion in `judging/films.py`.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from datasets.dataset import Dataset
from generators.config import from_data, number
from generators.families.diffusion import process
from generators.families.diffusion.ddpm import OF_INK, Diffusion, to_unit
from generators.families.diffusion.dit import DiTConfig, Transformer
from generators.family import Shard
from generators.parts.blocks import is_ink
from generators.parts.guidance import drop_captions
from generators.parts.patches import check_size
from nn import functional as F
from nn.parallel import Threads, map_shards
from nn.tensor import Tensor

APART, GIVEN = 0.15, 0.25  # shares of training films whose slices differ in noise, and of which a part is given
TO_THE_END = 2 / 3  # of those given in part: how many are to be continued to the end


@dataclass(frozen=True)
class VideoConfig(DiTConfig):
    frames: int = from_data(12)
    span: int = number(3, least=1)  # frames in a tubelet, which have one level of noise
    batch_size: int = number(16, least=1)
    noise_factor: float = number(2.0, least=0.01, most=100)  # see `process.noisier`
    across_time: bool = True  # whether tubelets look at those before and after them


class Video(Diffusion):
    """Diffusion of films (N, T, H, W, C), of T frames."""

    name = "video"
    Config = VideoConfig

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        return (self.config.frames, *super().image_shape)

    def build_network(self, config: VideoConfig, rng: np.random.Generator) -> Transformer:
        check_size(self.name, config.image_size, config.patch, "patches of that size")
        if config.frames % config.span:
            raise ValueError(f"video: span must divide the films' {config.frames} frames; given {config.span}")
        patch = (config.span, config.patch, config.patch)
        return Transformer(config, self.image_shape, patch, rng, config.across_time)

    @classmethod
    def suited(cls, config: VideoConfig, dataset: Dataset) -> VideoConfig:
        return replace(config, **OF_INK) if is_ink(dataset.images[:100]) else config

    def draw_levels(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Times for the frames of `count` films, (count, T): mostly one for a whole film, at times one for each slice,
        and 0 for what is given of a film: all before the part that is to be painted, and at times what follows it."""
        config, slices = self.config, self.config.frames // self.config.span

        def draw(count: int) -> np.ndarray:
            t = process.draw_times(count, config.time_steps, rng, self.training_share)
            return process.noisier(t, config.noise_factor, self.alpha_bar)

        together = draw(count)[:, None]
        apart = draw(count * slices)[np.argsort(rng.random(count * slices))].reshape(count, slices)
        kind, onward, begin, end = rng.random((4, count, 1))
        begin = np.floor(begin * slices)
        end = np.where(onward < TO_THE_END, slices, begin + 1 + np.floor(end * (slices - begin)))
        number = np.arange(slices)
        given = (kind > 1 - GIVEN) & ((number < begin) | (number >= end))
        t = np.where(given, 0, np.where(kind < APART, apart, together))  # (count, slices)
        return np.repeat(t, config.span, axis=1)

    def loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """That of `Diffusion`, over the noisy frames of each film."""
        config, alpha_bar = self.config, self.alpha_bar
        x0 = shard.images * 2 - 1
        t = self.draw_levels(len(x0), rng)  # (n, T)
        eps = rng.standard_normal(x0.shape, dtype=np.float32).astype(x0.dtype)
        tokens = drop_captions(shard.tokens, config.caption_dropout, rng)

        x_t = process.q_sample(x0, t, eps, alpha_bar)
        target = process.training_target(x0, t, eps, alpha_bar, config.prediction)
        noisy = (t > 0)[..., None, None, None].astype(x0.dtype)  # (n, T, 1, 1, 1)
        errors = F.mse(self.network(Tensor(x_t), t, self.text(tokens)) * noisy, target * noisy)
        errors = errors * (1 / noisy.reshape(len(x0), -1).mean(axis=1))  # (n,), means over noisy frames alone

        return F.sum(errors) * (1 / shard.batch_size), {}

    def continue_(
        self, films: np.ndarray, captions: list[str], rng: np.random.Generator, given: int | Sequence[bool],
        threads: Threads | None = None, steps: int | None = None, guidance: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The films (N, T, H, W, C) in [0, 1] with the frames that are not given painted anew, under their captions.

        given: how many from the first on, or which, (T,) bool; those of a tubelet together; they come back as they are
        steps, guidance: as of `sample`
        """
        config, captions = self.config, self.understood(captions, films)
        known, span = np.arange(config.frames) < given if np.ndim(given) == 0 else np.array(given, bool), config.span
        whole = known.shape == (config.frames,) and (known == np.repeat(known[::span], span)).all()
        if not whole or known.all():
            raise ValueError(
                f"of {config.frames} frames, whole runs of {span} can be given, and not all of them; given {given}"
            )
        times, tokens, start = self.times(steps), self.vocabulary.encode(captions), self.noise(len(films), rng)
        clean, kept = films * 2 - 1, known[:, None, None, None]

        def paint(part: slice) -> np.ndarray:
            guess = self.denoiser(tokens[part], guidance)

            def predict_clean(x_t: np.ndarray, t: int) -> np.ndarray:
                guessed = guess(np.where(kept, clean[part], x_t), np.where(known, 0, t))
                return np.where(kept, clean[part], guessed)

            return process.sample(predict_clean, start[part], times, self.alpha_bar, second_order=True)

        painted = map_shards(paint, len(films), threads, processes=True)
        return np.where(kept, films, to_unit(painted))
