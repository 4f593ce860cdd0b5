"""`make demo`: every family, trained for minutes on the built-in digits, shown side by side on one page.

The page follows the argument of the project: a sentence says less than an image shows; each family has its own place
for what the sentence leaves out.  `make` trains, `build_page` shows; each section is a function below.
"""
from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import datasets
from generators import metrics, pictures, runs
from generators.gallery import Page
from generators.training import Family
from nn import checkpoint
from nn.parallel import Threads, derive_rng

CAPTIONS = [
    "a bold seven with a bar", "a thin two", "a large three, slanting right", "a small eight", "an open four",
    "five, slanting left", "a bold zero", "six",
]  # fmt: skip
EIGHT_OF = "seven"


@dataclass(frozen=True)
class Entry:
    """One model of the demo: what it is called on the page, its share of the time, its settings."""

    key: str
    label: str
    family: str
    share: float
    settings: dict[str, str]
    limit: int | None = 20_000


ENTRIES = [
    Entry("regression", "regression", "regression", 0.05, {}),
    Entry("vae", "VAE", "vae", 0.12, {}),
    Entry("realnvp", "flow", "realnvp", 0.26, {}),
    Entry("ddpm", "diffusion", "ddpm", 0.28, {}),
    Entry("gan", "GAN", "gan", 0.19, {}),
    Entry("gan-no-noise", "GAN without noise", "gan", 0.10, {"noise": "0"}),
]
PAINTERS = ["vae", "realnvp", "ddpm", "gan"]


@dataclass
class Trained:
    """A model of the demo with what its training has left behind."""

    entry: Entry
    model: Family
    plan: runs.Plan
    metrics: dict[str, np.ndarray]
    minutes: float


def make(out: Path, minutes: float, seed: int, threads: Threads) -> int:
    """Train what is not trained yet, then write `out/index.html`.  A demo that was stopped goes on where it was."""
    began = time.monotonic()
    print("Drawing the built-in digits ...", flush=True)
    train_set = datasets.load("digits", split="train", limit=ENTRIES[0].limit)
    test_set = datasets.load("digits", split="test", limit=2000)
    trained = {}
    for number, entry in enumerate(ENTRIES, 1):
        print(f"[{number}/{len(ENTRIES)}] {entry.label}", flush=True)
        trained[entry.key] = _train(entry, out / "runs" / entry.key, train_set, minutes * entry.share, seed, threads)
        if trained[entry.key] is None:
            print("Stopped, saved. `make demo` goes on from here.")
            return 130
    print("Painting the page ...", flush=True)
    page = build_page(trained, train_set, test_set, seed, threads, (time.monotonic() - began) / 60)
    page.write(out / "index.html")
    print(f"Done in {(time.monotonic() - began) / 60:.1f} minutes. Open {out / 'index.html'} in a browser.")
    return 0


def _train(entry: Entry, folder: Path, dataset, minutes: float, seed: int, threads: Threads) -> Trained | None:
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoint.lock(folder):
        if (folder / "checkpoint.npz").exists():
            run = runs.Run.resume(folder, threads)
        else:
            config = runs.override(runs.default_config(entry.family, dataset), entry.settings)
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
        run.model.load_state(run.trainer.averaged_state())
        return Trained(entry, run.model, run.plan, runs.read_metrics(folder), run.seconds / 60)


def build_page(trained: dict[str, Trained], train_set, test_set, seed: int, threads: Threads, minutes: float) -> Page:
    """The whole page, section by section."""
    page = Page(
        "Four ways to make an image from a sentence",
        "A sentence says less than an image shows. Each of these models has its own place for what the sentence "
        "leaves out, and that place is the noise.",
        f"Painted by Inkling in {minutes:.1f} minutes on {threads.count} threads, from the first stroke of the data to "
        "the last picture of this page. Autograd, convolutions, models and samplers are NumPy and Numba, nothing else.",
    )
    models = {key: entry.model for key, entry in trained.items()}
    _show_data(page, test_set)
    _show_samples(page, trained, seed, threads)
    _show_eight(page, trained, seed, threads)
    _show_blur(page, models, train_set, seed, threads)
    _show_round_trips(page, models, test_set, seed, threads)
    _show_walks(page, models, test_set, seed, threads)
    _show_edits(page, models, test_set, seed, threads)
    _show_denoising(page, models["ddpm"], seed, threads)
    _show_training(page, trained)
    return page


def _show_data(page: Page, dataset) -> None:
    page.section(
        "What they learn from",
        "Handwriting that a program draws: strokes with tremor, curvature and ink, no two alike, and a caption that "
        "says some of what can be seen, all of it, or nothing.",
    )
    chosen = np.arange(16)
    page.tiles(dataset.images[chosen], dataset.captions(chosen), "Images that no model has seen, with their captions.")


def _show_samples(page: Page, trained: dict[str, Trained], seed: int, threads: Threads) -> None:
    page.section(
        "The same captions, four painters",
        "None of these pictures is in the data. Every row is one model, every column one caption.",
    )
    rows = {
        trained[key].entry.label: trained[key].model.sample(CAPTIONS, derive_rng(seed, "demo", 1), threads=threads)
        for key in PAINTERS
    }
    page.picture(pictures.rows(rows, columns=CAPTIONS))


def _show_eight(page: Page, trained: dict[str, Trained], seed: int, threads: Threads) -> None:
    page.section(
        f"Eight draws of “{EIGHT_OF}”",
        "The caption does not say how thick, how slanted, how large, with a bar or without. The noise decides, so "
        "eight draws are eight different sevens. The regression has no noise: it can only paint the one average.",
    )
    rows = {
        t.entry.label: t.model.sample([EIGHT_OF] * 8, derive_rng(seed, "demo", 2), threads=threads)
        for t in (trained[key] for key in [*PAINTERS, "regression"])
    }
    page.picture(pictures.rows(rows))


def _show_blur(page: Page, models: dict[str, Family], train_set, seed: int, threads: Threads) -> None:
    page.section(
        "Why not simply learn the picture from the caption?",
        "Because the best single answer to a vague question, by squared error, is the average of all right answers: a "
        "blur. A GAN's generator is not asked for the right answer, only for one that its judge accepts. So it may "
        "do without noise altogether, has one picture for each caption, and that one is sharp.",
    )
    short = list(train_set.classes)
    rng = derive_rng(seed, "demo", 3)
    painted = {
        "regression": models["regression"].sample(short, rng, threads=threads),
        "GAN, no noise": models["gan-no-noise"].sample(short, rng, threads=threads),
    }
    page.picture(pictures.rows(painted, columns=short))
    real = train_set.images[:5000].astype(np.float32) / 255
    others = train_set.images[5000:6000].astype(np.float32) / 255
    table = [("real digits", f"{metrics.sharpness(others):.3f}", f"{_to_nearest(others, real):.2f}")]
    table += [(n, f"{metrics.sharpness(i):.3f}", f"{_to_nearest(i, real):.2f}") for n, i in painted.items()]
    page.table(
        ["", "sharpness", "distance to the nearest real digit"], table,
        "Sharpness and distance as `generators/metrics.py` defines them; nearest among 5,000 training images.",
    )  # fmt: skip


def _to_nearest(images: np.ndarray, real: np.ndarray) -> float:
    return float(np.mean(metrics.nearest(images, real)[0]))


def _show_round_trips(page: Page, models: dict[str, Family], test_set, seed: int, threads: Threads) -> None:
    page.section(
        "Into the noise and back",
        "What the caption lacks can be read off an image. The VAE has learned a second network for it, and keeps 32 "
        "numbers: enough for the gist. The flow runs backwards and loses nothing. Diffusion runs its steps backwards "
        "and loses a little.",
    )
    images, captions = _some(test_set, 10, derive_rng(seed, "demo", 4))
    rows = {"image": images}
    for key, label in (("vae", "VAE"), ("realnvp", "flow"), ("ddpm", "diffusion")):
        rows[label] = models[key].reconstruct(images, captions, threads=threads)
    page.picture(pictures.rows(rows))
    table = [(name, f"{np.mean((rebuilt - images) ** 2):.2e}") for name, rebuilt in list(rows.items())[1:]]
    page.table(["", "mean squared error per pixel (white is 1)"], table)


def _show_walks(page: Page, models: dict[str, Family], test_set, seed: int, threads: Threads) -> None:
    page.section(
        "From one image to another",
        "Halfway between two images, pixel by pixel, is a double exposure. Halfway between their noises is a digit.",
    )
    images, _ = _some(test_set, 6, derive_rng(seed, "demo", 5))
    first, second = images[:3], images[3:]
    empty = [""] * 3
    for key, label in (("vae", "VAE"), ("realnvp", "flow"), ("ddpm", "diffusion")):
        frames = models[key].interpolate(first, second, empty, 10, threads=threads)
        page.picture(pictures.rows({f"{label} {i + 1}": frames[:, i] for i in range(3)}))
    walk = _latent_walk(models["vae"], seed, threads)
    page.picture(pictures.gif_bytes(walk), "A closed walk through the VAE's noise, one caption a row.")


def _latent_walk(model: Family, seed: int, threads: Threads, frames: int = 48) -> list:
    """Pictures of a circle through three random directions of the latent space, under eight captions."""
    rng = derive_rng(seed, "demo", 6)
    a, b = rng.standard_normal((2, len(CAPTIONS), model.config.latent)).astype(np.float32)
    film = []
    for angle in np.linspace(0, 2 * np.pi, frames, endpoint=False):
        z = (np.cos(angle) * a + np.sin(angle) * b).astype(np.float32)
        film.append(pictures.grid(model.paint(z, CAPTIONS, threads), columns=len(CAPTIONS)))
    return film


def _show_edits(page: Page, models: dict[str, Family], test_set, seed: int, threads: Threads) -> None:
    page.section(
        "Same noise, another caption",
        "Keep what the caption leaves out and change what it says: the hand stays, the digit obeys. In the lower rows "
        "the caption stays silent, and a direction in the flow's noise does the work: the mean difference between "
        "images that have an attribute and images that have not.",
    )
    rng = derive_rng(seed, "demo", 7)
    thin = np.flatnonzero(test_set.attributes["stroke"] == 0)
    chosen = rng.choice(thin, 8, replace=False)
    images, captions = test_set.images[chosen].astype(np.float32) / 255, test_set.captions(chosen)
    wanted = [caption.replace("thin", "bold") for caption in captions]
    rows = {"image": images}
    for key, label in (("vae", "VAE"), ("realnvp", "flow"), ("ddpm", "diffusion")):
        rows[f"{label}: “bold”"] = models[key].edit(images, captions, wanted, threads=threads)
    page.picture(pictures.rows(rows, columns=captions))
    flow = models["realnvp"]
    silent = [test_set.classes[label] for label in test_set.labels[chosen]]
    rows = {"image": images}
    for attribute, value in (("stroke", "bold"), ("slant", "right"), ("size", "small")):
        direction = flow_direction(flow, test_set, attribute, value, threads)
        rows[f"flow: + {value}"] = flow.move(images, silent, direction, threads=threads)
    page.picture(pictures.rows(rows, columns=silent))


def flow_direction(flow: Family, dataset, attribute: str, value: str, threads: Threads, most: int = 500) -> np.ndarray:
    """The direction in the flow's noise from images that lack a value of an attribute to images that have it.

    Under captions that name the digit and nothing else, so that the attribute is left to the noise.
    """
    has = dataset.attributes[attribute] == dataset.attribute_values[attribute].index(value)
    groups = [np.flatnonzero(has)[:most], np.flatnonzero(~has)[:most]]
    images = [dataset.images[group].astype(np.float32) / 255 for group in groups]
    captions = [[dataset.classes[label] for label in dataset.labels[group]] for group in groups]
    return flow.direction(*images, captions, threads)


def _show_denoising(page: Page, model: Family, seed: int, threads: Threads) -> None:
    page.section(
        "Noise, a little less at a time",
        "One network, used again and again: each use takes a little of the noise away. Beside each step stands the "
        "clean image that the network believes in at that moment.",
    )
    captions = CAPTIONS[:3]
    frames, clean = model.denoise(captions, derive_rng(seed, "demo", 8), threads=threads)
    shown = np.unique(np.linspace(0, len(frames) - 1, 11).round().astype(int))
    strips = {}
    for i, caption in enumerate(captions):
        strips[caption] = frames[shown, i]
        strips["it sees" + " " * i] = clean[shown, i]
    page.picture(pictures.rows(strips))
    film = [pictures.grid(np.concatenate(pair), columns=len(captions)) for pair in zip(frames, clean, strict=True)]
    page.picture(pictures.gif_bytes(film), "Above: the noisy image. Below: what the network takes it for.")


def _show_training(page: Page, trained: dict[str, Trained]) -> None:
    page.section("The training", "Everything above was trained just now, for this page.")
    header = ["", "parameters", "steps", "images a step", "minutes", "ms a step"]
    page.table(header, [
        (t.entry.label, f"{t.model.parameter_count():,}", f"{t.plan.steps:,}", t.plan.config.batch_size,
         f"{t.minutes:.1f}", f"{60_000 * t.minutes / t.plan.steps:.0f}")
        for t in trained.values()
    ])  # fmt: skip
    for t in trained.values():
        series = {
            name.replace("_", " "): (t.metrics["step"], values)
            for name, values in t.metrics.items()
            if name.endswith("loss")
        }
        page.chart(series, f"{t.entry.label}: the loss.", x_label="step")


def _some(dataset, count: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """Images as float32 in [0, 1], with their fullest captions."""
    chosen = rng.choice(len(dataset), count, replace=False)
    return dataset.images[chosen].astype(np.float32) / 255, dataset.captions(chosen)
