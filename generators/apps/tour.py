"""The page that shows what the models do, section by section, in the order of the project's argument.

A sentence says less than an image shows; each family has its own place for what the sentence leaves out. `Tour` paints
each section with the models it is given; a section whose subject is missing is left out. Its still pictures also stand
beside the page as PNG files.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.glyphs import VARIANTS_OF
from disk import files
from generators.families.editing import Directions
from generators.family import Family
from generators.judging import metrics
from generators.showing import pictures
from generators.showing.page import Page
from nn.parallel import Threads, derive_rng
from nn.tensor import no_grad

CAPTIONS = [
    "a bold seven with a bar", "a thin two", "a large three, slanting right", "a small eight", "an open four",
    "five, slanting left", "a bold zero", "six",
]  # fmt: skip
EIGHT_OF = "seven"
SKETCHED = ["eight", "a small eight", "seven", "a bold seven with a bar", "an open four"]
CHANGES = ("bold", "slanting right", "with a bar")

LABELS = {
    "vae": "VAE", "realnvp": "flow", "ddpm": "diffusion", "dit": "diffusion transformer", "gan": "GAN",
    "vaegan": "VAE with a critic", "gan-no-noise": "GAN without noise", "regression": "regression",
}  # fmt: skip
PAINTERS = ("vae", "realnvp", "ddpm", "dit", "gan", "vaegan")
AT_ONCE = ("regression", "gan-no-noise")  # one picture for each caption
READERS = ("vae", "realnvp", "ddpm")  # can read the noise off an image

# How the page asks for pictures: a VAE after 1,600 steps needs less noise, or a tenth of its digits cannot be read.
OPTIONS = {"vae": {"temperature": 0.6}}


class Tour:
    """The sections of the page, painted by `models` (name -> model), into the folder `out`."""

    def __init__(
        self, out: Path, models: dict[str, Family], train_set, test_set, seed: int, threads: Threads, footer: str
    ):
        self.out, self.models, self.train_set, self.test_set = out, models, train_set, test_set
        self.seed, self.threads = seed, threads
        self.page = Page(
            "Four ways to make an image from a sentence",
            "A sentence says less than an image shows. Each of these models has its own place for what the sentence "
            "leaves out, and that place is the noise.",
            footer,
        )

    def paint(self) -> Iterator[str]:
        """Add the sections to the page one by one, yielding the title of each that is done."""
        sections = (
            (self.data, ()), (self.samples, PAINTERS), (self.eight, PAINTERS), (self.blur, AT_ONCE),
            (self.sketches, ("realnvp",)), (self.round_trips, ("vae",)), (self.walks, ("vae",)),
            (self.edits, ("realnvp",)), (self.denoising, ("ddpm",)),
        )  # fmt: skip
        for section, needs_one_of in sections:
            if not needs_one_of or self.some_of(*needs_one_of):
                section()
                yield self.page.title_of_last_section

    def some_of(self, *names: str) -> dict[str, Family]:
        """Those of these models that are there, by label."""
        return {LABELS[name]: self.models[name] for name in names if name in self.models}

    def said_of(self, name: str, sentence: str) -> str:
        """One more sentence of a section, if its subject is there."""
        return f" {sentence}" if name in self.models else ""

    def rng(self, purpose: str) -> np.random.Generator:
        return derive_rng(self.seed, f"demo {purpose}")

    def sampled(self, names: tuple[str, ...], captions: list[str], purpose: str) -> dict[str, np.ndarray]:
        """Pictures of the captions by each of these models, by label; the same noise for each that takes as much."""
        return {
            LABELS[name]: self.models[name].sample(captions, self.rng(purpose), self.threads, **OPTIONS.get(name, {}))
            for name in names if name in self.models
        }  # fmt: skip

    def picture(self, name: str, rows: dict[str, np.ndarray], columns: list[str] = (), caption: str = "") -> None:
        picture = pictures.rows(rows, columns=columns)
        files.write(self.out / f"{name}.png", pictures.png_bytes(picture))
        self.page.picture(picture, caption)

    def data(self) -> None:
        self.page.section(
            "What they learn from",
            "Handwriting that a program draws: strokes with tremor, curvature and ink, no two alike, and a caption "
            "that says some of what can be seen, all of it, or nothing.",
        )
        chosen = np.arange(16)
        captions = self.test_set.captions(chosen)
        self.page.tiles(self.test_set.images[chosen], captions, "Images that no model has seen, with their captions.")

    def samples(self) -> None:
        painted = self.sampled(PAINTERS, CAPTIONS, "samples")
        self.page.section(
            "The same captions, each painter",
            "None of these pictures is in the data. Every row is one model, every column one caption.",
        )
        self.picture("samples", painted, columns=CAPTIONS)

    def eight(self) -> None:
        self.page.section(
            f"Eight draws of “{EIGHT_OF}”",
            "The caption does not say how thick, how slanted, how large, with a bar or without. The noise decides, so "
            "eight draws are eight different sevens."
            + self.said_of("regression", "The regression has no noise: it can only paint the one average."),
        )
        self.picture("eight", self.sampled((*PAINTERS, "regression"), [EIGHT_OF] * 8, "eight"))

    def blur(self) -> None:
        self.page.section(
            "Why not simply learn the picture from the caption?",
            "Because the best single answer to a vague question, by squared error, is the average of all right "
            "answers: a blur. A GAN's generator is not asked for the right answer, only for one that its "
            "discriminator accepts. So it may do without noise altogether, has one picture for each caption, and that "
            "one is sharp.",
        )
        short = list(self.train_set.classes)
        said = short + [f"a {word} {digit}" for digit in short for word in ("thin", "bold", "small", "large")]
        self.picture("blur", self.sampled(AT_ONCE, short, "blur"), columns=short)
        painted = {"real digits": self.test_set.images[:1000], **self.sampled(AT_ONCE, said, "blur")}
        self.page.table(
            ["", "sharpness", "distance to the nearest real digit"],
            [(label, f"{metrics.sharpness(images):.3f}",
              f"{np.mean(metrics.nearest(images, self.train_set.images)[0]):.2f}")
             for label, images in painted.items()],
            f"Of {len(said)} short captions. Sharpness: the root mean square step to the next pixel. Nearest: "
            f"of {len(self.train_set):,} training images.",
        )  # fmt: skip

    def sketches(self) -> None:
        self.page.section(
            "What a sentence calls up",
            "Which digit it shows is 3 of the 600 bits or so that an image costs the flow, so by itself it would learn "
            "to hear the caption last. It is given sketches of the caption to go by: not one, which would be a blur, "
            "but eight, of which each image has taught mostly the nearest. Nobody told them how to differ.",
        )
        model = self.models["realnvp"]
        with no_grad():
            sketches = model.sketches.images(model.conditioning(model.vocabulary.encode(SKETCHED)).sketches)
        self.picture("sketches", dict(zip(SKETCHED, sketches, strict=True)))

    def round_trips(self) -> None:
        self.page.section(
            "Into the noise and back",
            f"What the caption lacks can be read off an image. The VAE has learned a second network for it, and keeps "
            f"{self.models['vae'].config.latent} numbers: enough for the gist."
            + self.said_of("realnvp", "The flow runs backwards and loses nothing.")
            + self.said_of("ddpm", "Diffusion runs its steps backwards and loses a little."),
        )
        images, captions = self.some(10, "round trips")
        rebuilt = {label: model.reconstruct(images, captions, threads=self.threads)
                   for label, model in self.some_of(*READERS).items()}  # fmt: skip
        self.picture("round-trips", {"image": images, **rebuilt})
        errors = [(label, f"{np.mean((back - images) ** 2):.2e}") for label, back in rebuilt.items()]
        self.page.table(["", "mean squared error per pixel (white is 1)"], errors)

    def walks(self) -> None:
        self.page.section(
            "From one image to another",
            "Halfway between two images, pixel by pixel, is a double exposure. Halfway between their noises is a "
            "digit, or nearly.",
        )
        images, _ = self.some(4, "walks")
        strips = {}
        for label, model in self.some_of(*READERS).items():
            frames = model.interpolate(images[:2], images[2:], [""] * 2, 10, threads=self.threads)
            strips |= {label: frames[:, 0], f"{label} ": frames[:, 1]}
        self.picture("walks", strips)
        model = self.models["vae"]
        a, b = self.rng("walk").standard_normal((2, len(CAPTIONS), model.config.latent), dtype=np.float32)
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False, dtype=np.float32)[:, None, None]
        z = (np.cos(angles) * a + np.sin(angles) * b).reshape(-1, model.config.latent)  # (48 * 8, latent)
        frames = np.split(model.decode(z, CAPTIONS * 48, self.threads), 48)
        film = [pictures.grid(frame, columns=len(CAPTIONS)) for frame in frames]
        self.page.picture(pictures.gif_bytes(film, hold=80), "A closed walk through the VAE's noise, eight captions.")

    def edits(self) -> None:
        self.page.section(
            "Same noise, another caption",
            "Keep what the caption leaves out and change what it says: the hand stays, the digit obeys. Or let the "
            "caption stay silent, so that the noise has to hold the attribute, and go in a direction in the flow's "
            "noise: the mean difference between the noise of images that have it and of images that have not.",
        )
        rng, changes = self.rng("edits"), [change for change in CHANGES for _ in range(4)]
        chosen = np.concatenate([rng.choice(self.changeable(change), 4, replace=False) for change in CHANGES])
        images, captions = self.test_set.images[chosen].astype(np.float32) / 255, self.test_set.captions(chosen)
        pairs = zip(captions, changes, strict=True)
        wanted = [self.test_set.language.change(caption, change) for caption, change in pairs]
        rows = {"image": images}
        for label, model in self.some_of(*READERS).items():
            rows[f"{label}, by caption"] = model.edit(images, captions, wanted, threads=self.threads)
        directions = Directions(self.models["realnvp"], self.train_set, self.threads)
        rows["flow, by direction"] = directions.edit(images, captions, wanted)
        digits = [self.test_set.classes[label] for label in self.test_set.labels[chosen]]
        columns = [f"{digit}, now {change}" for digit, change in zip(digits, changes, strict=True)]
        self.picture("edits", rows, columns=columns)

    def changeable(self, change: str) -> np.ndarray:
        """The test images that lack what a change says, and with it are of a kind that the models have met."""
        fits, language = [], self.test_set.language
        for index in range(len(self.test_set)):
            before = self.test_set.describe(index)
            after = before | language.parse(change)
            if after != before and after["variant"] in VARIANTS_OF[after["digit"]] and not language.held_out(after):
                fits.append(index)
        return np.array(fits)

    def denoising(self) -> None:
        self.page.section(
            "Noise, a little less at a time",
            "One network, used again and again: each use takes a little of the noise away. Below each step stands the "
            "clean image that the network believes in at that moment.",
        )
        captions = CAPTIONS[:3]
        frames, clean = self.models["ddpm"].denoise(captions, self.rng("denoising"), threads=self.threads)
        shown = np.unique(np.linspace(0, len(frames) - 1, 11).round().astype(int))
        strips = {}
        for i, caption in enumerate(captions):
            strips |= {caption: frames[shown, i], "believed" + " " * i: clean[shown, i]}
        self.picture("denoising", strips)
        film = [pictures.grid(np.concatenate(pair), columns=len(captions)) for pair in zip(frames, clean, strict=True)]
        self.page.picture(pictures.gif_bytes(film), "Above: the noisy image. Below: what the network takes it for.")

    def some(self, count: int, purpose: str) -> tuple[np.ndarray, list[str]]:
        """Test images as float32 in [0, 1], with their fullest captions."""
        chosen = self.rng(purpose).choice(len(self.test_set), count, replace=False)
        return self.test_set.images[chosen].astype(np.float32) / 255, self.test_set.captions(chosen)
