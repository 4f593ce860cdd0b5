"""The lecture's experiments: each is measured on models just now, paints what there is to see, and returns its figures.

The text of the lecture (`lecture.md`) names them as {bits.none}: `bits` is a method here, or a row of `COMPARED`, and
`none` one of the names in what it returns.  What it returns for pictures are their files.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import datasets
from datasets import playground
from datasets.dataset import Dataset
from disk import files
from generators import pretrained
from generators.apps.play import learn_keys
from generators.families.diffusion import process
from generators.families.editing import Directions
from generators.family import Family
from generators.judging import metrics
from generators.judging.classifier import cut
from generators.judging.evaluate import Reference, captions_of, draw, of_images
from generators.registry import FAMILIES, able
from generators.showing import films, pictures
from generators.showing.charts import line_chart
from nn.parallel import Threads, derive_rng
from nn.tensor import Tensor, no_grad

CAPTIONS = [
    "a bold seven with a bar", "a thin two", "a large three, slanting right", "a small eight", "an open four",
    "five, slanting left", "a bold zero", "six",
]  # fmt: skip
SKETCHED = ["eight", "a small eight", "seven", "a bold seven with a bar", "an open four"]
CHANGES = {"thin": "bold", "slanting left": "slanting right", "seven without a bar": "seven with a bar"}
STEPS = (1, 2, 4, 10)  # of diffusion; ten are nearly as good as fifty
COUNT = 200  # images of which something is measured
LEVELS = np.geomspace(0.05, 50, 10)  # of noise over signal

PAINTERS = ("vae", "realnvp", "ddpm", "dit", "gan", "vaegan")
READERS = able("reconstruct", "method")  # can read the noise off an image

# How the page asks for pictures: VAEs so early in training need less noise, or a tenth of their digits cannot be read.
OPTIONS = dict.fromkeys(("vae", "vaegan"), {"temperature": 0.6})

FEW = dict.fromkeys(("ddpm", "dit"), {"steps": STEPS[-1]})
COMPARED = {  # row -> model, options
    "match": {name: (name, FEW.get(name, {})) for name in PAINTERS},
    "steps": {str(steps): ("ddpm", {"steps": steps}) for steps in STEPS},
    "transformer": {name: (name, FEW[name]) for name in FEW},
    "sharp": {name: (name, {}) for name in ("regression", "gan-no-noise", "gan")},
    "vaegan": {name: (name, {}) for name in ("vae", "vaegan")},
    "flowgan": {name: (name, {"temperature": 1.0, "guidance": 1.0}) for name in ("realnvp", "flowgan")},
    "fewstep": {name: (name, {"steps": 1}) for name in ("ddpm", "fewstep")},
}
LABELS = {name: row.label or name for name, row in FAMILIES.items()} | {"gan-no-noise": "GAN without noise"}


class Experiments:
    """On models, by name, and images; pictures go into the folder `out`."""

    def __init__(
        self, out: Path, models: Mapping[str, Family], train_set: Dataset, test_set: Dataset, seed: int,
        threads: Threads,
    ):  # fmt: skip
        self.out, self.models, self.train_set, self.test_set = out, models, train_set, test_set
        self.seed, self.threads, self.classes = seed, threads, list(test_set.classes)
        self.known: dict[str, dict] = {}  # figures of `measured`

    def run(self, name: str) -> SimpleNamespace:
        """What an experiment returns; nothing where it asks for a model in vain."""
        try:
            return SimpleNamespace(**(self.compared(name) if name in COMPARED else getattr(self, name)()))
        except KeyError as error:
            if error.args[0] in self.models or error.args[0] not in LABELS:
                raise
            return SimpleNamespace()

    # --- what the experiments share ----------------------------------------------------------------------------------

    def rng(self, purpose: str) -> np.random.Generator:
        return derive_rng(self.seed, f"demo {purpose}")

    def keep(self, name: str, content) -> str:
        """The file of a picture, of which sixteen grays are kept, or of the bytes of a film or a chart."""
        file = f"lecture/{name}"
        if not isinstance(content, bytes):
            content = pictures.png_bytes(content.point(lambda gray: round(gray / 17) * 17))
        files.write(self.out / file, content)
        return file

    def rows(self, name: str, rows: Mapping[str, np.ndarray], columns: Sequence[str] = ()) -> str:
        named = {LABELS.get(row, row): images for row, images in rows.items()}
        return self.keep(f"{name}.png", pictures.rows(named, columns))

    def some(self, count: int, purpose: str) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Test images in [0, 1], their fullest captions, and where they stand."""
        chosen = self.rng(purpose).permutation(len(self.test_set))[:count]
        return unit(self.test_set.images[chosen]), self.test_set.captions(chosen), chosen

    def there(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self.models]

    def paint(self, name: str, captions: list[str], purpose: str, **options) -> np.ndarray:
        """Pictures of the captions, from the same noise by each model that takes as much."""
        how = {**OPTIONS.get(name, {}), **options}
        return self.models[name].sample(captions, self.rng(purpose), self.threads, **how)

    @cached_property
    def reference(self) -> Reference:
        """The test images but the last, for whose captions every painter paints."""
        test = cut(self.test_set, 0, len(self.test_set) - COUNT)
        return Reference(self.models["classifier"], self.train_set, test, threads=self.threads, count=COUNT)

    def measured(self, model: str, options: dict) -> dict:
        """The figures of a painter by the protocol of `evaluate.py`; "" is the one of the test images."""
        if (key := f"{model} {options}") not in self.known:
            last = cut(self.test_set, len(self.test_set) - COUNT, len(self.test_set))
            (captions, _), how = captions_of(last, COUNT), {**OPTIONS.get(model, {}), **options}
            images = draw(self.models[model], captions, self.seed, self.threads, how) if model else last.images
            self.known[key] = of_images(images, captions, self.reference)
        return self.known[key]

    def compared(self, name: str) -> dict:
        """Painters of `COMPARED` side by side: pictures of the same captions, and each one's figures."""
        rows, figures = {}, {"real": self.measured("", {}), "count": COUNT, "few": STEPS[-1]}
        for row, (model, options) in COMPARED[name].items():
            if name != "match" or model in self.models:  # there any may be missing
                rows[row] = self.paint(model, CAPTIONS, name, **options)
                size = self.models[model].parameter_count()
                figures[row] = {**self.measured(model, options), "row": row, "size": size}
        return {**figures, "picture": self.rows(name, rows, CAPTIONS)}

    # --- a caption says little ---------------------------------------------------------------------------------------

    def data(self) -> dict:
        data, sevens = self.test_set, np.flatnonzero(self.test_set.labels == 7)
        shown = pictures.grid(data.images[:16], 8, data.captions(np.arange(16)))
        return {
            "kinds": len(set(data.captions(sevens))), "picture": self.keep("data.png", shown),
            "sevens": self.keep("sevens.png", pictures.grid(data.images[sevens[:16]], 8, title="seven")),
        }  # fmt: skip

    def bits(self) -> dict:
        model, (images, full, chosen) = self.models["realnvp"], self.some(COUNT, "bits")
        short = [self.classes[label] for label in self.test_set.labels[chosen]]
        none, by_name, by_all = (
            float(model.bits(images, captions, self.rng("bits"), 1, self.threads).mean()) * model.dimensions
            for captions in ([""] * len(full), short, full)
        )
        with no_grad():
            sketches = model.sketches.images(model.conditioning(model.vocabulary.encode(SKETCHED)).sketches)
        return {"none": none, "name": by_name, "all": by_all, "by_name": none - by_name, "by_all": none - by_all,
                "count": COUNT, "sketches": sketches.shape[1],
                "picture": self.rows("sketches", dict(zip(SKETCHED, sketches, strict=True)))}  # fmt: skip

    def average(self) -> dict:
        labels, images = self.train_set.labels, self.train_set.images
        mean = np.stack([images[labels == label].mean(axis=0) for label in range(len(self.classes))]) / 255
        answer = self.paint("regression", self.classes, "average")
        picture = self.rows("average", {"mean of all": mean, "regression": answer}, self.classes)
        return {"distance": rms(answer - mean), "spread": rms(unit(images) - mean[labels]), "picture": picture}

    # --- an extractor ------------------------------------------------------------------------------------------------

    def helped(self) -> dict:
        model, (images, captions, _) = self.models["vae"], self.some(COUNT, "helped")
        rows = {"image": images, "caption alone": self.paint("regression", captions, "helped"),
                "caption and z": model.reconstruct(images, captions, self.threads)}  # fmt: skip
        _, alone, both = (np.mean((row - images) ** 2) for row in rows.values())
        return {"alone": alone, "both": both, "times": alone / both, "latent": model.config.latent, "count": COUNT,
                "picture": self.rows("helped", {name: row[:10] for name, row in rows.items()})}  # fmt: skip

    def probe(self) -> dict:
        """What a linear probe reads off z, of what its caption said and of what an empty caption did not."""
        sets, ends = [cut(self.train_set, 0, 10 * COUNT), cut(self.test_set, 0, 5 * COUNT)], {}
        for told in ("full", "none"):
            for data in sets:
                captions = data.captions(np.arange(len(data))) if told == "full" else [""] * len(data)
                z = self.models["vae"].encode(unit(data.images), captions, self.threads)
                ends.setdefault(told, []).append(np.c_[z, np.ones(len(z))])
        figures = {"learnt": len(sets[0]), "read": len(sets[1])}
        for name, codes in sets[0].attributes.items():
            right = sets[1].attributes[name]
            figures[name] = {"chance": np.bincount(right).max() / len(right)}
            for told, (known, asked) in ends.items():
                weights, *_ = np.linalg.lstsq(known, np.eye(codes.max() + 1)[codes], rcond=None)  # least squares
                figures[name][told] = np.mean((asked @ weights).argmax(axis=1) == right)
        return figures

    # --- random numbers in its place, or an invertible decoder -------------------------------------------------------

    def eight(self) -> dict:
        rows = {name: self.paint(name, ["seven"] * 8, "eight") for name in self.there((*PAINTERS, "regression"))}
        rows["real"] = unit(self.test_set.images[self.test_set.labels == 7][:8])
        return {**{name: metrics.variety(row) for name, row in rows.items()}, "picture": self.rows("eight", rows)}

    def trips(self) -> dict:
        (images, captions, _), flow = self.some(10, "round trips"), self.models["realnvp"]
        rows = {name: self.models[name].reconstruct(images, captions, self.threads) for name in self.there(READERS)}
        return {**{name: np.mean((back - images) ** 2) for name, back in rows.items()},
                "same": np.mean(rows["realnvp"] == images), "weights": flow.flow.parameter_count(),
                "numbers": flow.dimensions, "picture": self.rows("trips", {"image": images, **rows})}  # fmt: skip

    # --- the noise holds the information -----------------------------------------------------------------------------

    def exchanged(self) -> dict:
        """The noise of each image under the caption of the next, which names its digit and says no more."""
        images, _, chosen = self.some(64, "exchanged")
        asked = {name: codes[chosen] for name, codes in self.test_set.attributes.items()}
        own = [self.classes[label] for label in asked["digit"]]
        other, rows, figures = np.roll(own, -1).tolist(), {"noise of": images[:8]}, {"images": len(images)}
        asked["digit"] = np.roll(asked["digit"], -1)
        for name in ("vae", "realnvp"):
            edited = self.models[name].edit(images, own, other, self.threads)
            rows[name] = edited[:8]
            figures[name] = metrics.caption_match(self.models["classifier"].judge(edited, self.threads).values, asked)
        return {**figures, "picture": self.rows("exchanged", rows, [f"now {digit}" for digit in other[:8]])}

    def edits(self) -> dict:
        data, language, chosen = self.test_set, self.test_set.language, []
        for before, after in CHANGES.items():
            said, change = language.parse(before), language.parse(after)
            chosen += [i for i in range(len(data)) if said.items() <= (now := data.describe(i)).items()
                       and not language.held_out(now | change)][:4]  # fmt: skip
        changes = np.repeat([*CHANGES.values()], 4).tolist()
        images, captions = unit(data.images[chosen]), data.captions(chosen)
        wanted = [language.change(caption, change) for caption, change in zip(captions, changes, strict=True)]
        rows = {"image": images}
        for name in self.there(READERS):
            rows[f"{LABELS[name]}, by caption"] = self.models[name].edit(images, captions, wanted, self.threads)
        directions = Directions(self.models["realnvp"], cut(self.train_set, 0, 5000), self.threads)
        rows["flow, by direction"] = directions.edit(images, captions, wanted)
        return {"picture": self.rows("edits", rows, [f"now {change}" for change in changes])}

    def walks(self) -> dict:
        (images, _, _), strips, model = self.some(4, "walks"), {}, self.models["vae"]
        for name in self.there(READERS):
            frames = self.models[name].interpolate(images[:2], images[2:], [""] * 2, 10, threads=self.threads)
            strips |= {LABELS[name]: frames[:, 0], f"{LABELS[name]} ": frames[:, 1]}
        a, b = self.rng("walk").standard_normal((2, len(CAPTIONS), model.config.latent), dtype=np.float32)
        angles = np.linspace(0, 2 * np.pi, 30, endpoint=False, dtype=np.float32)
        frames = [model.decode(np.cos(angle) * a + np.sin(angle) * b, CAPTIONS, self.threads) for angle in angles]
        film = pictures.film_of_grids(frames, len(CAPTIONS), milliseconds=100, hold=100)
        return {"picture": self.rows("walks", strips), "film": self.keep("walk.gif", film)}

    # --- denoise, again and again ------------------------------------------------------------------------------------

    def denoising(self) -> dict:
        captions, strips = CAPTIONS[:3], {}
        frames, clean = self.models["ddpm"].denoise(captions, self.rng("denoising"), threads=self.threads)
        shown = np.unique(np.linspace(0, len(frames) - 1, 11).round().astype(int))
        for i, name in enumerate(captions):
            strips |= {name: frames[shown, i], "taken for" + " " * i: clean[shown, i]}
        film = pictures.film_of_grids(np.concatenate([frames, clean], axis=1)[::2], len(captions))
        return {"steps": len(frames) - 1, "picture": self.rows("denoising", strips),
                "film": self.keep("denoising.gif", film)}  # fmt: skip

    def guess(self) -> dict:
        """What the network makes of nothing but noise, and of captions followed as learned."""
        model, blur = self.models["ddpm"], self.paint("regression", CAPTIONS, "guess")
        noise, tokens = model.noise(len(CAPTIONS), self.rng("guess")), model.vocabulary.encode(CAPTIONS)
        with no_grad():
            first = np.clip(model.denoiser(tokens, 1.0)(noise, model.config.time_steps) / 2 + 0.5, 0, 1)
        last = self.paint("ddpm", CAPTIONS, "guess")
        picture = self.rows("guess", {"regression": blur, "first guess": first, "finished": last}, CAPTIONS)
        return {"first": rms(first - blur), "last": rms(last - blur), "picture": picture}

    def noising(self) -> dict:
        """Images with noise of each level, and what the network takes them for, told the caption or nothing."""
        model, (images, captions, _) = self.models["ddpm"], self.some(64, "noising")
        tokens, noise = model.vocabulary.encode(captions), model.noise(len(images), self.rng("noising"))
        noisy, guesses = [], []
        for t in np.searchsorted(np.sqrt(1 / model.alpha_bar - 1), LEVELS).tolist():
            noisy.append(process.q_sample(images * 2 - 1, np.full(len(images), t), noise, model.alpha_bar))
            with no_grad():
                guesses.append([model.denoiser(tokens, guidance)(noisy[-1], t) for guidance in (1.0, 0.0)])
        rows = {"noisy": [x[0] for x in noisy], "taken for": [told[0] for told, _ in guesses]}
        told, untold = ([rms(guess / 2 + 0.5 - images) for guess in line] for line in zip(*guesses, strict=True))
        lines = {"with caption": (LEVELS, told), "without": (LEVELS, untold)}
        chart = line_chart(lines, x_label="noise over signal", y_label="error", log=True).encode()
        picture = self.rows("noising", {row: np.clip(np.stack(x) / 2 + 0.5, 0, 1) for row, x in rows.items()})
        return {"least": told[0], "most": told[-1], "blind": untold[-1], "picture": picture,
                "chart": self.keep("noising.svg", chart)}  # fmt: skip

    # --- films, and a world ------------------------------------------------------------------------------------------

    def moving(self) -> dict:
        real = datasets.load("moving", "test", 4)
        captions, found = real.captions(np.arange(4)), {"real": unit(real.images[:4])}
        found |= {name: self.paint(name, captions, "films") for name in self.there(["video"])}
        return {"frames": found["real"].shape[1], **{name: {
            "change": rms(np.diff(film, axis=1)), "film": self.keep(f"films-{name}.gif", films.gif(film, captions, 4)),
        } for name, film in found.items()}}  # fmt: skip

    def field(self) -> dict:
        """The games of a player who acts at random."""
        games, states, acted = (part(1, "test", 6) for part in (playground.load, playground.states, playground.actions))
        seen = playground.effects(states[:, :-1].reshape(-1, 5), acted.ravel()) > 0
        return {"actions": len(playground.ACTIONS), "states": playground.held_out().size, "seen": np.mean(seen),
                "film": self.keep("field.gif", films.gif(games.images, columns=6))}  # fmt: skip

    def world(self) -> dict:
        """The same games in the learned world, which is given the first frames and the actions."""
        model, acted = self.models["world"], playground.actions(1, "test", 6)
        learn_keys(model, "playground")
        real, keys = unit(playground.load(1, "test", 6).images), np.array([model.keys[n] for n in playground.ACTIONS])
        played = model.play(real[:, 0], keys[acted])
        film = self.keep("world.gif", films.gif(np.concatenate([real, played]), columns=6))
        first, last = (rms(played[:, step] - real[:, step]) for step in (1, -1))
        return {"first": first, "last": last, "still": rms(real[:, 0] - real[:, -1]), "steps": acted.shape[1],
                "film": film}  # fmt: skip

    # --- a judge of picture and caption ------------------------------------------------------------------------------

    def verdict(self) -> dict:
        """Captions that are true and false, scored; and of the GAN's training, how often a real picture won."""
        gan, (images, true, chosen) = self.models["gan"], self.some(2 * COUNT, "verdict")
        false = self.test_set.contradicting(chosen, true, self.rng("false captions"))
        with no_grad():
            seen = gan.discriminator.look(Tensor(images * 2 - 1))
            yes, no = (gan.discriminator.score(seen, gan.vocabulary.encode(told)).data for told in (true, false))
        log = json.loads((pretrained.FOLDER / "figures.json").read_text())["gan"]["contest"]
        steps, wins = log["step"], log["real_wins"]
        chart = line_chart({"real wins": (steps, wins)}, x_label="step", y_label="share").encode()
        return {"right": np.mean(yes > no), "count": len(images), "true": true, "yes": yes, "false": false, "no": no,
                "picture": self.keep("verdict.png", pictures.grid(images[:4], 4)), "least": min(wins),
                "last": wins[-1], "chart": self.keep("contest.svg", chart)}  # fmt: skip


def unit(images: np.ndarray) -> np.ndarray:
    """Bytes -> float32 in [0, 1]."""
    return images / np.float32(255)


def rms(difference: np.ndarray) -> float:
    """The root mean square over all pixels."""
    return float(np.sqrt(np.mean(difference**2)))
