"""The diffusion model: one denoiser, used again and again, turns noise into a picture.

To paint a picture at one stroke is hard; to make a slightly noisy picture slightly cleaner is easy.  So take real
images, add noise of every strength from "hardly any" to "nothing else left", and train one network to tell, from the
noisy image, the strength and the caption, what the noise is (or, by default, v, from which noise and image follow):

    training      x_t = sqrt(ab_t) x_0 + sqrt(1 - ab_t) eps         network(x_t, t, caption) ~ eps
    generating    x_T = pure noise,  then x_T -> ... -> x_t -> ... -> x_0,  each time with a little less noise

The squared error of that guess, averaged over t, is a weighted bound on the log-likelihood (Ho et al. 2020, eq. 14),
so this plain regression trains a generative model.  Why is it not a blur, as other regressions from captions to pixels
are?  The first guess, from pure noise, *is* the blurred average of all images that fit the caption.  But only a small
step is taken towards it, then the network looks again at an image that is a little more definite.  What the caption
leaves open is decided by the noise.

Where to read on:
    process.py    the mathematics: schedule, noising, one step back, the samplers, inversion
    unet.py       the network
    here          the loss (`Diffusion.loss`), guidance (`Diffusion.denoiser`), and what can be done with a model

Sources: Sohl-Dickstein et al. 2015; Ho et al. 2020 (DDPM); Song et al. 2021 (DDIM); Nichol and Dhariwal 2021 (cosine
schedule); Ho and Salimans 2022 (guidance), Kynkaanniemi et al. 2024 (where); Salimans and Ho 2022 (v-prediction);
Lipman et al. 2023 (flow matching); Lu et al. 2022b (DPM-Solver++) and Zhao et al. 2023 (UniPC), for few steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from datasets.dataset import Dataset
from generators.config import choice, number
from generators.families.diffusion import process
from generators.families.diffusion.bound import bits_bound, bounds_of_captions
from generators.families.diffusion.unet import UNet
from generators.family import Family, FamilyConfig, OptimiserConfig, Shard
from generators.parts.autoencode import AutoEncode
from generators.parts.blocks import is_ink
from generators.parts.guidance import drop_captions, guide
from generators.parts.patches import check_size
from generators.parts.text import TextEncoder
from nn import functional as F
from nn.modules import Module
from nn.parallel import Threads, derive_rng, map_shards
from nn.tensor import Tensor

SAMPLING_STEPS = 50  # unless told otherwise
MAX_GUESS = 2.0  # of a pixel's absolute value in a guess while sampling, with images from -1 to 1


@dataclass(frozen=True)
class DiffusionConfig(FamilyConfig):
    """What every diffusion model has, whatever its network."""

    batch_size: int = number(64, least=1)
    features: int = number(96, least=2, multiple=2)  # numbers in the embedding of time and caption
    time_steps: int = number(1000, least=1)  # T
    training_times: str = choice("even", "middle")  # which are trained on most, see `process.middle_share`
    schedule: str = choice("cosine", "straight")  # how an image fades, see `process.straight_alpha_bar`
    prediction: str = choice("v", "noise", "velocity", "image")  # asked of the network, see `process.training_target`
    caption_dropout: float = number(0.1, most=1)  # share of training captions left empty, for guidance
    guidance: float = number(2.0, least=-100, most=100)  # of sampling: how strictly the caption is followed
    edit_guidance: float = number(3.0, least=-100, most=100)  # of painting an image again under another caption
    # Of noise over signal, between which guidance acts: see `weight_at`.
    guided_levels: tuple[float, float] = number((0.15, 10.0), least=1e-6, length=(2, 2))
    optimiser: OptimiserConfig = OptimiserConfig(rate=2e-2)


@dataclass(frozen=True)
class DDPMConfig(DiffusionConfig):
    widths: tuple[int, ...] = number((32, 64, 128), least=8, multiple=8)  # channels at 28x28, 14x14, 7x7
    squeezed: bool = False  # whether the network works on 2x2 pixels at a time: the widths then begin at 14x14
    blocks: int = number(2, least=1, most=100)  # residual blocks on the way up, at each size
    heads: int = number(4, least=1)  # of the attention at the coarsest size


# Ink has no texture, and its captions say more: training mostly on the middle of the noise, and more guidance, also at
# higher noise, where size and slant are decided.
OF_INK = {"training_times": "middle", "guidance": 5.0, "edit_guidance": 5.0, "guided_levels": (0.15, 150.0)}


class Fresh:
    """Noise for several images, each from a generator of its own, so that none depends on how many there are."""

    def __init__(self, rngs: list[np.random.Generator]):
        self.rngs = rngs

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.stack([rng.standard_normal(shape[1:]) for rng in self.rngs])


class Diffusion(Family):
    """A network that denoises, and how it learns and paints.  Images are in [0, 1] outside and in [-1, 1] inside."""

    phase = "ddpm"
    of_ink = OF_INK  # the settings that suit it

    @classmethod
    def suited(cls, config: DiffusionConfig, dataset: Dataset) -> DiffusionConfig:
        return replace(config, **cls.of_ink) if is_ink(dataset.images) else config

    def __init__(self, config: DiffusionConfig, rng: np.random.Generator):
        super().__init__(config)
        levels = config.guided_levels
        if not levels[0] < 0.99 * levels[1]:
            raise ValueError(
                f"{self.name}: guided_levels are a lower and a higher level of noise over signal, such as (0.15, 10); "
                f"given {levels}"
            )
        self.text = TextEncoder(len(self.vocabulary), config.features, rng)
        self.network = self.build_network(config, rng)

    def build_network(self, config: DiffusionConfig, rng: np.random.Generator) -> Module:
        """The denoiser: (x_t (N, H, W, C), t (N,), caption (N, features)) -> (N, H, W, C)."""
        raise NotImplementedError

    @property
    def training_share(self) -> np.ndarray | None:
        """The `share` of `process.draw_times`: which times are trained on."""
        config = self.config
        return process.middle_share(config.time_steps, config.schedule) if config.training_times == "middle" else None

    @property
    def alpha_bar(self) -> np.ndarray:
        """ab_0 .. ab_T, float64 (T + 1,)."""
        return process.schedule(self.config.time_steps, self.config.schedule)

    # --- training ----------------------------------------------------------------------------------------------------

    def loss(self, shard: Shard, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The squared error of the network's guess at random times (Ho et al. 2020, algorithm 1)."""
        config, alpha_bar = self.config, self.alpha_bar
        x0 = shard.images * 2 - 1
        t = process.draw_times(len(x0), config.time_steps, rng, self.training_share)
        eps = rng.standard_normal(x0.shape, dtype=np.float32).astype(x0.dtype)
        tokens = drop_captions(shard.tokens, config.caption_dropout, rng)

        x_t = process.q_sample(x0, t, eps, alpha_bar)
        target = process.training_target(x0, t, eps, alpha_bar, config.prediction)
        errors = F.mse(self.network(Tensor(x_t), t, self.text(tokens)), target)  # (n,)

        return F.sum(errors) * (1 / shard.batch_size), {}

    # --- generating --------------------------------------------------------------------------------------------------

    def denoiser(self, tokens: np.ndarray, guidance: float | None, clip: bool = True) -> process.PredictClean:
        """The function (x_t, t) -> guess of x_0 that the samplers ask for, for images with these captions.

        guidance: see `weight_at`; 0 ignores the captions, 1 follows them as learned; None: as the config says
        clip: keep the guess within MAX_GUESS, for at the highest noise a guess read off the noise is divided by nearly
            0.  Not within [-1, 1]: guidance goes beyond, and what is cut there is missing later (docs/notebook.md).  A
            guess that was cut cannot be inverted.
        """
        guidance = self.config.guidance if guidance is None else guidance
        conditional, unconditional = self.text(tokens), self.text(np.zeros_like(tokens))

        def predict_clean(x_t: np.ndarray, t: int | np.ndarray) -> np.ndarray:
            x, times = Tensor(x_t), np.full((len(x_t), *np.shape(t)), t)  # t (T,): of a film, one for each frame
            weight = weight_at(guidance, float(self.alpha_bar[np.max(t)]), self.config.guided_levels)
            under = partial(self.network, x, times)
            if weight in (0, 1):
                output = under(conditional if weight else unconditional).data
            else:
                output = guide(under(unconditional).data, under(conditional).data, weight)
            x0 = process.clean_image(output, x_t, times, self.alpha_bar, self.config.prediction)
            return np.clip(x0, -MAX_GUESS, MAX_GUESS) if clip else x0

        return predict_clean

    def times(self, steps: int | None) -> list[int]:
        """The times that a sampler visits in so many steps; None: in SAMPLING_STEPS, or in all T if those are fewer."""
        total = self.config.time_steps
        return process.time_steps(total, min(SAMPLING_STEPS, total) if steps is None else steps)

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """x_T for `count` images, (count, H, W, C)."""
        return rng.standard_normal((count, *self.image_shape), dtype=np.float32)

    def sample(
        self, captions: list[str], rng: np.random.Generator, threads: Threads | None = None, steps: int | None = None,
        guidance: float | None = None, eta: float = 0.0,
    ) -> np.ndarray:  # fmt: skip
        """One new image per caption, (N, H, W, C) in [0, 1].

        steps: how many times the network is used, up to T (None: see `times`)
        guidance: how strictly the caption is followed: the largest weight of `weight_at` (None: as the config says)
        eta: how much of the noise is drawn anew at each step: 0 none (DDIM, here with second-order steps), 1 as much
             as the noising adds (the ancestral sampler of Ho et al. 2020)
        """
        times, captions = self.times(steps), self.asked(captions, rng)
        tokens, start = self.vocabulary.encode(captions), self.noise(len(captions), rng)
        rngs = rng.spawn(len(captions))
        step = process.posterior if eta == 1 else partial(process.ddim_step, eta=eta)

        def paint(part: slice) -> np.ndarray:
            denoiser, fresh = self.denoiser(tokens[part], guidance), Fresh(rngs[part])
            return process.sample(denoiser, start[part], times, self.alpha_bar, step, fresh, second_order=eta == 0)

        return self.finished(map_shards(paint, len(captions), threads, processes=True))

    def finished(self, x: np.ndarray) -> np.ndarray:
        """Images as given out, from 0 to 1, of what the samplers end with."""
        return to_unit(x)


class DDPM(AutoEncode, Diffusion):
    """Diffusion with a U-Net, and what can be done with images."""

    name = "ddpm"
    Config = DDPMConfig
    of_ink = {**OF_INK, "squeezed": True, "widths": (32, 128)}  # at 2x2 pixels at a time it makes more steps

    def build_network(self, config: DDPMConfig, rng: np.random.Generator) -> UNet:
        halvings = len(config.widths) - (0 if config.squeezed else 1)
        why = f"{len(config.widths)} widths{' of a squeezed image' if config.squeezed else ''}"
        check_size(self.name, config.image_size, 2**halvings, why)
        sizes = config.image_size, config.channels, config.widths, config.features
        return UNet(*sizes, rng, config.blocks, config.heads, config.squeezed)

    def denoise(
        self, captions: list[str], rng: np.random.Generator, threads: Threads | None = None, steps: int | None = None,
        guidance: float | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """The film of `sample` with eta = 0: the noisy images, and what the network took them for.

        Both (steps + 1, N, H, W, C) in [0, 1], from pure noise to the finished images, which are the last of both.
        """
        times, captions = self.times(steps), self.asked(captions, rng)
        tokens, start = self.vocabulary.encode(captions), self.noise(len(captions), rng)

        def film(part: slice) -> np.ndarray:
            denoiser = self.denoiser(tokens[part], guidance)
            frames = process.reverse_process(denoiser, start[part], times, self.alpha_bar, second_order=True)
            return np.stack([np.stack(pair, axis=1) for pair in frames], axis=1)  # (n, steps + 1, 2, H, W, C)

        frames = to_unit(map_shards(film, len(captions), threads, processes=True))
        return np.moveaxis(frames[:, :, 0], 1, 0), np.moveaxis(frames[:, :, 1], 1, 0)

    def inpaint(
        self, images: np.ndarray, known: np.ndarray, captions: list[str], rng: np.random.Generator,
        threads: Threads | None = None, steps: int | None = None, guidance: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The images (N, H, W, C) in [0, 1] with all that is not `known` painted anew, under these captions.

        known: bool (H, W), of every image; these pixels come back bit for bit, and at the others nobody looks
        steps, guidance: as of `sample`; the network is used five times at each step, see `process.inpaint`
        Raises ValueError for a mask of another shape or kind, and for one that leaves nothing to paint or knows nothing
        """
        captions, size = self.understood(self.asked(captions, rng), images), self.image_shape[:2]
        if known.dtype != bool or known.shape != size or known.all() or not known.any():
            raise ValueError(
                f"known must be bool {size}, true for some pixels and not for all; given {known.dtype} {known.shape}, "
                f"true for {np.count_nonzero(known)}"
            )
        times, tokens, start = self.times(steps), self.vocabulary.encode(captions), self.noise(len(captions), rng)
        clean, known, rngs = images * 2 - 1, known[:, :, None], rng.spawn(len(captions))

        def paint(part: slice) -> np.ndarray:
            denoiser, fresh = self.denoiser(tokens[part], guidance), Fresh(rngs[part])
            return process.inpaint(denoiser, start[part], times, self.alpha_bar, known, clean[part], fresh)

        return np.where(known, images, to_unit(map_shards(paint, len(captions), threads, processes=True)))

    def sdedit(
        self, images: np.ndarray, captions: list[str], rng: np.random.Generator, strength: float,
        threads: Threads | None = None, steps: int | None = None, guidance: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The images (N, H, W, C) in [0, 1] as these captions have them: noised in part, then denoised.

        Source: Meng et al. 2022.  What drowns in the noise is painted anew, larger shapes stay.

        strength: how much of the way into noise, above 0, where nothing changes, and up to 1, where nothing is left
        steps: of the whole way; guidance: None: as the config says for edits
        """
        if not 0 < strength <= 1:
            raise ValueError(f"strength must be above 0, which changes nothing, and at most 1; given {strength}")
        captions = self.understood(self.asked(captions, rng), images)
        times = [t for t in self.times(steps) if t <= strength * self.config.time_steps]
        tokens, eps = self.vocabulary.encode(captions), self.noise(len(captions), rng)
        start = process.q_sample(images * 2 - 1, np.full(len(captions), times[0]), eps, self.alpha_bar)
        guidance = self.config.edit_guidance if guidance is None else guidance

        def paint(part: slice) -> np.ndarray:
            denoiser = self.denoiser(tokens[part], guidance)
            return process.sample(denoiser, start[part], times, self.alpha_bar, second_order=True)

        return to_unit(map_shards(paint, len(captions), threads, processes=True))

    def likelihood_figures(self, test: Dataset, seed: int, threads: Threads | None = None) -> dict[str, float]:
        """The mean of `bits_bound` over the test images with their fullest captions, if T > 1."""
        images, captions = test.images / np.float32(255), test.captions(np.arange(len(test)))
        if self.config.time_steps == 1:
            return {}
        bits = bits_bound(self, images, captions, derive_rng(seed, "bound"), threads)
        return {"bits_per_dimension_bound": float(bits.mean())}

    def weigh(self, image: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """A bound on log p(image (H, W, C) | caption) of each caption, up to a constant: (len(captions),) nats."""
        return bounds_of_captions(self, image, captions)

    # --- images into noise and back ----------------------------------------------------------------------------------
    # The deterministic sampler is a map from noise to images that runs in both directions, so x_T is diffusion's z.

    processes = True

    def to_noise(self, images: np.ndarray, tokens: np.ndarray, steps: int | None = None) -> np.ndarray:
        """The noise x_T (n, H, W, C) that becomes the images under these captions, in so many steps (see `times`)."""
        denoiser = self.denoiser(tokens, 1.0, clip=False)
        return process.invert(denoiser, images * 2 - 1, self.times(steps), self.alpha_bar)

    def to_images(
        self, z: np.ndarray, tokens: np.ndarray, steps: int | None = None, guidance: float = 1.0
    ) -> np.ndarray:
        """The images (n, H, W, C) that noise becomes; unguided and in as many steps the inverse of `to_noise`."""
        denoiser = self.denoiser(tokens, guidance, clip=False)
        return to_unit(process.sample(denoiser, z, self.times(steps), self.alpha_bar))

    def between(self, start: np.ndarray, end: np.ndarray, fraction: float) -> np.ndarray:
        return process.slerp(start, end, fraction)

    def edit_options(self, guidance: float | None = None) -> tuple[dict, dict]:
        """guidance: of painting (None: as the config says); an image is read without."""
        return {}, {"guidance": self.config.edit_guidance if guidance is None else guidance}


def weight_at(guidance: float, ab: float, levels: tuple[float, float]) -> float:
    """The w of `guide` at the noise level ab: `guidance` itself up to 1; more than that only in the middle.

    levels: of noise over signal, sqrt((1 - ab) / ab), between which it may be more

    At the highest noise, guidance makes all pictures of a caption alike, and at the lowest it has nothing left to
    decide (Kynkaanniemi et al. 2024, who switch it on and off).  Here it rises and falls as sin^2 of the logarithm of
    noise over signal, so that the guesses change smoothly, as second-order steps assume.
    """
    if guidance <= 1:
        return guidance
    low, high = (math.log(level) for level in levels)
    place = (0.5 * math.log(1 / ab - 1) - low) / (high - low)
    return 1 + (guidance - 1) * math.sin(math.pi * place) ** 2 if 0 < place < 1 else 1.0


def to_unit(x: np.ndarray) -> np.ndarray:
    """[-1, 1], or a little beyond, -> [0, 1]."""
    return np.clip(x * 0.5 + 0.5, 0, 1)
