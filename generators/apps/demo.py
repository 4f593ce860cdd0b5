"""`make demo`: every family, trained for minutes on the built-in digits, shown side by side on one page.

The page follows the argument of the project: a sentence says less than an image shows; each family has its own place
for what the sentence leaves out.  `make` trains, `Show` paints the page; each of its sections is a method.
"""
from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import datasets
from datasets.glyphs import VARIANTS_OF
from disk import files
from generators import runs
from generators.config import with_text
from generators.families.editing import Directions
from generators.family import Family
from generators.judging import metrics
from generators.showing import pictures
from generators.showing.charts import line_chart
from generators.showing.page import Page
from nn import checkpoint
from nn.parallel import Threads, derive_rng
from nn.tensor import no_grad

CAPTIONS = [
    "a bold seven with a bar", "a thin two", "a large three, slanting right", "a small eight", "an open four",
    "five, slanting left", "a bold zero", "six",
]  # fmt: skip
EIGHT_OF = "seven"
SKETCHED = ["eight", "a small eight", "seven", "a bold seven with a bar", "an open four"]
CHANGES = ("bold", "slanting right", "with a bar")


@dataclass(frozen=True)
class Entry:
    """One model of the demo: what it is called on the page, its share of the time, its settings."""

    key: str
    label: str
    family: str
    share: float
    settings: dict[str, str]
    limit: int | None = 20_000


# The defaults want ten minutes each; here there are one to three: mostly narrower networks, smaller batches.
SMALL = {"batch_size": "64", "width": "16"}
ENTRIES = [
    Entry("vae", "VAE", "vae", 0.13, {"batch_size": "64", "latent": "12"}),
    Entry("realnvp", "flow", "realnvp", 0.375, {
        "batch_size": "32", "steps": "[4, 4]", "widths": "[32, 48]", "depth": "2",
    }),
    Entry("ddpm", "diffusion", "ddpm", 0.18, {}),
    Entry("gan", "GAN", "gan", 0.165, {**SMALL, "gamma": "0.2"}),  # small batches need it, or variety is lost
    Entry("gan-no-noise", "GAN without noise", "gan", 0.13, {**SMALL, "gamma": "0.2", "noise": "0"}),
    Entry("regression", "regression", "regression", 0.02, SMALL),
]  # fmt: skip
PAINTERS = ["vae", "realnvp", "ddpm", "gan"]
# How the demo asks for pictures: a model this young needs less noise.
OPTIONS = {"vae": {"temperature": 0.5}}


@dataclass
class Trained:
    """A model of the demo with what its training has left behind."""

    entry: Entry
    model: Family
    plan: runs.Plan
    losses: dict[str, tuple[np.ndarray, np.ndarray]]
    minutes: float
    raw: dict[str, np.ndarray]  # the weights of the last step; the model has their moving average

    def sample(self, captions: list[str], rng: np.random.Generator, threads: Threads) -> np.ndarray:
        return self.model.sample(captions, rng, threads=threads, **OPTIONS.get(self.entry.family, {}))

    def sample_raw(self, captions: list[str], rng: np.random.Generator, threads: Threads) -> np.ndarray:
        """The same by the weights of the last step."""
        averaged = {name: array.copy() for name, array in self.model.state().items()}
        self.model.load_state(self.raw)
        try:
            return self.sample(captions, rng, threads)
        finally:
            self.model.load_state(averaged)


def make(out: Path, minutes: float, seed: int, threads: Threads) -> int:
    """Train what is not trained yet, then write `out/index.html`.  A demo that was stopped goes on where it was.

    The page is there as soon as the first model is trained, and is written again, with everything, at the end.
    """
    began = time.monotonic()
    if kept := [e.label for e in ENTRIES if (out / "runs" / e.key / "checkpoint.npz").exists()]:
        print(f"{out} holds {', '.join(kept)} from before, with the minutes and the seed of that time: --minutes and "
              "--seed are for what is not there yet. To begin anew, choose another --out.")  # fmt: skip
    print("Drawing the built-in digits ...", flush=True)
    train_set = datasets.load("digits", split="train", limit=ENTRIES[0].limit)
    test_set = datasets.load("digits", split="test", limit=2000)
    trained = {}
    for number, entry in enumerate(ENTRIES, 1):
        print(f"[{number}/{len(ENTRIES)}] {entry.label}", flush=True)
        trained[entry.key] = _train(entry, out / "runs" / entry.key, train_set, minutes * entry.share, seed, threads)
        if trained[entry.key] is None:
            print("Stopped, saved. The same command goes on from here.")
            return 130
        rest = len(ENTRIES) - number
        if not rest or (number == 1 and not (out / "index.html").exists()):
            print("Painting the page ...", flush=True)
            Show(out, trained, train_set, test_set, seed, threads).write()
            elapsed = (time.monotonic() - began) / 60
            later = f" It will grow when the other {rest} models are trained." if rest else ""
            print(f"{elapsed:.1f} minutes. Open {out / 'index.html'} in a browser.{later}", flush=True)
    return 0


def _train(entry: Entry, folder: Path, dataset, minutes: float, seed: int, threads: Threads) -> Trained | None:
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoint.lock(folder):
        if (folder / "checkpoint.npz").exists():
            run = runs.Run.resume(folder, threads, dataset)
        else:
            config = with_text(runs.default_config(entry.family, dataset), entry.settings)
            plan = runs.plan_run(
                entry.family, "digits", dataset, config, seed, threads, None, minutes, limit=entry.limit
            )
            run = runs.start(folder, plan, dataset, threads)
        if run.trainer.step_number < run.plan.steps:
            with runs.diverged_as_run_error(folder):
                for _ in run.go():
                    pass
        if run.trainer.step_number < run.plan.steps:
            return None
        raw = {name: array.copy() for name, array in run.model.state().items()}
        run.model.load_state(run.trainer.averaged_state())
        return Trained(entry, run.model, run.plan, runs.losses(folder), run.seconds / 60, raw)


class Show:
    """The page, section by section.  Its still pictures also stand beside it as PNG and SVG files.

    Shows what is trained so far; a section whose subject is missing is left out.
    """

    def __init__(self, out: Path, trained: dict[str, Trained], train_set, test_set, seed: int, threads: Threads):
        self.out, self.trained, self.train_set, self.test_set = out, trained, train_set, test_set
        self.models = {key: entry.model for key, entry in trained.items()}
        self.seed, self.threads = seed, threads
        self.page: Page

    def write(self) -> None:
        """Paint everything and write `index.html`."""
        minutes = sum(t.minutes for t in self.trained.values())  # also of what an earlier call has trained
        self.page = Page(
            "Four ways to make an image from a sentence",
            "A sentence says less than an image shows. Each of these models has its own place for what the sentence "
            "leaves out, and that place is the noise.",
            f"Trained by Inkling in {minutes:.1f} minutes on {self.threads.count} cores. Autograd, convolutions, "
            "models and samplers are Python with NumPy and Numba, nothing else.",
        )
        about = {self.blur: "regression", self.sketches: "realnvp", self.edits: "realnvp", self.denoising: "ddpm"}
        for section in (
            self.data, self.samples, self.eight, self.blur, self.sketches, self.round_trips, self.walks, self.edits,
            self.denoising, self.training,
        ):  # fmt: skip
            if about.get(section, "vae") in self.trained:
                section()
        self.page.write(self.out / "index.html")

    def some_of(self, *keys: str) -> list[Trained]:
        """Those of these models that are trained."""
        return [self.trained[key] for key in keys if key in self.trained]

    def rng(self, purpose: str) -> np.random.Generator:
        return derive_rng(self.seed, f"demo {purpose}")

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
        self.page.section(
            "The same captions, four painters",
            "None of these pictures is in the data. Every row is one model, every column one caption. The models are "
            "small and one to three minutes old.",
        )
        entries = self.some_of(*PAINTERS)
        self.picture("samples", {
            t.entry.label: t.sample(CAPTIONS, self.rng("samples"), self.threads) for t in entries
        }, columns=CAPTIONS)  # fmt: skip

    def eight(self) -> None:
        self.page.section(
            f"Eight draws of “{EIGHT_OF}”",
            "The caption does not say how thick, how slanted, how large, with a bar or without. The noise decides, so "
            "eight draws are eight different sevens. The regression has no noise: it can only paint the one average.",
        )
        entries = self.some_of(*PAINTERS, "regression")
        self.picture("eight", {
            t.entry.label: t.sample([EIGHT_OF] * 8, self.rng("eight"), self.threads) for t in entries
        })  # fmt: skip

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
        rows, figures, real = {}, [], self.train_set.images[:5000]

        def measure(name: str, images: np.ndarray) -> None:
            distance = np.mean(metrics.nearest(images, real)[0])
            figures.append((name, f"{metrics.sharpness(images):.3f}", f"{distance:.2f}"))

        measure("real digits", self.test_set.images[:1000])
        for t in self.some_of("regression", "gan-no-noise"):
            for weights, sample in (("averaged weights", t.sample), ("last weights", t.sample_raw)):
                name = f"{t.entry.label}, {weights}"
                measure(name, sample(said, self.rng("blur"), self.threads))
                rows[name] = sample(short, self.rng("blur"), self.threads)
        self.picture("blur", rows, columns=short)
        self.page.table(
            ["", "sharpness", "distance to the nearest real digit"], figures,
            f"Of {len(said)} short captions. Sharpness: the root mean square step to the next pixel. Nearest: "
            "of 5,000 training images. A run keeps the weights of the last step and their moving average.",
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
            f"{self.models['vae'].config.latent} numbers: enough for the gist. The flow runs backwards and loses "
            "nothing. Diffusion runs its steps backwards and loses a little.",
        )
        images, captions = self.some(10, "round trips")
        rows = {"image": images}
        for t in self.some_of("vae", "realnvp", "ddpm"):
            rows[t.entry.label] = t.model.reconstruct(images, captions, threads=self.threads)
        self.picture("round-trips", rows)
        errors = [(name, f"{np.mean((rebuilt - images) ** 2):.2e}") for name, rebuilt in list(rows.items())[1:]]
        self.page.table(["", "mean squared error per pixel (white is 1)"], errors)

    def walks(self) -> None:
        self.page.section(
            "From one image to another",
            "Halfway between two images, pixel by pixel, is a double exposure. Halfway between their noises is a "
            "digit, or nearly.",
        )
        images, _ = self.some(4, "walks")
        strips = {}
        for t in self.some_of("vae", "realnvp", "ddpm"):
            frames = t.model.interpolate(images[:2], images[2:], [""] * 2, 10, threads=self.threads)
            label = t.entry.label
            strips |= {f"{label}": frames[:, 0], f"{label} ": frames[:, 1]}
        self.picture("walks", strips)
        model, rng = self.models["vae"], self.rng("walk")
        a, b = rng.standard_normal((2, len(CAPTIONS), model.config.latent), dtype=np.float32)
        film = []
        for angle in np.linspace(0, 2 * np.pi, 48, endpoint=False, dtype=np.float32):
            film.append(pictures.grid(
                model.decode(np.cos(angle) * a + np.sin(angle) * b, CAPTIONS, self.threads), columns=len(CAPTIONS)
            ))  # fmt: skip
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
        for t in self.some_of("vae", "realnvp", "ddpm"):
            rows[f"{t.entry.label}, by caption"] = t.model.edit(images, captions, wanted, threads=self.threads)
        directions = Directions(self.models["realnvp"], self.train_set, self.threads)
        rows["flow, by direction"] = directions.edit(images, captions, wanted)
        digits = [self.test_set.classes[label] for label in self.test_set.labels[chosen]]
        columns = [f"{digit}, now {change}" for digit, change in zip(digits, changes, strict=True)]
        self.picture("edits", rows, columns=columns)

    def changeable(self, change: str) -> np.ndarray:
        """The test images that lack what a change says, and with it are of a kind that the models have met."""
        fits = []
        language = self.test_set.language
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

    def training(self) -> None:
        self.page.section("The training", "Everything above was trained for this page, by the command that wrote it.")
        self.page.table(["", "parameters", "steps", "images a step", "minutes", "ms a step"], [
            (t.entry.label, f"{t.model.parameter_count():,}", f"{t.plan.steps:,}", t.plan.config.batch_size,
             f"{t.minutes:.1f}", f"{60_000 * t.minutes / t.plan.steps:.0f}")
            for t in self.trained.values()
        ])  # fmt: skip
        for key, t in self.trained.items():
            chart = line_chart(t.losses, x_label="step")
            files.write(self.out / f"loss-{key}.svg", chart.encode())
            self.page.chart(t.losses, f"The loss of {t.entry.label}.", x_label="step")

    def some(self, count: int, purpose: str) -> tuple[np.ndarray, list[str]]:
        """Test images as float32 in [0, 1], with their fullest captions."""
        chosen = self.rng(purpose).choice(len(self.test_set), count, replace=False)
        return self.test_set.images[chosen].astype(np.float32) / 255, self.test_set.captions(chosen)
