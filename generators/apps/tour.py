"""The page that shows what the models do, section by section, in the order of the project's argument.

A sentence says less than an image shows; each family has its own place for what the sentence leaves out. `Tour` paints
each section with the models it is given; a section whose subject is missing is left out. Its still pictures also stand
beside the page as PNG files. What the sections say is in `tour.ini`.
"""
from __future__ import annotations

import configparser
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

_read = configparser.RawConfigParser(delimiters="=")
_read.read_string(Path(__file__).with_suffix(".ini").read_text(encoding="utf-8"))
WORDS = {name: {key: " ".join(text.split()) for key, text in words.items()} for name, words in _read.items()}

CAPTIONS = [
    "a bold seven with a bar", "a thin two", "a large three, slanting right", "a small eight", "an open four",
    "five, slanting left", "a bold zero", "six",
]  # fmt: skip
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
        self.page = Page(WORDS["page"]["title"], WORDS["page"]["text"], footer)

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
                yield self.title

    def begin(self, name: str, **values) -> str:
        """Begin the section of that name in `tour.ini`; returns what its picture's or table's caption says."""
        words = WORDS[name]
        said = [words["text"].format(**values), *(words[model] for model in words if model in self.models)]
        self.title = words["title"]
        self.page.section(self.title, " ".join(said))
        return words.get("caption", "").format(**values)

    def some_of(self, *names: str) -> dict[str, Family]:
        """Those of these models that are there, by label."""
        return {LABELS[name]: self.models[name] for name in names if name in self.models}

    def rng(self, purpose: str) -> np.random.Generator:
        return derive_rng(self.seed, f"demo {purpose}")

    def sampled(self, names: tuple[str, ...], captions: list[str], purpose: str) -> dict[str, np.ndarray]:
        """Pictures of the captions by each of these models, by label; the same noise for each that takes as much."""
        return {
            LABELS[name]: self.models[name].sample(captions, self.rng(purpose), self.threads, **OPTIONS.get(name, {}))
            for name in names if name in self.models
        }  # fmt: skip

    def picture(self, name: str, rows: dict[str, np.ndarray], columns: list[str] = ()) -> None:
        picture = pictures.rows(rows, columns=columns)
        files.write(self.out / f"{name}.png", pictures.png_bytes(picture))
        self.page.picture(picture)

    def data(self) -> None:
        caption, chosen = self.begin("data"), np.arange(16)
        self.page.tiles(self.test_set.images[chosen], self.test_set.captions(chosen), caption)

    def samples(self) -> None:
        self.begin("samples")
        self.picture("samples", self.sampled(PAINTERS, CAPTIONS, "samples"), columns=CAPTIONS)

    def eight(self) -> None:
        self.begin("eight")
        self.picture("eight", self.sampled((*PAINTERS, "regression"), ["seven"] * 8, "eight"))

    def blur(self) -> None:
        short = list(self.train_set.classes)
        said = short + [f"a {word} {digit}" for digit in short for word in ("thin", "bold", "small", "large")]
        caption = self.begin("blur", captions=len(said), images=len(self.train_set))
        self.picture("blur", self.sampled(AT_ONCE, short, "blur"), columns=short)
        painted = {"real digits": self.test_set.images[:1000], **self.sampled(AT_ONCE, said, "blur")}
        nearest = {label: metrics.nearest(images, self.train_set.images)[0] for label, images in painted.items()}
        self.page.table(
            ["", "sharpness", "distance to the nearest real digit"],
            [(label, f"{metrics.sharpness(images):.3f}", f"{np.mean(nearest[label]):.2f}")
             for label, images in painted.items()],
            caption,
        )  # fmt: skip

    def sketches(self) -> None:
        self.begin("sketches")
        model = self.models["realnvp"]
        with no_grad():
            sketches = model.sketches.images(model.conditioning(model.vocabulary.encode(SKETCHED)).sketches)
        self.picture("sketches", dict(zip(SKETCHED, sketches, strict=True)))

    def round_trips(self) -> None:
        self.begin("round trips", latent=self.models["vae"].config.latent)
        images, captions = self.some(10, "round trips")
        rebuilt = {label: model.reconstruct(images, captions, threads=self.threads)
                   for label, model in self.some_of(*READERS).items()}  # fmt: skip
        self.picture("round-trips", {"image": images, **rebuilt})
        errors = [(label, f"{np.mean((back - images) ** 2):.2e}") for label, back in rebuilt.items()]
        self.page.table(["", "mean squared error per pixel (white is 1)"], errors)

    def walks(self) -> None:
        caption, (images, _) = self.begin("walks"), self.some(4, "walks")
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
        self.page.picture(pictures.film_of_grids(frames, len(CAPTIONS), hold=80), caption)

    def edits(self) -> None:
        self.begin("edits")
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
        caption, captions = self.begin("denoising"), CAPTIONS[:3]
        frames, clean = self.models["ddpm"].denoise(captions, self.rng("denoising"), threads=self.threads)
        shown = np.unique(np.linspace(0, len(frames) - 1, 11).round().astype(int))
        strips = {}
        for i, name in enumerate(captions):
            strips |= {name: frames[shown, i], "believed" + " " * i: clean[shown, i]}
        self.picture("denoising", strips)
        self.page.picture(pictures.film_of_grids(np.concatenate([frames, clean], axis=1), len(captions)), caption)

    def some(self, count: int, purpose: str) -> tuple[np.ndarray, list[str]]:
        """Test images as float32 in [0, 1], with their fullest captions."""
        chosen = self.rng(purpose).choice(len(self.test_set), count, replace=False)
        return self.test_set.images[chosen].astype(np.float32) / 255, self.test_set.captions(chosen)
