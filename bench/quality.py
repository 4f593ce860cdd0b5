"""How good the samples are, every family on the same data, budget and judge: `python -m bench quality`.

    python -m bench quality --data fashion --minutes 20 --json quality.json

Each family trains for the same minutes and is measured by `generators/judging/evaluate.py`; diffusion, whose figure is
the headline, with three seeds. Diffusion is also measured against minutes of training and steps of sampling. If PyTorch
is installed, so is its twin, once: the same layers, weights, batches and schedule, in the fastest of PyTorch's ways,
for as many steps as it makes while ours makes its own, not counting what it compiles. --no-sweep and --no-peer leave
these hours out.
Runs are kept below --out, one folder for each budget and seed: what was interrupted goes on (the twin begins anew),
what is done is only measured again. The results are a table, JSON, and a page with the pictures.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

import datasets
from bench.arena import torch_is_installed
from bench.kept import trained
from bench.models import add_families
from bench.peers import kept as twins
from disk import files
from generators import plans
from generators.errors import RunError
from generators.families.diffusion import ddpm
from generators.family import Family
from generators.judging.classifier import Classifier
from generators.judging.evaluate import Reference, draw, evaluate, summary
from generators.registry import able
from generators.showing import pictures
from generators.showing.charts import line_chart
from generators.showing.page import Page
from nn.parallel import Threads, derive_rng

HEADLINE = "ddpm"
PEER = f"{HEADLINE} in PyTorch"
TRAINING_MINUTES = (1, 2, 5, 10, 20)
SAMPLING_STEPS = (4, 10, 25, 50, 250)
HOW = ("parameters", "steps", "train_minutes", "sampling_seconds")
READS = {"digits": 0.99, "fashion": 0.91}  # what a judge has to read of the test images to be trusted
AXES = {"minutes": "minutes of training", "steps": "steps of sampling"}
COLUMNS = {
    "parameters": "{:,}", "steps": "{:,}", "train_minutes": "{:.1f}", "sampling_seconds": "{:.0f}", "fid": "{:.3f}",
    "fid_ratio": "{:.1f}", "precision": "{:.3f}", "recall": "{:.3f}", "class_match": "{:.3f}", "all_match": "{:.3f}",
    "unseen_match": "{:.3f}", "variety": "{:.2f}", "nearest_mean": "{:.2f}", "copies": "{:.3f}",
    "accuracy_score": "{:.3f}", "bits_per_dimension": "{:.3f}",
    "bits_per_dimension_bound": "{:.3f}", "nats": "{:.1f}",
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    threads = Threads(options.threads)
    out = Path(options.out or f"out/quality-{Path(options.data).name}")
    json_path = options.json or out / "quality.json"
    training, test = datasets.load(options.data, "train"), datasets.load(options.data, "test")
    unseen = datasets.load("digits", "unseen") if options.data == "digits" else None

    def keep(name: str, minutes: float, seed: int) -> tuple[Family, dict]:
        return trained(out, plans.default_config(name, training), name, training, options.data, minutes, seed, threads)

    judge, _ = keep("classifier", options.judge_minutes, 0)
    assert isinstance(judge, Classifier)
    reference = Reference(judge, training, test, unseen, threads, options.n)
    print(reference.about_the_judge(), flush=True)
    _warn_of_the_judge(reference.figures, options.data)
    measure = partial(_measure, reference)
    results: dict = {"data": options.data, "minutes": options.minutes, "real": reference.figures, "families": {}}
    models = {}
    for name in options.families:
        seeds = range(options.seed, options.seed + (options.seeds if name == HEADLINE else 1))
        repeats = []
        for seed in seeds:
            model, how = keep(name, options.minutes, seed)
            repeats.append(how | measure(model, seed, score=seed == options.seed))
            models.setdefault(name, model)
        ratios = [figures["fid_ratio"] for figures in repeats]
        results["families"][name] = repeats[0] | {"fid_ratio_seeds": ratios}
        _save(results, json_path)
        _report(name, results["families"][name])
    if options.peer:
        models[PEER], results["peer"] = _peer(out, training, results, measure, threads, options)
        _save(results, json_path)
        _report(PEER, results["peer"])
        print(_comparison(results["peer"]))
    if options.sweep:
        results["sweeps"] = {"minutes": [], "steps": []}
        for axis, x, fid in _sweep(models[HEADLINE], results["families"][HEADLINE]["fid"], keep, measure, options):
            results["sweeps"][axis].append([x, fid])
            _save(results, json_path)
            print(f"{HEADLINE}, {x:g} {AXES[axis]}: FID {fid:.3f}", flush=True)
    page = build_page(results, models, test, options.seed, threads)
    page.write(out / "index.html")
    print(f"Pictures and figures: {out / 'index.html'}, {json_path}")
    return 0


def _measure(reference: Reference, model: Family, seed: int, score: bool = False, **options) -> dict:
    figures = evaluate(model, reference, seed, options, score)
    first = reference.judge.config.names[0]  # "digit" or "class"
    shares = {"class_match": figures["match"].get(first), "all_match": figures["match"]["all"]}
    if "match_unseen" in figures:
        shares["unseen_match"] = figures["match_unseen"]["all"]
    return figures | shares


def _warn_of_the_judge(figures: dict, data: str) -> None:
    """What a judge cannot read it cannot compare."""
    least, reads = READS.get(data, 0.0), next(iter(figures["match_ceiling"].values()))
    if reads < least:
        print(f"The judge reads less than {least:.0%}, too little to be trusted: give it more --judge-minutes.")


def _peer(out: Path, training, results: dict, measure, threads: Threads, options) -> tuple[Family, dict]:
    """The headline family's twin, trained in PyTorch and painting with our sampler, and its figures beside ours."""
    model, how = twins.trained(
        out, plans.default_config(HEADLINE, training), HEADLINE, training, options.data, options.minutes, options.seed,
        threads, options.peer_ways, results["families"][HEADLINE]["steps"],
    )  # fmt: skip
    figures = how | measure(model, options.seed)
    del figures["sampling_seconds"]  # they are ours
    ours = results["families"][HEADLINE]
    return model, figures | {"fid_ours_over_peer": ours["fid"] / figures["fid"], "our_minutes": ours["train_minutes"]}


def _comparison(peer: dict) -> str:
    speeds = [
        f"{way} {ms:.0f} ms a step, ours beside it {peer['ours_milliseconds'][way]:.0f}" if ms else f"{way} failed"
        for way, ms in peer["milliseconds"].items()
    ]
    return (
        f"FID of {HEADLINE}, ours / its PyTorch twin's: {peer['fid_ours_over_peer']:.2f}. Ours trained for "
        f"{peer['our_minutes']:.1f} minutes; the twin, compiling not counted, for {peer['train_minutes']:.1f}, which "
        f"made {peer['steps']:,} steps by {peer['way']}, its fastest way ({'; '.join(speeds)})."
    )


def _sweep(model: Family, fid: float, keep, measure, options) -> Iterator[tuple[str, float, float]]:
    """FID of the headline family against minutes of training and against steps of sampling: (axis, x, FID) each.

    fid: of `model`, which was trained for all the minutes and paints in the default number of steps
    """
    for minutes in TRAINING_MINUTES:
        if minutes < options.minutes:
            yield "minutes", minutes, measure(keep(HEADLINE, minutes, options.seed)[0], options.seed)["fid"]
    yield "minutes", options.minutes, fid
    for steps in SAMPLING_STEPS:
        yield "steps", steps, fid if steps == ddpm.SAMPLING_STEPS else measure(model, options.seed, steps=steps)["fid"]


def _save(results: dict, path: str | Path) -> None:
    files.write_json(path, results)


def _report(name: str, figures: dict) -> None:
    """A table of one family's figures, beside what real images score."""
    print(f"\n{name}: " + ", ".join(f"{key.replace('_', ' ')} {_shown(key, figures)}" for key in HOW if key in figures))
    lines = [("", name, "real images"), *summary(figures)]
    width = max(len(title) for title, *_ in lines)
    for title, value, real in lines:
        print(f"{title:<{width}}  {value:>12}  {real:>12}")
    if "fid_ratio_seeds" in figures and len(figures["fid_ratio_seeds"]) > 1:
        print(_of_seeds(figures))
    sys.stdout.flush()


def _of_seeds(figures: dict) -> str:
    ratios = figures["fid_ratio_seeds"]
    each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    return f"FID / floor of {len(ratios)} seeds: {each}; mean {np.mean(ratios):.1f}."


def _shown(key: str, figures: dict) -> str:
    """A figure in its column, or a dash where there is none."""
    return COLUMNS[key].format(figures[key]) if figures.get(key) is not None else "—"


def build_page(results: dict, models: dict[str, Family], test, seed: int, threads: Threads) -> Page:
    """The figures and, under the same captions, a row of samples from each family."""
    real, families = results["real"], dict(results["families"])
    if "peer" in results:
        families[PEER] = results["peer"]
    first, reading = next(iter(real["match_ceiling"].items()))
    page = Page(
        f"Samples of {results['data']}, measured",
        f"Every family trained for {results['minutes']:g} minutes and judged by one classifier, weights "
        f"{real['judge']}, which reads {reading:.1%} of the test images rightly and never trained a generator. "
        f"Pure noise has an FID of {real['fid_noise']:,.0f}.",
    )
    page.section("Pictures", "Each column is one caption; the first row is real.")
    chosen = derive_rng(seed, "page").choice(len(test), 10, replace=False)
    captions = test.captions(chosen)
    painted = {name: draw(model, captions, seed, threads) for name, model in models.items()}
    page.picture(pictures.rows({"real": test.images[chosen]} | painted, columns=captions))
    page.section("Figures", "Real images that neither the judge nor a test has seen score what stands in the last row.")
    columns = [key for key in COLUMNS if any(figures.get(key) is not None for figures in families.values())]
    some = next(iter(families.values()), {})
    floor = {
        "fid": real["fid_floor"], "fid_ratio": 1, "precision": real["precision_real"], "recall": real["recall_real"],
        "class_match": reading if first in some.get("match", {}) else None, "all_match": real["match_ceiling"]["all"],
        "unseen_match": real.get("match_unseen_ceiling", {}).get("all"), "variety": real.get("variety_real"),
        "nearest_mean": some.get("nearest_mean_test"), "copies": 0.01,
        "accuracy_score": some.get("accuracy_score_real"),
    }  # fmt: skip
    rows = [*families.items(), ("real images", floor)]
    page.table(
        ["", *(key.replace("_", " ") for key in columns)],
        [[name, *(_shown(key, figures) for key in columns)] for name, figures in rows],
    )
    if len(families.get(HEADLINE, {}).get("fid_ratio_seeds", ())) > 1:
        page.text(f"{HEADLINE}: {_of_seeds(families[HEADLINE])}")
    if "peer" in results:
        page.text(_comparison(results["peer"]))
    for name, figures in families.items():
        page.text(f"`{name}` in full:")
        page.table(["figure", name, "real images"], summary(figures))
    for key, points in results.get("sweeps", {}).items():
        x, y = np.array(points, float).T
        label = AXES[key]
        chart = line_chart({HEADLINE: (x, y)}, x_label=label, y_label="FID", log=True)
        page.picture(chart.encode(), f"FID against {label}.")
        page.table([label, *(f"{value:g}" for value in x)], [["FID", *(f"{value:.3f}" for value in y)]])
    return page


def _options(arguments: list[str] | None) -> argparse.Namespace:
    """The options, refused now rather than after an hour of training.  Raises RunError if PyTorch is missing."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for name, least in (("minutes", 0), ("judge_minutes", 0), ("seeds", 0), ("n", 3)):
        value = getattr(options, name)
        if value is not None and not value > least:
            parser.error(f"--{name.replace('_', '-')} is more than {least}; given {value:g}")
    if (options.peer or options.sweep) and HEADLINE not in options.families:
        parser.error(f"--peer and --sweep are about {HEADLINE}, so --families must have it")
    if options.peer and not torch_is_installed():
        raise RunError("--peer needs PyTorch, which is not installed: .venv/bin/pip install -e '.[bench]'")
    if options.sweep is None:
        options.sweep = HEADLINE in options.families
    if options.peer is None:
        options.peer = HEADLINE in options.families and torch_is_installed()
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench quality", description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help=f"{', '.join(datasets.NAMED)} or a folder (default: digits)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training for each family (default: 10)")
    parser.add_argument("--judge-minutes", type=float, default=4.0, help="of training for the judge (default: 4)")
    add_families(parser, able("sample", "method"), able("sample", "method", "variation"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3, help=f"runs of {HEADLINE}; the others run once (default: 3)")
    parser.add_argument(
        "--sweep", action=argparse.BooleanOptionalAction,
        help=f"also {HEADLINE} against training time and sampling steps (default: if it is among the families)",
    )  # fmt: skip
    parser.add_argument(
        "--peer", action=argparse.BooleanOptionalAction,
        help=f"also train and judge {HEADLINE}'s twin in PyTorch (default: the same, if PyTorch is installed)",
    )  # fmt: skip
    parser.add_argument(
        "--peer-ways", nargs="+", default=twins.WAYS, choices=twins.WAYS, metavar="WAY",
        help=f"of which the fastest trains the twin (default: {' '.join(twins.WAYS)})",
    )  # fmt: skip
    parser.add_argument("-n", type=int, help="samples (default: as many as test images)")
    parser.add_argument("--out", help="folder of the runs and the page (default: out/quality-DATA)")
    parser.add_argument("--json", metavar="FILE", help="default: quality.json in that folder")
    parser.add_argument("--threads", type=int)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
