"""Pack trained runs as the weights that come along, and measure them: `python -m bench pretrained RUNS`.

    inkling train vae --data digits --steps 8000 --out RUNS/vae        # and so for each
    inkling train gan --data digits --steps 2400 --set noise=0 --out RUNS/gan-no-noise
    python -m bench pretrained RUNS

RUNS holds a folder for each model, by the name that it is to have; what is not there is left as it is. Writes
`generators/pretrained/NAME.npz`, its figures beside it (`figures.json`, which the tests hold the weights to) and
`docs/pretrained.md`. The figures are the judge's, of the very files that are written, in half precision.
"""
from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

import datasets
from bench import films, physics, world
from disk import files
from generators import pretrained, registry
from generators.apps.experiments import CAPTIONS, OPTIONS
from generators.families.diffusion.video import Video
from generators.families.world.world import World
from generators.family import Family
from generators.judging.classifier import Classifier, accuracy
from generators.judging.evaluate import captions_of
from generators.plans import default_config
from generators.showing import log
from nn import checkpoint
from nn.parallel import Threads, derive_rng

DIGITS = 7  # binary ones, that a weight keeps
JUDGING = "gan"  # whose critic and whose contest with it come along, too: the lecture asks for both
DRAWS = 30  # pictures of each of the page's captions
FULL = 500  # pictures under full captions of the test images
FILMS, FILM_STEPS = 100, 15  # films under captions of the test films, in so many denoising steps
PAGE = pretrained.FOLDER.parents[1] / "docs/pretrained.md"
FIGURES = pretrained.FOLDER / "figures.json"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench pretrained", description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", type=Path, metavar="RUNS", help="the folder that holds the runs, by name")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    threads = Threads(options.threads)
    found = sorted(path.parent for path in options.runs.glob("*/checkpoint.npz"))
    if not found:
        parser.error(f"{options.runs} holds no runs")
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    test = datasets.load("digits", "test", limit=2000)
    for run in sorted(found, key=lambda run: run.name != "classifier"):  # the judge first: it measures the others
        pack(run, pretrained.FOLDER / f"{run.name}.npz")
        figures[run.name] = measure(run.name, test, threads) | (contest(run) if run.name == JUDGING else {})
        print(run.name, figures[run.name], flush=True)
        files.write(FIGURES, (json.dumps(figures, indent=2, sort_keys=True) + "\n").encode())
        files.write(PAGE, page(figures, len(test)).encode())
    return 0


def pack(run: Path, target: Path) -> None:
    """Write the averaged weights of a run's folder, in half precision, and what sampling needs to know, to `target`.

    They are rounded to seven binary digits, so that they can be compressed by a quarter, and a critic is left out.
    Raises CheckpointError if the folder holds no checkpoint, or a weight is too large for half precision.
    """
    arrays, meta = registry.read(run / "checkpoint.npz")
    kept = {}
    for name, array in arrays.items():
        if name.startswith("ema/") and (target.stem == JUDGING or not name.startswith(f"ema/{registry.CRITIC}")):
            kept[name] = rounded(array) if array.dtype.kind == "f" else array
            if not np.isfinite(kept[name]).all():
                raise checkpoint.CheckpointError(f"{name!r} of {run} has numbers too large for half precision (65,504)")
    checkpoint.save(target, kept, meta, compressed=True)


def rounded(array: np.ndarray) -> np.ndarray:
    """To `DIGITS` binary digits, in half precision; what is too large becomes infinite."""
    mantissa, exponent = np.frexp(array)  # array = mantissa * 2^exponent, |mantissa| in [1/2, 1)
    with np.errstate(over="ignore"):
        return np.ldexp(np.round(mantissa * 2**DIGITS), exponent - DIGITS).astype(np.float16)


@functools.cache
def _training(data: str):
    return datasets.load(data, "train")


def measure(name: str, test, threads: Threads) -> dict:
    """How the model was made, and what the judge reads in its pictures."""
    path = pretrained.find(name)
    model, meta = registry.open_run(path)
    judge = registry.load("classifier")
    plan = meta["plan"]
    usual = flat(asdict(default_config(meta["family"], _training(plan["data"]))))
    settings = " ".join(f"--set {key}={value}" for key, value in flat(plan["config"]).items()
                        if json.dumps(value) != json.dumps(usual[key]))  # fmt: skip
    begun = f"--from {plan['origin']} " if plan.get("origin") else ""
    ended = "" if meta["step"] == plan["steps"] else f", ended at step {meta['step']}"
    made = {
        "command": f"inkling train {meta['family']} --data {plan['data']} --seed {plan['seed']} "
                   f"--steps {plan['steps']} {begun}{settings}".strip() + ended,
        "steps": meta["step"], "batch": plan["config"]["batch_size"],
        "machine": "{processor}, {cores} cores, BLAS for {blas_core}".format(**meta["machine"]),
        "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip
    if isinstance(model, World):
        found = world.measure(model)
        told, obeyed = found["latent"]["accuracy"]["all"], found["teacher_forced"]["obeyed"]
        return made | {"code_to_effect": told, "obeyed": obeyed}
    if isinstance(model, Video):
        return made | of_films(model, FILMS, 0, threads)
    if isinstance(model, Classifier):
        return made | {f"reads_{what}": share for what, share in accuracy(model, test, threads).items()}
    captions = [caption for caption in CAPTIONS for _ in range(DRAWS)]
    page = read(judge, model, captions, derive_rng(0, "page captions"), threads, **OPTIONS.get(name, {}))
    full, _ = captions_of(test, FULL)
    of_full = read(judge, model, full, derive_rng(0, "full captions"), threads)
    return made | {"page_digit": page["digit"], "full_digit": of_full["digit"], "full_all": of_full["all"]}


def flat(config: dict) -> dict:
    """Settings of settings by their dotted names, as `--set` has them."""
    inner = ({key: value} if not isinstance(value, dict) else {f"{key}.{k}": v for k, v in flat(value).items()}
             for key, value in config.items())  # fmt: skip
    return {key: value for part in inner for key, value in part.items()}


def of_films(model: Video, count: int, seed: int, threads: Threads) -> dict[str, float]:
    """Shares of films, one for each of so many test films' captions, whose figures are as asked and lawful."""
    captions = films.captions_of(datasets.load("moving", "test", count))
    painted = model.sample(captions, derive_rng(seed, "films"), threads, steps=FILM_STEPS)
    found = films.figures(physics.read(painted, registry.load("classifier"), threads), captions)
    return {name: found[name] for name in ("digit", "stroke", "direction", "all", "lawful")}


def contest(run: Path) -> dict:
    """Of a run with a critic, how often that preferred the real picture to the painted one, in 30 stretches."""
    rows = [json.loads(line) for line in (run / log.NAME).read_text().splitlines()]
    if "real_wins" not in rows[0]:
        return {}
    stretches = np.array_split(np.array([(row["step"] + 1, row["real_wins"]) for row in rows]), min(30, len(rows)))
    steps, wins = zip(*((int(part[-1, 0]), round(part[:, 1].mean(), 4)) for part in stretches), strict=True)
    return {"contest": {"step": steps, "real_wins": wins}}


def read(
    judge: Classifier, model: Family, captions: list[str], rng: np.random.Generator, threads: Threads, **options
) -> dict[str, float]:
    """Shares of pictures, one for each caption, that the judge reads as asked: the digit; all that the caption says."""
    values = judge.judge(model.sample(captions, rng, threads=threads, **options), threads).values
    asked = judge.asked(captions)
    right = np.all([(asked[name] < 0) | (values[name] == asked[name]) for name in asked], axis=0)
    return {"digit": float(np.mean(values["digit"] == asked["digit"])), "all": float(right.mean())}


def standard_error(share: float, count: int) -> float:
    """Of a share of so many independent draws."""
    return math.sqrt(max(share * (1 - share), 1 / count) / count)


def page(figures: dict, tests: int) -> str:
    """`docs/pretrained.md`."""
    judge = figures["classifier"]
    lines = [
        "# The weights that come along", "",
        "`inkling sample vae`, `generators.load('vae')` and the first part of `make demo` use these: models trained by",
        "the commands below, mostly the defaults on the built-in digits, their averaged weights in half precision,",
        "rounded to seven binary digits and compressed. Made, measured and written by",
        "", "```", "python -m bench pretrained RUNS", "```", "",
        f"The judge is the classifier among them; of {tests:,} test images it reads the digit of "
        f"{judge['reads_digit']:.2%} and everything of {judge['reads_all']:.1%}.", "",
        f"- *page*: {DRAWS} draws of each of the demo's {len(CAPTIONS)} captions, with the options of the demo",
        "  (`OPTIONS` in `generators/apps/experiments.py`), whose digit is read as asked; the standard error is at",
        f"  most {standard_error(0.5, DRAWS * len(CAPTIONS)):.1%}.",
        f"- *full*: one draw for each of {FULL} test images' full captions: the digit, and all that the caption says;",
        f"  standard error at most {standard_error(0.5, FULL):.1%}.", "",
        "| name | steps | batch | page | full: digit | full: all | kB | SHA-256, first twelve |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in figures.items():
        painted = [f"{row[key]:.1%}" for key in ("page_digit", "full_digit", "full_all") if key in row] or ["–"] * 3
        size, digest = f"{row['bytes'] / 1000:,.0f}", f"`{row['sha256'][:12]}`"
        lines.append(f"| `{name}` | {row['steps']:,} | {row['batch']} | {' | '.join([*painted, size, digest])} |")
    if "world" in figures:
        told = "its code tells the effect in {code_to_effect:.1%} of transitions; {obeyed:.1%} of keys are obeyed"
        lines += ["", f"`world`, where nothing was seen before: {told.format(**figures['world'])} (`bench world`)."]
    if "video" in figures:
        film = figures["video"]
        told = ", ".join(f"{name} {film[name]:.0%}" for name in ("digit", "stroke", "direction", "all"))
        lines += ["", f"`video`: of {FILMS} films in {FILM_STEPS} steps as asked: {told}; lawful {film['lawful']:.0%}",
                  f"(standard error at most {standard_error(0.5, FILMS):.0%}; by the judge of `bench films`,",
                  "other draws)."]  # fmt: skip
    lines += ["", "How each was trained, and on what (that a run was lengthened is added by hand):", "", "```"]
    lines += [f"{row['command']}    # {row['machine']}" for row in figures.values()]
    return "\n".join([*lines, "```", ""])
