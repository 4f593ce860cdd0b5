"""Films: the same denoising once more, with patches of space and time that look at one another.

A film is an image with one more axis.  Cut into slices of a few frames it is a row of images, one channel for each
frame, and these go through the U-Net of images, each with the slices before and after it beside it.  Where it is
coarsest all of them meet: there each pixel stands for a patch of space and time, and all patches of a film look at one
another (Ho et al. 2022; Brooks et al. 2024, on Sora).
Why not patches throughout, as in `dit.py`?  A digit that moves stands anywhere, and a transformer has to learn each
stroke at each place anew; convolutions do not (Hoogeboom et al. 2023, who also put the transformer below the U-Net).

The loss, guidance and samplers are those of `ddpm.py`, and beside the network only this is new:

    levels       each slice may have a level of noise of its own (diffusion forcing; Chen et al. 2024).  One that is
                 clean is given: the same network then continues a film, or fills in its middle (`continue_`).
    times        frames repeat one another, and what is seen twelve times is seen through more noise than what is seen
                 once.  So there is more to be learnt at higher levels of noise, by `noise_factor`; but a network that
                 cannot yet follow a digit from slice to slice learns less there (docs/films.md).
    lessons      first single slices, and these at first in the middle, where a caption's digit is soon learned; then
                 wherever they are; then whole films (`loss`).

Read on: `UNet` in `unet.py`; films in `datasets/moving.py`; whether samples obey their law in `bench/physics.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from generators.config import from_data, number
from generators.families.diffusion import process
from generators.families.diffusion.ddpm import Diffusion, DiffusionConfig, to_unit
from generators.families.diffusion.unet import Bottom, UNet
from generators.family import Phase, Shard
from generators.parts.attention import TransformerBlock, each
from generators.parts.blocks import ResidualBlock
from generators.parts.guidance import drop_captions
from generators.parts.patches import check_size, squeeze, unsqueeze
from nn import functional as F
from nn import init
from nn.modules import Conv2d, Linear, Module
from nn.parallel import Threads, map_shards
from nn.tensor import Parameter, Tensor

APART, GIVEN = 0.15, 0.25  # shares of training films whose slices differ in noise, and of which a part is given
IN_THE_MIDDLE = 0.8  # of the clips' time: until when they are shown nearer to the middle than they are
TO_THE_END = 2 / 3  # of those given in part: how many are to be continued to the end


@dataclass(frozen=True)
class VideoConfig(DiffusionConfig):
    frames: int = from_data(12)
    span: int = number(3, least=1)  # frames in a slice, which have one level of noise
    widths: tuple[int, ...] = number((48, 128), least=8, multiple=8)  # channels at 14x14, 7x7
    blocks: int = number(2, least=1, most=100)  # residual blocks on the way up, at each size
    depth: int = number(2, most=100)  # blocks of attention at the coarsest size
    heads: int = number(4, least=1)
    batch_size: int = number(64, least=1)  # slices; at first of as many films, see `Video.loss`
    noise_factor: float = number(1.5, least=0.01, most=100)  # see `process.noisier`
    across_time: bool = True  # whether slices see one another: neighbours in convolutions, all in attention
    clips: float = number(0.5, most=1)  # share of the run, the first, that shows one slice of a film, see `Video.loss`


def toward_middle(clips: np.ndarray, share: float) -> np.ndarray:
    """Clips (N, T, size, size, C) from -1 to 1, each shifted as a whole, what leaves on one side coming back on the
    other, by so large a share of the way that would bring the centre of its ink, what is bright, into the middle.

    The centre is a mean on a circle, since what wraps around has ink at both borders.
    """
    ink = clips.mean(axis=(1, 4)) + 1  # (N, H, W)
    wave = np.exp(2j * np.pi * (np.arange(clips.shape[2]) - (clips.shape[2] - 1) / 2) / clips.shape[2])
    away = [np.angle(ink.sum(axis=axis) @ wave) * clips.shape[2] / (2 * np.pi) for axis in (2, 1)]  # pixels (N,)
    shifts = np.rint(-share * np.stack(away, axis=1)).astype(int)
    return np.stack([np.roll(clip, tuple(shift), axis=(1, 2)) for clip, shift in zip(clips, shifts, strict=True)])


class Meeting(Module):
    """The coarsest level, slices (N * S, h, w, width): layout, block, attention among a film's S h w patches, block.

    Both blocks see, beside a slice, the one before it and the one after, so that they convolve over time as well:
    how a digit goes on is the same wherever it is, and would have to be learnt for each place by attention alone.
    """

    def __init__(self, config: VideoConfig, shape: tuple[int, int, int], rng: np.random.Generator):
        width, self.shape, self.across = config.widths[-1], shape, config.across_time
        seen = 3 * width if self.across else width
        self.layout = Linear(config.features, shape[1] * shape[2] * Bottom.LAYOUT, rng)
        self.spread = Conv2d(Bottom.LAYOUT, seen, 1, rng)
        self.first = ResidualBlock(seen, width, config.features, rng)
        parts = (init.normal((*np.where(np.arange(3) == axis, shape, 1), width), rng) for axis in range(3))
        self.place = Parameter(sum(parts).reshape(-1, width) * np.float32(3**-0.5))  # begins as when + row + column
        self.blocks = [TransformerBlock(width, config.heads, config.features, rng) for _ in range(config.depth)]
        self.second = ResidualBlock(seen, width, config.features, rng)

    def __call__(self, x: Tensor, condition: Tensor, shown: slice) -> Tensor:
        """shown: which of a film's slices are there, all or some in a row; each film of x has those."""
        place = self.place.reshape(self.shape[0], -1, x.shape[-1])[shown]  # (slices shown, h * w, width)
        layout = self.layout(condition).reshape(len(x), *self.shape[1:], Bottom.LAYOUT)
        seen = around(x, len(place)) if self.across else x
        x = self.first(seen + self.spread(layout), condition)
        h = x.reshape(-1, *place.shape) + place
        h = h.reshape(-1, (len(place) if self.across else 1) * place.shape[1], x.shape[-1])  # those that meet
        for block in self.blocks:
            h = block(h, condition)
        h = h.reshape(*x.shape)
        return self.second(around(h, len(place)) if self.across else h, condition)


def around(x: Tensor, slices: int) -> Tensor:
    """(N * S, h, w, C) -> (N * S, h, w, 3 * C): the slice before, zeros for none, itself, and the next."""
    film = x.reshape(-1, slices, *x.shape[1:])
    none = Tensor(np.zeros_like(film.data[:, :1]))
    before, after = F.concat([none, film[:, :-1]], axis=1), F.concat([film[:, 1:], none], axis=1)
    return F.concat([before, film, after], axis=-1).reshape(*x.shape[:-1], -1)


class FilmNetwork(Module):
    """x (N, T, H, W, C), t (N,), or (N, T) with the same in each slice, caption (N, features) -> (N, T, H, W, C).

    T may be fewer frames than a film's, whole slices in a row, of which the first is number `first`.
    """

    def __init__(self, config: VideoConfig, rng: np.random.Generator):
        slices, widths, self.span = config.frames // config.span, config.widths, config.span
        self.across, channels = config.across_time, config.span * config.channels
        self.order = Parameter(init.normal((slices, config.features), rng))  # tells each slice which it is
        side = config.image_size // 2 ** len(widths)
        self.slices = UNet(
            config.image_size, channels, widths, config.features, rng, config.blocks, squeezed=True,
            bottom=Meeting(config, (slices, side, side), rng), seen=3 * channels if self.across else None,
        )  # fmt: skip

    def __call__(self, x: Tensor, t: np.ndarray, caption: Tensor, first: int = 0) -> Tensor:
        shown = slice(first, first + x.shape[1] // self.span)
        order = self.order[shown]
        times = np.broadcast_to(t.reshape(len(x), -1)[:, :: self.span], (len(x), len(order))).reshape(-1)
        captions = (each(caption) + order).reshape(len(times), -1)
        film = squeeze(x, (self.span, 1, 1))  # (N, S, H, W, span * C)
        seen = film.reshape(len(times), *film.shape[2:])
        slices = self.slices(around(seen, len(order)) if self.across else seen, times, captions, shown)
        return unsqueeze(slices.reshape(*film.shape), (self.span, 1, 1))


class Video(Diffusion):
    """Diffusion of films (N, T, H, W, C), of T frames."""

    name = "video"
    Config = VideoConfig

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        return (self.config.frames, *super().image_shape)

    def build_network(self, config: VideoConfig, rng: np.random.Generator) -> FilmNetwork:
        check_size(self.name, config.image_size, 2 ** len(config.widths), f"{len(config.widths)} widths")
        if config.frames % config.span:
            raise ValueError(f"video: span must divide the films' {config.frames} frames; given {config.span}")
        return FilmNetwork(config, rng)

    def draw_levels(self, count: int, rng: np.random.Generator, slices: int) -> np.ndarray:
        """Times for the frames of `count` films of so many slices, (count, T): mostly one for a whole film, at times
        one for each slice, and 0 for what is given of a film: all before the part that is to be painted, and at times
        what follows it."""
        config = self.config

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

    def phases(self, step: int) -> list[Phase]:
        done = step / self.total_steps
        return [Phase("video", self.parameters(), lambda *given: self.loss(*given, done), self.config.optimiser)]

    def loss(self, shard: Shard, rng: np.random.Generator, done: float = 1) -> tuple[Tensor, dict[str, float]]:
        """That of `Diffusion`, over the noisy frames of each film; done: the share of the run that lies behind.

        What a caption says can be seen in a few frames.  So a step of the first part of a run shows one slice of each
        film, and later, at the same cost, all slices of some: it is then known what the words mean, and what is left to
        learn is how slices go together.  And what "seven" looks like is learned sooner where each seven stands at the
        same place: the first slices are shifted into the middle, later ones less and less (docs/films.md).
        """
        config, alpha_bar = self.config, self.alpha_bar
        whole = config.frames // config.span
        slices = 1 if done < config.clips else whole
        first = int(rng.random() * (whole - slices + 1))
        count = -(-len(shard.images) // slices)
        x0 = shard.images[:count, first * config.span : (first + slices) * config.span] * 2 - 1
        t = self.draw_levels(count, rng, slices)  # (n, T)
        if slices < whole:
            x0 = toward_middle(x0, max(0, 1 - done / (IN_THE_MIDDLE * config.clips)))
        eps = rng.standard_normal(x0.shape, dtype=np.float32).astype(x0.dtype)
        tokens = drop_captions(shard.tokens[:count], config.caption_dropout, rng)

        x_t = process.q_sample(x0, t, eps, alpha_bar)
        target = process.training_target(x0, t, eps, alpha_bar, config.prediction)
        noisy = (t > 0)[..., None, None, None].astype(x0.dtype)  # (n, T, 1, 1, 1)
        errors = F.mse(self.network(Tensor(x_t), t, self.text(tokens), first) * noisy, target * noisy)
        errors = errors * (1 / noisy.reshape(len(x0), -1).mean(axis=1))  # (n,), means over noisy frames alone

        return F.sum(errors) * (len(shard.images) / count / shard.batch_size), {}

    def continue_(
        self, films: np.ndarray, captions: list[str], rng: np.random.Generator, given: int | Sequence[bool],
        threads: Threads | None = None, steps: int | None = None, guidance: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The films (N, T, H, W, C) in [0, 1] with the frames that are not given painted anew, under their captions.

        given: how many from the first on, or which, (T,) bool; those of a slice together; they come back as they are
        steps, guidance: as of `sample`
        """
        config, captions = self.config, self.understood(self.asked(captions, rng), films)
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
