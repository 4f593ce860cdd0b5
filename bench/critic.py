"""What is a critic worth to another method?  `python -m bench critic`

    python -m bench critic --only flow                the flow for so many minutes, and the flow with a critic
    python -m bench critic --only diffusion           a denoiser, and the same that a critic has taught to paint at once

Everything has the same budget, --minutes or --steps. The flow learns by likelihood alone for half of it and by both for
the rest; its rival learns by likelihood for all of it. A teacher in diffusion has half of it, its student the rest, and
the rivals all: the teacher in 10, 4, 2 and 1 steps, a GAN, and the student's own network as a GAN from scratch.

With --flow or --teacher, trained models, that come along or are runs, the budget begins with these: both flows go on
from the one, the critic from the first step; of diffusion the student is trained, and what begins from scratch.

For the VAE, `inkling train vae` and `vaegan` and `inkling evaluate` say the same. Runs are kept below --out.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import datasets
from bench.kept import place, trained
from datasets.dataset import Dataset
from disk import files
from generators import plans, registry
from generators.config import with_text
from generators.family import Family
from generators.judging.evaluate import UNSEEN, Reference, captions_of, draw, of_images
from generators.judging.metrics import caption_match
from generators.showing import pictures
from nn.parallel import Threads

TEACHER_STEPS = (10, 4, 2, 1)
COLUMNS = {
    "steps": "{:,}", "minutes": "{:.1f}", "fid": "{:.2f}", "fid_ratio": "{:.1f}", "recall": "{:.3f}",
    "as_asked": "{:.1%}", "all": "{:.1%}", "unseen": "{:.1%}", "bits": "{:.3f}", "exact": "{:.0%}",
    "pictures_a_second": "{:.0f}",
}  # fmt: skip


class Contest:
    """One data set and budget, and who is trained and measured on it."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.threads, self.out = options, Threads(options.threads), Path(options.out)
        data, count = options.data, options.n
        self.training, test = datasets.load(data, "train", options.images), datasets.load(data, "test", count)
        unseen = datasets.load("digits", "unseen", count) if data == "digits" else None
        judge = registry.load(options.judge)
        self.reference = Reference(judge, self.training, test, unseen, self.threads, count)
        print(self.reference.about_the_judge(), f"FID of real images {self.reference.figures['fid_floor']:.3f}.")

    def budget(self, share: float) -> tuple[float, int | None]:
        """So much of it: minutes, and steps if they are what it is in."""
        steps = self.options.steps
        return self.options.minutes * share, steps and max(1, round(steps * share))

    def train(self, name: str, share: float = 1.0, where: str = "", origin: str = "", **settings) -> tuple:
        """A model and how it was trained, for this share of the budget."""
        (minutes, steps), config, weights = self.budget(share), plans.default_config(name, self.training), None
        if origin:
            config, weights = registry.taken_over(name, origin, config)
        asked = dict(pair.split("=", 1) for pair in self.options.set)
        known = {key: text for key, text in asked.items() if hasattr(config, key.split(".")[0])}
        return trained(
            self.out / where, with_text(replace(config, **settings), known), name, self.training, self.options.data,
            minutes, self.options.seed, self.threads, steps, origin, weights,
        )  # fmt: skip

    def measure(self, model: Family, how: dict, **sampling) -> dict:
        """The figures of one contestant, painting with these options."""
        reference, seed = self.reference, self.options.seed
        captions, _ = captions_of(reference.test, reference.samples)
        start = time.perf_counter()
        images = draw(model, captions, seed, self.threads, sampling)
        seconds = time.perf_counter() - start
        found = of_images(images, captions, reference)
        first = reference.judge.config.names[0]
        figures = {
            "steps": how.get("steps"), "minutes": how.get("train_minutes"), "fid": found["fid"],
            "fid_ratio": found["fid_ratio"], "recall": found["recall"], "as_asked": found["match"].get(first),
            "all": found["match"]["all"], "pictures_a_second": len(images) / seconds,
        }  # fmt: skip
        if reference.unseen is not None:
            new, _ = captions_of(reference.unseen, min(UNSEEN, reference.samples))
            reading = reference.judge.judge(draw(model, new, seed + 1, self.threads, sampling), self.threads)
            figures["unseen"] = caption_match(reading.values, reference.judge.asked(new))["all"]
        if hasattr(model, "bits") and not sampling:
            some = reference.test.images[:200] / np.float32(255)
            back = model.reconstruct(some, captions[:200], self.threads)
            figures["bits"] = model.likelihood_figures(reference.test, seed, self.threads)["bits_per_dimension"]
            figures["exact"] = float(np.mean((back == some).all(axis=(1, 2, 3))))
        return figures | {"images": images}


def flows(contest: Contest) -> Iterator[tuple[str, dict]]:
    """The flow without the critic and with it, as they are sampled by default, and at temperature 1 without guidance,
    which is what the critic has judged."""
    origin = contest.options.flow
    for name, settings in (("realnvp", {}), ("flowgan", {"begins": 0.0} if origin else {})):
        model, how = contest.train(name, origin=origin, **settings)
        yield name, contest.measure(model, how)
        yield f"{name}, as it is judged", contest.measure(model, how, temperature=1.0, guidance=1.0)


def few_steps(contest: Contest) -> Iterator[tuple[str, dict]]:
    """The teacher in few steps, the student, and what might have been trained instead."""
    teacher = contest.options.teacher
    if teacher:
        model, how = registry.load(teacher), {}
    else:
        model, how = contest.train("ddpm")
    for steps in TEACHER_STEPS:
        yield f"ddpm in {steps}", contest.measure(model, how, steps=steps)
    share = 1.0 if teacher else 0.5
    if not teacher:
        contest.train("ddpm", share)
        minutes, steps = contest.budget(share)
        teacher = str(place(contest.out, "ddpm", minutes, contest.options.seed, steps))
    for steps in contest.options.student_steps:
        model, how = contest.train("fewstep", share, f"in-{steps}", teacher, steps=steps)
        yield f"fewstep in {steps}", contest.measure(model, how)
    for name, where in (("fewstep", "scratch"), ("gan", "")) if contest.options.rivals else ():
        yield f"{name} from scratch", contest.measure(*contest.train(name, where=where))


def table(rows: dict[str, dict]) -> str:
    """The figures, as docs have them."""
    names = [name for name in COLUMNS if any(row.get(name) is not None for row in rows.values())]
    shown = lambda row, name: COLUMNS[name].format(row[name]) if row.get(name) is not None else ""  # noqa: E731
    lines = [["", *(name.replace("_", " ") for name in names)], ["---"] * (len(names) + 1)]
    lines += [[title, *(shown(row, name) for name in names)] for title, row in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    contest, rows, images = Contest(options), {}, {}
    parts = {"flow": flows, "diffusion": few_steps}
    for part in [options.only] if options.only else parts:
        for title, figures in parts[part](contest):
            images[title] = figures.pop("images")[:10]
            rows[title] = figures
            print(f"{title}: {json.dumps(figures)}", flush=True)
    test: Dataset = contest.reference.test
    drawn = pictures.rows({"real": test.images[:10]} | images, columns=test.captions(range(10)))
    files.write(contest.out / "samples.png", pictures.png_bytes(drawn))
    files.write_json(contest.out / "critic.json", rows)
    print(table(rows), f"\nPictures: {contest.out / 'samples.png'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench critic", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default="digits", help=f"{', '.join(datasets.NAMED)} (default: digits)")
    parser.add_argument("--only", choices=("flow", "diffusion"))
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=10.0, help="of training, for each (default: 10)")
    budget.add_argument("--steps", type=int, help="of training, for each, in place of minutes")
    parser.add_argument("--flow", default="", metavar="RUN", help="a trained realnvp that both flows begin with")
    parser.add_argument("--teacher", default="", metavar="RUN", help="a trained ddpm (default: one is trained)")
    parser.add_argument("--student-steps", type=int, nargs="+", default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument(
        "--rivals", action=argparse.BooleanOptionalAction, default=True,
        help="also train the student's network, and a gan, from scratch (default: yes)",
    )  # fmt: skip
    parser.add_argument("--images", type=int, help="of training, the first so many (default: all)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="of the configs that have such a setting"
    )
    parser.add_argument("--judge", default="classifier", help="default: the one that comes along, for digits")
    parser.add_argument("-n", type=int, default=10_000, help="samples, and test images at most (default: 10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", default="out/critic", help="folder of the runs and pictures (default: out/critic)")
    return parser
