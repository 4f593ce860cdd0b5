"""Films: the same denoising once more, of what is shown and of how it moves.

The frames of a film show nearly the same, at different places.  So a film is first parted, without loss and as video
codecs do (`parted`): into what its frames show, shifted into the middle, and how far each has moved since the one
before.  Then both are denoised at once, under the same caption:

    what     frames that lie upon one another are one image with a channel for each frame: the U-Net of images paints
             it.  Where that is coarsest a pixel stands for a patch of space and time, and all patches look at one
             another (Ho et al. 2022; Brooks et al. 2024, on Sora).
    how      the transformer of `dit.py`, to which each frame's way is a patch.  It also sees where there is ink.

Why not the film as it is?  A digit then stands anywhere, and a denoiser that has yet to find out where does not learn
what it looks like: after 7,500 steps it drew a third of the digits that it was asked for (docs/films.md).

The loss, guidance and samplers are those of `ddpm.py`; beside the network only this is new:

    levels   each frame may have a level of noise of its own (diffusion forcing; Chen et al. 2024).  One that is clean
             is given: the same network then continues a film, or fills in its middle (`continue_`).
    times    what is seen in twelve frames is seen through more noise than what is seen once, so there is something to
             be learnt at higher levels of noise, too: up to `noise_factor` times as high.
    target   the image, not its noise: the frames are alike, but each has noise of its own, and a network would need as
             many channels as there are frames to carry it all through (Li and He 2025).

Read on: `UNet` in `unet.py`, `Transformer` in `dit.py`; films in `datasets/moving.py`; whether samples obey their law
in `bench/physics.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from generators.config import choice, from_data, number
from generators.families.diffusion import process
from generators.families.diffusion.ddpm import Diffusion, DiffusionConfig, to_unit
from generators.families.diffusion.dit import Transformer
from generators.families.diffusion.unet import UNet
from generators.family import OptimiserConfig, Shard
from generators.parts.guidance import drop_captions
from generators.parts.patches import check_size
from nn import functional as F
from nn.modules import Module
from nn.parallel import Threads, map_shards
from nn.tensor import Tensor

APART, GIVEN = 0.05, 0.15  # shares of training films whose frames differ in noise, and of which a part is given
TO_THE_END = 2 / 3  # of those given in part: how many are to be continued to the end


@dataclass(frozen=True)
class VideoConfig(DiffusionConfig):
    frames: int = from_data(12)
    widths: tuple[int, ...] = number((48, 128), least=8, multiple=8)  # channels at 14x14, 7x7
    blocks: int = number(2, least=1, most=100)  # residual blocks on the way up, at each size
    width: int = number(128, least=1)  # of the transformer: numbers in a frame's vector
    depth: int = number(2, most=100)  # and its blocks
    heads: int = number(4, least=1)  # of both
    batch_size: int = number(64, least=1)
    noise_factor: float = number(100.0, least=1, most=1000)  # the most; see `draw_levels`
    prediction: str = choice("image", "v", "noise", "velocity")
    across_time: bool = True  # whether frames see one another
    optimiser: OptimiserConfig = OptimiserConfig(rate=5e-3)  # at 2e-2 bounces were not learned (docs/films.md)


def parted(films: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """What a film shows and how it moves, as video codecs part them: (N, T, size, size, C) from -1 to 1 ->
    (N, T, size + 2, size, C).

    Each frame is shifted by whole pixels, what leaves on one side coming back on the other, so that the centre of its
    ink, what is bright, is in the middle.  Two rows below it, white on black, say how far down and right this centre is
    from that of the frame before, the first from the middle: at rest it is a point in the middle of the row.

    given: (N, T) bool, the frames that will be given.  From what is not given no way is known: the way of a frame that
        is leads from the last one before it that is given, or from the middle.
    """
    side = films.shape[2]
    ink, turn = films.mean(axis=-1) + 1, np.exp(2j * np.pi * np.arange(side) / side)  # (N, T, H, W)
    mass = np.stack([ink.sum(axis=axis) @ turn for axis in (3, 2)], axis=-1)
    # The mean on a circle, for what wraps around has ink at both borders; 0.501, for with 0.5 even digits flicker.
    centre = np.floor(np.angle(mass) * side / (2 * np.pi) + 0.501).astype(int)  # (N, T, 2)
    places = np.concatenate([np.full_like(centre[:, :1], side // 2), centre], axis=1)  # the middle, then every frame
    before = np.broadcast_to(np.arange(films.shape[1]), films.shape[:2])  # which of these places a way leads from
    if given is not None:
        last = np.maximum.accumulate(np.where(given, before + 1, 0), axis=1)
        before = np.where(given, np.pad(last, ((0, 0), (1, 0)))[:, :-1], before)
    away = centre - np.take_along_axis(places, before[..., None], axis=1)
    rows = np.where(np.arange(side) == ((away + side // 2) % side)[..., None], 1, -1)  # (N, T, 2, size)
    rows = np.broadcast_to(rows[..., None], (*rows.shape, films.shape[-1])).astype(films.dtype)
    return np.concatenate([shifted(films, side // 2 - centre), rows], axis=2)


def join(parts: np.ndarray) -> np.ndarray:
    """The inverse of `parted`; a way is where its row is brightest."""
    side = parts.shape[3]
    away = parts[:, :, -2:].mean(axis=-1).argmax(axis=-1) - side // 2  # (N, T, 2)
    return shifted(parts[:, :, :-2], np.cumsum(away, axis=1))


def shifted(films: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Films (N, T, H, W, C), each frame rolled by so many pixels, (N, T, 2), down and right."""
    n, frames, side = films.shape[:3]
    rows, columns = np.moveaxis((np.arange(side) - by[..., None]) % side, 2, 0)  # (N, T, size)
    film, frame = np.ogrid[:n, :frames]
    return films[film[..., None, None], frame[..., None, None], rows[..., None], columns[:, :, None]]


class FilmNetwork(Module):
    """x (N, T, H + 2, W, C), as from `parted`, t (N,) or (N, T), caption (N, features) -> the same shape as x.

    Without `across_time` each frame is a film of its own.
    """

    def __init__(self, config: VideoConfig, rng: np.random.Generator):
        size, heads, self.steps = config.image_size, config.heads, config.time_steps
        self.frames = config.frames if config.across_time else 1
        channels = self.frames * config.channels
        sizes = size, channels, config.widths, config.features
        self.what = UNet(*sizes, rng, config.blocks, heads, squeezed=True, seen=channels + self.frames)
        shape, patch = (self.frames, 2, size, 2 * config.channels), (1, 2, size)
        self.how = Transformer(shape, patch, config.width, config.depth, heads, config.features, rng)

    def __call__(self, x: Tensor, t: np.ndarray, caption: Tensor) -> Tensor:
        film, ways = x[:, :, :-2], x[:, :, -2:]
        return F.concat([self.paint(film, t, caption), self.move(ways, film, t, caption)], axis=2)

    def paint(self, x: Tensor, t: np.ndarray, caption: Tensor) -> Tensor:
        """What is shown, x (N, T, H, W, C).  Beside its frames the U-Net sees their levels of noise, as gray images."""
        film, t, caption = self.films(x, t, caption)
        n, frames, *size, channels = film.shape
        film = F.transpose(film, (0, 2, 3, 1, 4)).reshape(n, *size, frames * channels)
        levels = np.broadcast_to((t / self.steps)[:, None, None].astype(x.dtype), (n, *size, frames))
        film = self.what(F.concat([film, Tensor(levels)], axis=-1), t.max(axis=1), caption)
        return F.transpose(film.reshape(n, *size, frames, channels), (0, 3, 1, 2, 4)).reshape(*x.shape)

    def move(self, ways: Tensor, film: Tensor, t: np.ndarray, caption: Tensor) -> Tensor:
        """How it moves, ways (N, T, 2, W, C).  Beside them the transformer sees the mean of each row and column."""
        n, frames, _, *row = ways.shape
        ink = F.concat([F.mean(film, axis=axis).reshape(n, frames, 1, *row) for axis in (3, 2)], axis=2)
        seen = F.concat([ways, ink], axis=-1)  # (N, T, 2, W, 2 C)
        return self.how(*self.films(seen, t, caption)).reshape(*seen.shape)[..., : ways.shape[-1]]

    def films(self, x: Tensor, t: np.ndarray, caption: Tensor) -> tuple[Tensor, np.ndarray, Tensor]:
        """Cut into frames that are denoised together, each with a time and a caption: a film, or one frame of it."""
        t = np.broadcast_to(t.reshape(len(x), -1), x.shape[:2]).reshape(-1, self.frames)
        caption = (caption.reshape(len(x), 1, -1) * np.ones((1, len(t) // len(x), 1), x.dtype)).reshape(len(t), -1)
        return x.reshape(len(t), self.frames, *x.shape[2:]), t, caption


class Video(Diffusion):
    """Diffusion of films (N, T, H, W, C), of T frames."""

    name = "video"
    Config = VideoConfig

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        return (self.config.frames, *super().image_shape)

    def build_network(self, config: VideoConfig, rng: np.random.Generator) -> FilmNetwork:
        check_size(self.name, config.image_size, 2 ** len(config.widths), f"{len(config.widths)} widths")
        return FilmNetwork(config, rng)

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        frames, size, _, channels = self.image_shape
        return rng.standard_normal((count, frames, size + 2, size, channels), dtype=np.float32)

    def finished(self, x: np.ndarray) -> np.ndarray:
        return to_unit(join(x))

    def draw_levels(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Times for the frames of `count` films, (count, T): mostly one for a whole film, at times one for each frame,
        and 0 for what is given of a film: all before the part that is to be painted, and at times what follows it.

        Their noise over signal is 1 to `noise_factor` times that of images, all powers of it alike."""
        frames = self.config.frames

        def draw(count: int) -> np.ndarray:
            t = process.draw_times(count, self.config.time_steps, rng, self.training_share)
            return process.noisier(t, self.config.noise_factor ** rng.random(count), self.alpha_bar)

        together = draw(count)[:, None]
        apart = draw(count * frames)[np.argsort(rng.random(count * frames))].reshape(count, frames)
        kind, onward, begin, end = rng.random((4, count, 1))
        begin = np.floor(begin * frames)
        end = np.where(onward < TO_THE_END, frames, begin + 1 + np.floor(end * (frames - begin)))
        number = np.arange(frames)
        given = (kind > 1 - GIVEN) & ((number < begin) | (number >= end))
        return np.where(given, 0, np.where(kind < APART, apart, together))

    def loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """That of `Diffusion`, over frames with noise: of what is shown, and as much of how it moves."""
        count, frames = len(shard.images), self.config.frames
        some = -(-count * self.network.frames // frames)  # frame by frame, one film costs as much as twelve
        tokens = drop_captions(shard.tokens, self.config.caption_dropout, rng)
        t = self.draw_levels(some, rng)  # (n, T)
        x0 = parted(shard.images[:some] * 2 - 1, t == 0)
        eps = rng.standard_normal(x0.shape, dtype=np.float32).astype(x0.dtype)
        x_t = process.q_sample(x0, t, eps, self.alpha_bar)
        target = process.training_target(x0, t, eps, self.alpha_bar, self.config.prediction)
        noisy = (t > 0)[..., None, None, None].astype(x0.dtype)  # (n, T, 1, 1, 1)
        output, target = self.network(Tensor(x_t), t, self.text(tokens[:some])) * noisy, target * noisy
        what, how = (F.mse(output[:, :, rows], target[:, :, rows]) for rows in (slice(None, -2), slice(-2, None)))
        errors = (what + how) * (1 / noisy.reshape(some, frames).mean(axis=1))  # (n,), means over noisy frames alone
        return F.sum(errors) * (count / some / shard.batch_size), {}

    def continue_(
        self, films: np.ndarray, captions: list[str], rng: np.random.Generator, given: int | Sequence[bool],
        threads: Threads | None = None, steps: int | None = None, guidance: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The films (N, T, H, W, C) in [0, 1] with the frames that are not given painted anew, under their captions.

        given: how many from the first on, or which, (T,) bool, all but one gap; they come back as they are
        steps, guidance: as of `sample`
        """
        frames, captions = self.config.frames, self.understood(self.asked(captions, rng), films)
        known = np.arange(frames) < given if np.ndim(given) == 0 else np.array(given, bool)
        asked = np.flatnonzero(~known)
        if known.shape != (frames,) or not asked.size or np.ptp(asked) >= asked.size:
            raise ValueError(f"of {frames} frames one gap must be left to be painted; given {given}")
        times, tokens, start = self.times(steps), self.vocabulary.encode(captions), self.noise(len(films), rng)
        kept = known[:, None, None, None]
        clean = parted(films * 2 - 1, np.broadcast_to(known, films.shape[:2]))

        def paint(part: slice) -> np.ndarray:
            guess = self.denoiser(tokens[part], guidance)

            def predict_clean(x_t: np.ndarray, t: int) -> np.ndarray:
                guessed = guess(np.where(kept, clean[part], x_t), np.where(known, 0, t))
                return np.where(kept, clean[part], guessed)

            return process.sample(predict_clean, start[part], times, self.alpha_bar, second_order=True)

        painted = map_shards(paint, len(films), threads, processes=True)
        return np.where(kept, films, self.finished(painted))
