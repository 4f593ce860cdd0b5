"""`inkling evaluate` and `inkling info`: what is measured of a model, and what is known of a run."""

import json
import shlex
from argparse import Namespace
from pathlib import Path

import numpy as np

import datasets
from disk import files
from generators import pretrained
from generators.apps.commands import SAMPLER, data_name, load_for, refusals, sampler_options
from generators.errors import UsageError
from generators.judging import evaluate as evaluation
from generators.judging import metrics
from generators.judging.classifier import Classifier
from generators.judging.evaluate import Reference, summary
from generators.registry import FAMILIES, can, open_run
from generators.showing import log, pictures
from nn.parallel import derive_rng

FIGURES = "figures.json"  # where `inkling evaluate --json` may leave its figures


def evaluate(options: Namespace) -> int:
    """The figures as a table, and as JSON where asked."""
    if options.json:
        pictures.check_target(options.json)
    with refusals(metrics.MetricError, f"{options.run} cannot be evaluated: "):
        samples = evaluation.read_samples(options.run) if Path(options.run).suffix == ".npz" else None
        name, figures, reference = _of_file(options, *samples) if samples else _of_model(options)
    lines = [("", name, "real images"), *summary(figures)]
    width = max(len(title) for title, *_ in lines)
    for title, value, real in lines:
        print(f"{title:<{width}}  {value:>12}  {real:>12}")
    print(f"\n{reference.about_the_judge()} Pure noise has an FID of {figures['fid_noise']:,.0f}.")
    if options.json:
        files.write_json(options.json, figures)
    return 0


def _of_model(options: Namespace) -> tuple[str, dict, Reference]:
    """The name of a trained model's family, all its figures, and what they are compared with."""
    options.n, options.seed = options.n or 10_000, options.seed or 0
    family, meta = open_run(options.run)
    if not can(family, "sample"):
        raise UsageError(f"{options.run} holds a {family.name}, which makes no images to evaluate")
    if len(family.image_shape) == 4:
        raise UsageError(f"{options.run} paints films, which are measured by: python -m bench films {options.run}")
    if options.data not in (None, data_name(meta)):
        raise UsageError(f"{options.run} learnt from {data_name(meta)}, and is compared with that; leave out --data")
    extras = sampler_options(options, family)
    judge = _judge(options, data_name(meta), family.image_shape)
    with refusals():  # now rather than when all data are there
        family.sample([""], derive_rng(options.seed, "rehearsal"), options.threads, **extras)
    test = load_for(meta, "test")
    if options.n > len(test):
        print(f"There are {len(test):,} test images, so as many samples are drawn, not {options.n:,}.")
    unseen = datasets.load("digits", "unseen") if data_name(meta) == "digits" else None
    reference = _reference(options, judge, meta, test, min(options.n, len(test)), unseen)
    figures = evaluation.evaluate(family, reference, options.seed, extras, score=not options.no_score)
    return family.name, figures, reference


def _of_file(options: Namespace, images: np.ndarray, captions: list[str] | None) -> tuple[str, dict, Reference]:
    """Likewise of samples of another tool: the figures for which images, and perhaps captions, are enough."""
    if options.data is None:
        raise UsageError(f"{options.run} holds samples; add --data, the data set that they are to be like")
    of_models = {"-n": options.n, "--seed": options.seed, "--no-score": options.no_score or None}
    of_models |= {f"--{name.replace('_', '-')}": getattr(options, name) for name in SAMPLER}
    if given := [name for name, value in of_models.items() if value is not None]:
        raise UsageError(
            f"{options.run} holds samples that are drawn already, and no accuracy score is computed of them; "
            f"leave out {', '.join(given)}"
        )
    judge, meta = _judge(options, options.data, images.shape[1:]), {"plan": {"data": options.data}}
    reference = _reference(options, judge, meta, load_for(meta, "test"), len(images))
    return "samples", evaluation.of_images(images, captions, reference) | reference.figures, reference


def _reference(options: Namespace, judge: Classifier, meta: dict, test, count: int, unseen=None) -> Reference:
    """What `count` samples are compared with."""
    data, training = data_name(meta), load_for(meta, "train")
    if tuple(judge.config.values[0]) != tuple(test.classes) or (judge.config.names == ("class",) and test.attributes):
        raise UsageError(f"the judge reads other things than {data} shows; train one on {data}")
    if len(test.classes) < 2:
        print("All images are of one class, so the judge has learnt nothing: its features are random ones.")
    if count <= judge.config.features:
        print(f"{count:,} samples are no more than the judge's {judge.config.features} dimensions, too few to know "
              "how they are spread: FID then says little. Take ten times as many.")  # fmt: skip
    limit, how = meta["plan"].get("limit"), meta["plan"].get("pictures")
    mirrored = isinstance(how, dict) and how.get("mirror") is True  # then two images of each picture
    seen = limit * (1 + mirrored) if type(limit) is int and limit > 0 else None
    return Reference(judge, training, test, unseen, options.threads, count, seen)


def _judge(options: Namespace, data: str, shape: tuple[int, ...]) -> Classifier:
    """The trained classifier that judges images of this shape (H, W, C)."""
    folder = options.judge or f"runs/classifier-{Path(data).resolve().name}"
    if not options.judge and data == "digits" and not Path(folder).exists():
        folder = pretrained.find("classifier") or folder  # the one that comes along
    if not Path(folder).exists() and not pretrained.find(folder):
        advice = shlex.join(["inkling", "train", "classifier", "--data", data, "--out", str(folder)])
        raise UsageError(f"there is no judge in {folder}; train one first: {advice}")
    judge, _ = open_run(folder)
    if not isinstance(judge, Classifier):
        raise UsageError(f"{folder} holds a {judge.name}, not a classifier, so it cannot judge")
    if judge.image_shape != tuple(shape):
        raise UsageError(f"the judge in {folder} reads images of {judge.image_shape}, not {tuple(shape)}")
    return judge


def info(options: Namespace) -> int:
    """One line for each thing that is known.  Raises CheckpointError as `open_run`, RunError for a damaged log."""
    model, meta = open_run(options.run)
    folder, row, plan = Path(options.run), FAMILIES[model.name], meta["plan"]
    seconds = meta.get("seconds")
    facts = {
        "model": f"{row.summary}, {model!r}",
        "can": ", ".join(row.commands) or "judge",
        "words": ", ".join(model.vocabulary.words) or "none, only the empty caption",
        "data": plan.get("data"),
        "limit": plan.get("limit") and f"the first {plan['limit']} images",
        "steps": f"{meta.get('step')} of {plan.get('steps')}, of {model.config.batch_size} images each",
        "time": f"{seconds / 60:.1f} minutes" if isinstance(seconds, int | float) else None,
        "began with": plan.get("origin") or None,
        "seed": plan.get("seed"),
        "size": f"{meta['path'].stat().st_size / 1e6:.1f} MB",
    }
    if folder.is_dir() and (folder / "metrics.jsonl").exists():
        facts |= {name: f"{values[-1]:.4g}" for name, (_, values) in log.losses(folder).items()}
    if (folder / FIGURES).exists():
        try:
            facts |= {name: f"{value} (real: {real})" if real else value
                      for name, value, real in summary(json.loads((folder / FIGURES).read_text()))}  # fmt: skip
        except (ValueError, LookupError, TypeError, AttributeError):
            facts[FIGURES] = "not what `inkling evaluate --json` writes"
    known = {name: fact for name, fact in facts.items() if fact is not None}
    width = max(map(len, known))
    print("\n".join(f"{name:<{width}}  {fact}" for name, fact in known.items()))
    return 0
