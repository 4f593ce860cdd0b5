"""Is the physics of painted films right?  `python -m bench films RUN`.

A model of `inkling train video` paints films of the captions of test films, and the judge of films (`physics.py`),
exact on real ones, says what is as asked and what is lawful. Beside it:

    real films                         the ceiling of each figure
    captions of other films            what is right by chance
    each frame alone                   the run in --without-time, trained with --set across_time=false
    stills, moved                      digits painted by the run in --stills and moved by the law, which is cheating

Then it continues films of which six frames are given, with a wall to be met and without; fills in the middle of films;
continues films at a speed between the two of training; and paints real films on from each level of noise, which shows
where what is decided (`noise_factor`).
"""

import argparse
import math
from pathlib import Path

import numpy as np
from tqdm import tqdm

import datasets
import generators
from bench import physics
from bench.edits import as_text
from datasets.dataset import Dataset
from datasets.moving import FRAMES, SIDE, Films, positions
from disk import files
from generators.families.diffusion import process
from generators.families.diffusion.video import Video, parted
from generators.judging.classifier import Classifier
from generators.judging.evaluate import draw
from generators.judging.metrics import frechet_distance
from generators.registry import open_run
from generators.showing import films as showing
from generators.showing.page import Page
from generators.showing.pictures import to_uint8
from nn.parallel import Threads, derive_rng

# figure -> (its title, bar, goal)
FIGURES = {
    "digit": ("digit as asked", 0.90, 0.97),
    "stroke": ("stroke as asked", None, None),
    "direction": ("direction as asked", 0.90, 0.98),
    "speed": ("speed within 0.25 pixels a frame", 0.85, 0.95),
    "walls": ("walls as asked", None, None),
    "all": ("all that the caption says", 0.75, 0.90),
    "unseen": ("all, combinations never seen", 0.60, 0.85),
    "lawful": ("lawful", 0.70, 0.90),
    "turning": ("films that turn round", None, None),
    "lawful_turning": ("lawful, of those that turn", None, None),
    "same": ("the same digit in every frame", 0.90, 0.98),
    "ink": ("ink varies over frames by", 0.10, 0.04),
    "frechet": ("Frechet distance / floor", 30.0, 10.0),
}
GIVEN, SHOWN = 6, 12  # frames that are given, and films on the page
LEVELS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # of noise over signal


def measure(films: np.ndarray, captions: list[str], reference: tuple, judge: Classifier, threads: Threads) -> dict:
    """The figures of films asked for by these captions; reference: features of real films, and the floor."""
    reading = physics.read(films, judge, threads)
    features, floor = reference
    return figures(reading, captions) | {"frechet": frechet_distance(reading.features, features) / floor}


def figures(reading: physics.FilmReading, captions: list[str]) -> dict[str, float]:
    """Shares of films, and how much their ink varies."""
    shares = {name: float(np.nanmean(right)) for name, right in physics.obeyed(reading, captions).items()}
    return shares | {
        "lawful": float(reading.lawful.mean()),
        "turning": float(reading.turns.mean()),
        "lawful_turning": float(reading.lawful[reading.turns].mean()) if reading.turns.any() else None,
        "same": float(reading.same.mean()),
        "ink": float(reading.ink.mean()),
    }


def moved_stills(model, dataset: Dataset, seed: int, threads: Threads) -> np.ndarray:
    """Small digits as a model of images paints them, moved as the films of the data set are, uint8 (N, T, H, W, 1)."""
    what = [f"a small {words['stroke']} {words['digit']}" for words in map(dataset.describe, range(len(dataset)))]
    films, stills, painted = dataset.images, draw(model, what, seed, threads), []
    for number, still in enumerate(stills):
        path, room = physics.track(still[None, None].repeat(2, axis=1) / np.float32(255))
        paths = films.path(slice(number, number + 1), np.maximum(room, 6))
        moved = (paths[0] - path[0, :1]).astype(int)
        painted.append([np.roll(still, tuple(shift), axis=(0, 1)) for shift in moved])
    return np.array(painted)


def continuing(model: Video, dataset: Dataset, options: dict, seed: int, threads: Threads) -> tuple[dict, np.ndarray]:
    """How far from its place the digit is, pixels root mean square over the frames that were not given, by way and by
    whether a wall is met there; and the films as continued."""
    real = dataset.images[:] / np.float32(255)
    path, room = physics.track(real)
    last, step = path[:, GIVEN - 1], path[:, GIVEN - 1] - path[:, GIVEN - 2]
    ahead = np.arange(1, FRAMES - GIVEN + 1)[:, None]
    reflected = positions(path[:, 0], path[:, 1] - path[:, 0], room, np.full(len(real), True))
    painted = model.continue_(real, captions_of(dataset), derive_rng(seed, "continuing"), GIVEN, threads, **options)
    ways = {
        "the last frame repeated": np.repeat(last[:, None], len(ahead), axis=1),
        "constant velocity": last[:, None] + step[:, None] * ahead,
        "constant velocity with reflection": reflected[:, GIVEN:],
        "continued by the model": physics.track(painted)[0][:, GIVEN:],
    }
    truth = path[:, GIVEN:]
    bouncing = np.array([dataset.describe(i)["walls"] == "bouncing" for i in range(len(dataset))])
    straight = (np.abs(ways["constant velocity"] - truth) < 1e-6).all(axis=(1, 2))
    met, free = bouncing & ~straight, straight
    figures = {"films": {"wall": int(met.sum()), "no wall": int(free.sum())}}
    for way, places in ways.items():
        off = (places - truth + SIDE / 2) % SIDE - SIDE / 2  # the shorter way around
        squares = (off**2).sum(axis=2).mean(axis=1)
        figures[way] = {"wall": _root_mean(squares[met]), "no wall": _root_mean(squares[free])}
    return figures, painted


def _root_mean(squares: np.ndarray) -> float:
    return float(np.sqrt(squares.mean())) if len(squares) else float("nan")


def filling(model: Video, dataset: Dataset, options: dict, seed: int, threads: Threads) -> dict:
    """Of films that move and whose first and last third are given: the share whose middle fits, so that the digit moves
    out of the one and into the other exactly as far as in the real film; by whether a wall is met between."""
    given, real = np.repeat([True, False, True], FRAMES // 3), dataset.images[:] / np.float32(255)
    painted = model.continue_(real, captions_of(dataset), derive_rng(seed, "filling"), given, threads, **options)
    steps, of_model = physics.displacements(real), physics.displacements(painted)  # (N, T - 1, 2)
    joints = np.flatnonzero(np.diff(given))  # the step out of what is given, and the one back into it
    fits = (of_model == steps)[:, joints].all(axis=(1, 2))
    moves, met = steps.any(axis=(1, 2)), np.diff(steps[:, joints[0] - 1 : joints[1] + 1], axis=1).any(axis=(1, 2))
    return {name: {"films": int(which.sum()), "fits": float(fits[which].mean()) if which.any() else math.nan}
            for name, which in {"wall": moves & met, "no wall": moves & ~met}.items()}  # fmt: skip


def between_speeds(model: Video, dataset: Dataset, options: dict, seed: int, threads: Threads) -> dict:
    """Films at 1, 1.5 and 2 pixels a frame that wrap around, under captions that say only the digit: the speed at which
    they go on, and the share of those that are nearest to each of the three."""
    films, found = dataset.images, {}
    moves = np.array([dataset.describe(i)["direction"] != "still" for i in range(len(dataset))])
    captions = [dataset.classes[label] for label in dataset.labels[moves]]
    for speed in (1.0, 1.5, 2.0):
        velocity, wrapping = np.sign(films.velocity[moves]) * speed, np.full(moves.sum(), False)
        real = Films(films.keys[moves], films.codes[moves], velocity, wrapping, films.places[moves])[:]
        rng = derive_rng(seed, "between")
        painted = model.continue_(real / np.float32(255), captions, rng, GIVEN, threads, **options)
        steps = np.abs(physics.displacements(painted)[:, GIVEN - 1 :]).mean(axis=1).max(axis=1)
        nearest = np.abs(steps[:, None] - [1.0, 1.5, 2.0]).argmin(axis=1)
        found[f"{speed:g}"] = {"mean": float(steps.mean())} | {
            f"near {at:g}": float((nearest == place).mean()) for place, at in enumerate((1.0, 1.5, 2.0))
        }
    return found


def painted_on(model: Video, dataset: Dataset, judge: Classifier, steps: int, seed: int, threads: Threads) -> dict:
    """Of real films with noise of each level, painted on under the empty caption: the shares whose digit, direction and
    law came back. Where they fall is what training must look at most."""
    real = dataset.images[:] / np.float32(255)
    truth, found = physics.read(real, judge, threads), {}
    levels, rng, clean = np.sqrt(1 / model.alpha_bar - 1), derive_rng(seed, "painted on"), parted(real * 2 - 1)
    for level in tqdm(LEVELS, desc="painting on", leave=False):
        t = int(np.searchsorted(levels, level))
        times = [t, *(s for s in model.times(steps) if s < t)]
        noise = rng.standard_normal(clean.shape, dtype=np.float32)
        x_t = process.q_sample(clean, np.full(len(real), t), noise, model.alpha_bar)
        guess = model.denoiser(np.zeros((len(real), 1), np.int64), 0.0)
        reading = physics.read(model.finished(process.sample(guess, x_t, times, model.alpha_bar)), judge, threads)
        found[f"{level:g}"] = {
            "digit": float((reading.digit == truth.digit).mean()),
            "direction": float((reading.direction == truth.direction).mean()),
            "lawful": float(reading.lawful.mean()),
        }
    return found


def captions_of(dataset: Dataset) -> list[str]:
    return dataset.captions(range(len(dataset)))


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    threads, out, n = Threads(options.threads), Path(options.out), options.n
    judge = generators.load("classifier")
    test, unseen = datasets.load("moving", "test", 2 * n), datasets.load("moving", "unseen", n)
    real, other = test.images[:n], test.images[n:]
    captions, never = test.captions(range(n)), captions_of(unseen)
    seen = physics.read(real, judge, threads)
    reference = seen.features, frechet_distance(seen.features, physics.read(other, judge, threads).features)

    def of_unseen(films: np.ndarray) -> dict:
        return {"unseen": figures(physics.read(films, judge, threads), never)["all"]}

    rows = {"real films": figures(seen, captions) | of_unseen(unseen.images[:]) | {"frechet": 1.0}}
    results = {"n": n, "seed": options.seed, "steps": options.sample_steps, "judge": judge.weights_hash(), "rows": rows}
    sampler = {"steps": options.sample_steps} | ({} if options.guidance is None else {"guidance": options.guidance})
    shown = {}
    for name, run in {"video": options.run, "each frame alone": options.without_time}.items():
        if not run:
            continue
        model, meta = open_run(run)
        painted = draw(model, captions, options.seed, threads, sampler)
        rows[name] = measure(painted, captions, reference, judge, threads) | {"training steps": meta.get("step")}
        rows[name] |= of_unseen(draw(model, never, options.seed, threads, sampler))
        shown[name] = painted
    rows["captions of other films"] = measure(shown["video"], captions[1:] + captions[:1], reference, judge, threads)
    if options.stills:
        moved = moved_stills(generators.load(options.stills), datasets.load("moving", "test", n), options.seed, threads)
        rows["stills, moved"] = measure(moved, captions, reference, judge, threads)
    print(as_text(table(rows)), flush=True)
    model, part = generators.load(options.run), datasets.load("moving", "test", options.continued)
    results["continuing"], continued = continuing(model, part, sampler, options.seed, threads)
    results["filling"] = filling(model, part, sampler, options.seed, threads)
    results["between speeds"] = between_speeds(model, part, sampler, options.seed, threads)
    few = datasets.load("moving", "test", min(options.continued, 100))
    results["painted on"] = painted_on(model, few, judge, options.sample_steps, options.seed, threads)
    for name in ("continuing", "filling", "between speeds", "painted on"):
        print(f"\n{name}\n{as_text(listed(results[name]))}")
    files.write_json(out / "films.json", results)
    build_page(results, captions, real, shown, part, continued).write(out / "films.html")
    print(f"\nJudge {results['judge']}. Films and figures: {out / 'films.html'}, {out / 'films.json'}")
    return 0


def table(rows: dict) -> list[list[str]]:
    """The head and the lines: a figure each, with its bar and goal."""
    def cell(name: str, value: float | None) -> str:
        return "—" if value is None else f"{value:.1f}" if name == "frechet" else f"{value:.1%}"

    lines = [["", *rows, "bar", "goal"]]
    for name, (title, bar, goal) in FIGURES.items():
        lines.append([title, *(cell(name, value) for value in (*(row.get(name) for row in rows.values()), bar, goal))])
    return lines


def listed(figures: dict[str, dict]) -> list[list[str]]:
    """A table of tables: a line for each outer name."""
    heads = list(dict.fromkeys(name for inner in figures.values() for name in inner))
    return [["", *heads]] + [
        [name, *(f"{inner[head]:g}" if isinstance(inner[head], int) else f"{inner[head]:.2f}" for head in heads)]
        for name, inner in figures.items()
    ]


def build_page(results: dict, captions: list[str], real: np.ndarray, shown: dict, part: Dataset, continued) -> Page:
    page = Page(
        "Films, measured",
        f"{results['n']:,} films of captions of the test set, in {results['steps']} denoising steps; judge "
        f"{results['judge']}.",
    )
    rows = table(results["rows"])
    page.section("Figures", "Real films show what the judge can read at most.")
    page.table(rows[0], rows[1:])
    for name, films in {"real films": real, **shown}.items():
        page.section(name[0].upper() + name[1:])
        page.picture(showing.gif(films[:SHOWN], captions[:SHOWN]), f"Captions of test films; {name}.")
    page.section("Continuing", f"{GIVEN} of {FRAMES} frames are given. Pixels from the right place, root mean square, "
                 "of films that bounce off a wall from the last of them on, and of all that go straight on.")
    lines = listed(results["continuing"])
    page.table(lines[0], lines[1:])
    both = {"the film": to_uint8(part.images[:4]), "continued": to_uint8(continued[:4])}
    page.picture(showing.shown(both, captions_of(part)[:4])["film"](), "The film, and how the model continues it.")
    for name, text in {
        "filling": "Of films that move the first and the last third are given. The share in which the digit moves out "
        "of the one and into the other exactly as far as in the real film; by whether a wall is met between.",
        "between speeds": "Films that begin at a speed, two of them of training and one between, and go on at this.",
        "painted on": "Real films with noise, by noise over signal, painted on: what came back.",
    }.items():
        page.section(name[0].upper() + name[1:], text)
        lines = listed(results[name])
        page.table(lines[0], lines[1:])
    return page


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench films", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default="runs/video-moving", help="a trained video (default: %(default)s)")
    parser.add_argument("--without-time", metavar="RUN", help="one trained with --set across_time=false")
    parser.add_argument("--stills", metavar="RUN", help="a model of the digits, whose pictures are moved by the law")
    parser.add_argument("-n", type=int, default=1000, help="films (default: 1000)")
    parser.add_argument("--continued", type=int, default=200, help="films to be continued (default: 200)")
    parser.add_argument("--sample-steps", type=int, default=25, help="denoising steps (default: 25)")
    parser.add_argument("--guidance", type=float, help="default: the model's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", default="out/films", help="folder of the page and the figures (default: out/films)")
    return parser
