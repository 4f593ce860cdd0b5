"""What each command of the command line does, once its options are parsed."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

import datasets
from generators import runs
from generators.config import with_text
from generators.errors import UsageError
from generators.families.editing import Directions
from generators.family import Family
from generators.judging.evaluate import captions_of, draw
from generators.registry import FAMILIES, able, can, open_run, resolve, taken_over
from generators.showing import films, pictures
from nn import checkpoint
from nn.parallel import Threads, derive_rng

SAMPLER = "sampler_"  # before what options of samplers are called, once parsed
PICTURES = ("size", "color", "mirror", "paper")  # options of `train` that say how a folder is read


def train(options: Namespace) -> int:
    threads = Threads(options.threads)
    if options.resume:
        folder = _folder_to_resume(options)
        print(f"Reading {folder} and its data ...", flush=True)
        with checkpoint.lock(folder):
            run = runs.Run.resume(folder, threads)
            if options.family and resolve(options.family) != run.plan.family:
                raise UsageError(f"{folder} holds a {run.plan.family}, not a {options.family}")
            if options.steps or options.minutes:
                run.lengthen(options.steps, options.minutes)
            return _finish(run, options)
    if not options.family:
        raise UsageError(f"train what? One of {', '.join(FAMILIES)}")
    name, folder, seed = resolve(options.family), _run_folder(options), options.seed or 0
    data = FAMILIES[name].data if options.data is None else options.data
    runs.refuse_to_overwrite(folder)
    how = {name: getattr(options, name) for name in PICTURES if getattr(options, name) is not None}
    dataset = _load(data, "train", options.limit, how)
    config, weights = runs.default_config(name, dataset), None
    if options.origin:
        config, weights = taken_over(name, options.origin, config)
    config = with_text(config, _settings(options.set))
    if len(dataset) < config.batch_size:
        raise UsageError(
            f"{data!r} has {len(dataset)} images, fewer than a batch of {config.batch_size}; "
            f"add images, or use --set batch_size={max(1, len(dataset) // 2)}"
        )
    minutes = options.minutes or 5.0
    if options.steps is None:
        print(f"Measuring the speed, to fit the run into {minutes:g} minutes ...", flush=True)
    plan = runs.plan_run(
        name, data, dataset, config, seed, threads, options.steps, minutes, options.limit, how,
        options.origin or "",
    )  # fmt: skip
    with runs.new_folder(folder):
        return _finish(runs.start(folder, plan, dataset, threads, weights), options)


def _finish(run: runs.Run, options: Namespace) -> int:
    plan = run.plan
    print(
        f"{plan.family} on {plan.data}: {run.model.parameter_count():,} parameters, "
        f"{plan.steps - run.trainer.step_number:,} steps of {plan.config.batch_size} images, into {run.folder}",
        flush=True,
    )
    with runs.diverged_as_run_error(run.folder):
        for _ in run.go(options.save_every):
            pass
    done = run.trainer.step_number
    if done < plan.steps:
        print(
            f"Stopped at step {done:,} of {plan.steps:,}, saved. "
            f"Go on with: {shlex.join(['inkling', 'train', '--resume', '--out', str(run.folder)])}"
        )
        return 130
    print(f"Done: {plan.steps:,} steps in {run.seconds / 60:.1f} minutes.")
    print(f"See {run.folder / 'loss.svg'}")
    if can(run.model, "sample"):
        print(f"See {run.folder / 'samples'}")
        caption = f"--caption={run.dataset.captions([0])[0]}"
        out = "grid.png" if len(run.model.image_shape) == 3 else "films.gif"
        print(f"Try: {shlex.join(['inkling', 'sample', str(run.folder), caption, '--out', out])}")
    if can(run.model, "play"):
        print(f"Try: {shlex.join(['inkling', 'play', str(run.folder)])}")
    return 0


def sample(options: Namespace) -> int:
    options.out = options.out or f"{Path(options.run).name}.png"
    if options.actions is not None:
        from generators.apps import play as game

        model, meta = _open(options, "play")
        frames, names = game.film(model, data_name(meta), options.actions, options.seed)
        return _write(options, frames, names, np.full(len(names), -1), f"a game of {len(names) - 1} actions")
    model, meta = _open(options, "sample")
    captions, labels = _captions(options, model, meta)
    extras = sampler_options(options, model)
    with_threads(options, model)
    with refusals():
        images = draw(model, captions, options.seed, options.pool, extras, progress)
    if images.ndim == 5:
        return _write(options, images, captions, labels, f"{len(images)} films", **films.shown({"": images}, captions))
    return _write(options, images, captions, labels, f"{len(images)} images")


def continue_(options: Namespace) -> int:
    model, meta = _open(options, "continue")
    real, captions, labels = _test_images(options, model, meta)
    captions = _instead(options, model, captions)
    with_threads(options, model)
    extras = sampler_options(options, model)
    with refusals():
        rng = derive_rng(options.seed, "samples", 0)  # as `draw` has it
        painted = model.continue_(real, captions, rng, options.given, threads=options.pool, **extras)
    both = films.shown({"the film": real, "continued": painted}, captions)
    what = f"{len(painted)} films, continued after {options.given} frames"
    return _write(options, painted, captions, labels, what, originals=real, **both)


def inpaint(options: Namespace) -> int:
    model, meta = _open(options, "inpaint")
    known = pictures.read_mask(options.mask, model.image_shape[:2])
    images, captions, labels = _test_images(options, model, meta)
    captions = _instead(options, model, captions)
    with_threads(options, model)
    extras = sampler_options(options, model)
    with refusals():
        rng = derive_rng(options.seed, "samples", 0)  # as `draw` has it
        painted = model.inpaint(images, known, captions, rng, threads=options.pool, **extras)
    given = np.where(known[:, :, None], images, np.float32(0.5))
    shown = _side_by_side({"image": images, "given": given, "inpainted": painted}, captions)
    what = f"{len(images)} images, of which {1 - known.mean():.0%} is painted anew"
    return _write(options, painted, captions, labels, what, originals=images, **shown)


def reconstruct(options: Namespace) -> int:
    model, meta = _open(options, "reconstruct")
    images, captions, labels = _test_images(options, model, meta)
    with_threads(options, model)
    rebuilt = model.reconstruct(images, captions, threads=options.pool)
    what = f"mean squared error {np.mean((images - rebuilt) ** 2):.5f} per pixel (white is 1)"
    shown = _side_by_side({"image": images, "rebuilt": rebuilt}, captions)
    return _write(options, rebuilt, captions, labels, what, originals=images, **shown)


def interpolate(options: Namespace) -> int:
    model, meta = _open(options, "interpolate")
    n = options.n
    if not can(model, "wander"):
        if options.caption:
            raise UsageError(f"a {model.name} walks between test images, under no caption; leave out --caption")
        options.n = 2 * n
        images, ends, labels = _test_images(options, model, meta)
        with_threads(options, model)
        # Under the empty caption: one sentence could not be true of both ends.
        captions, names = [""] * n, [f"{one} to {other}" for one, other in zip(ends[::2], ends[1::2], strict=True)]
        labels = labels[::2]
        frames = model.interpolate(images[::2], images[1::2], captions, options.frames, threads=options.pool)
    else:
        if options.data:
            raise UsageError(f"a {model.name} cannot read images; leave out --data, and it walks between random noises")
        captions, labels = _captions(options, model, meta)
        names = captions
        with_threads(options, model)
        with refusals():
            rng = derive_rng(options.seed, "samples", 0)  # as `draw` has it
            frames = model.wander(captions, rng, options.frames, threads=options.pool)
    strips = {f"{i + 1}. {name}": frames[:, i] for i, name in enumerate(names)}  # two may have the same name
    there_and_back = [*frames, *frames[-2:0:-1]]
    return _write(
        options, np.concatenate(frames), captions * len(frames), np.tile(labels, len(frames)),
        f"{n} walks of {len(frames)} pictures", picture=lambda: pictures.rows(strips),
        film=lambda: pictures.gif_bytes([pictures.grid(frame, columns=n) for frame in there_and_back]),
    )  # fmt: skip


def edit(options: Namespace) -> int:
    model, meta = _open(options, "edit")
    if not options.caption:
        raise UsageError('edit needs to know the change: for instance --caption "a bold digit"')
    if options.amount is not None and options.by == "caption":
        raise UsageError("--amount is how far to go in a direction; add --by direction")
    if options.strength is not None and options.by != "caption":
        raise UsageError("--strength is for a change by caption; leave out --by")
    if options.strength is not None and "strength" not in FAMILIES[model.name].editing:
        raise UsageError(f"--strength means nothing to a {model.name}, which adds no noise to an image; leave it out")
    if options.sampler_guidance is not None and options.by == "direction":
        raise UsageError("--guidance is for a change by caption; how far to go in a direction is --amount")
    _check(options.caption, model)
    images, captions, labels = _test_images(options, model, meta)
    change = model.vocabulary.language.change
    wanted = [change(c, options.caption[i % len(options.caption)]) for i, c in enumerate(captions)]
    with_threads(options, model)
    extras = sampler_options(options, model)
    directions, edited = None, {}
    if options.by != "caption":
        progress = partial(tqdm, desc="measuring the direction", unit="block", leave=False, disable=None)
        training = load_for(meta, "train", 10_000)
        directions = Directions(model, training, options.pool, progress=progress)
    if options.strength is not None:
        rng = derive_rng(options.seed, "samples", 0)  # as `draw` has it
        edited["by caption"] = model.sdedit(images, wanted, rng, options.strength, threads=options.pool, **extras)
    elif options.by != "direction":
        edited["by caption"] = model.edit(images, captions, wanted, threads=options.pool, **extras)
    if directions:
        edited["by direction"] = directions.edit(images, captions, wanted, options.amount)
    shown = {"image": images, **edited}
    if pictures.kind_of(options.out) in ("picture", "film"):
        rebuilt = model.reconstruct(images, captions, threads=options.pool)
        shown = {"image": images, "round trip": rebuilt, **edited}
    ways = len(edited)
    return _write(
        options, np.concatenate([*edited.values()]), wanted * ways, np.tile(labels, ways),
        f"{len(images)} images, edited {' and '.join(edited)}",
        originals=np.concatenate([images] * ways), **_side_by_side(shown, wanted),
    )  # fmt: skip


def denoise(options: Namespace) -> int:
    model, meta = _open(options, "denoise")
    captions, labels = _captions(options, model, meta)
    with_threads(options, model)
    extras = sampler_options(options, model)
    with refusals():
        frames, clean = model.denoise(
            captions, derive_rng(options.seed, "samples", 0), threads=options.pool, **extras  # as `draw` has it
        )

    def film() -> bytes:
        pairs = (np.concatenate(pair) for pair in zip(frames, clean, strict=True))
        return pictures.gif_bytes([pictures.grid(pair, columns=len(captions)) for pair in pairs])

    shown = np.unique(np.linspace(0, len(frames) - 1, 10).round().astype(int))
    strips = {}
    for i, caption in enumerate(captions):
        strips[f"{caption or 'anything'} ({i + 1})"] = frames[shown, i]
        strips[f"the image it sees ({i + 1})"] = clean[shown, i]
    what = f"{len(captions)} images from noise on, in {len(frames)} pictures"
    return _write(options, frames[-1], captions, labels, what, picture=lambda: pictures.rows(strips), film=film)


def play(options: Namespace) -> int:
    from generators.apps import play as game

    own = "runs/world-playground"
    run = options.run or (own if Path(own).exists() else "world")
    model, meta = open_run(run)
    if not can(model, "play"):
        raise UsageError(f"{run} holds a {model.name}, and not a {' or '.join(able('play'))} to play in")
    show = game.in_terminal
    if options.web:
        from generators.apps import explore as page

        show = lambda started: page.server({}, started, Threads(1)).run()  # noqa: E731
    return game.play(model, data_name(meta), options.seed, show, options.record)


def explore(options: Namespace) -> None:
    from generators.apps import explore as page

    page.explore(options.run, options.threads, options.browser)


# --- what the commands share ---------------------------------------------------------------------------------------


def with_threads(options: Namespace, model: Family | None = None) -> None:
    options.pool = Threads(options.threads)
    if model and "steps" in FAMILIES[model.name].sampling:  # for seconds
        print("Painting, step by step ...", flush=True)


def progress(rounds: Iterable, what: str, count: int) -> Iterable:
    """A bar, where there are several rounds and somebody sees it."""
    return tqdm(rounds, desc=what, total=count, leave=False, disable=True if count == 1 else None)


def _open(options: Namespace, verb: str) -> tuple[Family, dict]:
    """The model that is to do this, and what its checkpoint says; --out is looked at, too, before any work."""
    model, meta = open_run(options.run)
    if not can(model, verb):
        hint = "; say what is done in it, such as --actions 'left left next'" if can(model, "play") else ""
        raise UsageError(f"{options.run} holds a {model.name}, which cannot {verb}; {', '.join(able(verb))} can{hint}")
    pictures.kind_of(options.out)
    return model, meta


def _folder_to_resume(options: Namespace) -> Path:
    if options.out is None and options.family is None:
        raise UsageError("--resume needs --out: the folder of the run to go on with")
    planned = [options.set or None, *(getattr(options, n) for n in ("limit", "seed", "origin", *PICTURES))]
    if options.out is not None:
        planned.append(options.data)  # else it says, with the family, which folder is meant
    if any(value is not None for value in planned):
        raise UsageError(
            "--resume goes on with the run as it was planned, or with --steps or --minutes for longer; "
            f"leave out --set, --from, --limit, --seed, --{', --'.join(PICTURES)}, and beside --out also --data"
        )
    folder = _run_folder(options)
    if not (folder / "checkpoint.npz").exists():
        raise UsageError(f"there is no run to resume in {folder} (no checkpoint.npz)")
    return folder


def _run_folder(options: Namespace) -> Path:
    if options.out:
        return Path(options.out)
    family = resolve(options.family)
    return Path(f"runs/{family}-{Path(options.data or FAMILIES[family].data).name}")


def _settings(pairs: list[str]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise UsageError(f"--set takes NAME=VALUE, such as --set optimiser.rate=1e-4; given {pair!r}")
        settings[name] = value
    return settings


def _load(data: str, split: str, limit: int | None, how: dict):
    if limit is None or limit > 5000:  # it takes seconds
        what = "Drawing the built-in digits" if data in ("digits", "moving") else f"Reading {data}"
        print(f"{what} ({split}) ...", flush=True)
    return datasets.load(data, split, limit, **how)


def load_for(meta: dict, split: str, limit: int | None = None, data: str | None = None):
    """The data set of a checkpoint's run, or another, with pictures read as the run read them."""
    data, how = data or data_name(meta), meta["plan"].get("pictures")
    how = {name: how[name] for name in PICTURES if name in how} if isinstance(how, dict) and Path(data).is_dir() else {}
    return _load(data, split, limit, how)


def data_name(meta: dict) -> str:
    """The data set that a checkpoint's run was planned for; a foreign checkpoint may name none."""
    return str(meta["plan"].get("data", "digits"))


def _check(captions: list[str], model: Family) -> None:
    """CaptionError for one that means nothing to the model, before any work; also for those beyond -n."""
    for caption in captions:
        model.vocabulary.language.check(caption)


def _instead(options: Namespace, model: Family, captions: list[str]) -> list[str]:
    """What is asked for in turn, or else the images' own captions."""
    asked = options.caption or captions
    _check(asked, model)
    return [asked[i % len(asked)] for i in range(options.n)]


def _captions(options: Namespace, model: Family, meta: dict) -> tuple[list[str], np.ndarray]:
    """The captions to paint, and labels for the file: as asked, or those of the test images."""
    if options.caption:
        captions = [options.caption[i % len(options.caption)] for i in range(options.n)]
        _check(options.caption, model)
        return captions, np.full(options.n, -1)
    kept, labels = _kept_captions(meta)
    if options.n > len(kept):  # all that are in the data, if those are there
        try:
            return captions_of(load_for(meta, "test", options.n), options.n)
        except datasets.DataError:
            if not kept:
                raise
    chosen = np.arange(options.n) % len(kept)
    return [kept[i] for i in chosen], labels[chosen]


def _kept_captions(meta: dict) -> tuple[list[str], np.ndarray]:
    """Those of test images, and their labels, that a checkpoint keeps; older ones keep none."""
    captions, labels = meta.get("captions"), meta.get("labels")
    whole = isinstance(captions, list) and isinstance(labels, list) and len(captions) == len(labels)
    if not whole or not all(isinstance(c, str) for c in captions) or not all(type(i) is int for i in labels):
        return [], np.zeros(0, np.int64)
    return captions, np.array([min(max(-1, i), 2**31) for i in labels], np.int64)


def _test_images(options: Namespace, model: Family, meta: dict) -> tuple[np.ndarray, list[str], np.ndarray]:
    """n test images as float32 in [0, 1], with their fullest captions and labels."""
    dataset = load_for(meta, "test", data=options.data)
    if dataset.images.shape[1:] != model.image_shape:
        raise UsageError(f"the images are {dataset.images.shape[1:]}, but the model was trained on {model.image_shape}")
    if options.n > len(dataset):
        raise UsageError(f"there are {len(dataset)} test images; asked for {options.n}")
    chosen = derive_rng(options.seed, "test images").permutation(len(dataset))[: options.n]  # the first for any n
    return dataset.images[chosen].astype(np.float32) / 255, dataset.captions(chosen), dataset.labels[chosen]


def sampler_options(options: Namespace, model: Family) -> dict:
    """Those options of samplers that were given.  Raises UsageError for one that the family does not have."""
    given = {name.removeprefix(SAMPLER): value for name, value in vars(options).items()
             if name.startswith(SAMPLER) and value is not None}  # fmt: skip
    if strange := [name for name in given if name not in FAMILIES[model.name].sampling]:
        raise UsageError(
            f"{written(strange[0])} means nothing to a {model.name}, which paints without such a choice; leave it out"
        )
    return given


def written(option: str) -> str:
    """How an option of samplers is written: argparse's name for it, or the families'."""
    name = option.removeprefix(SAMPLER)
    return "--sample-steps" if name == "steps" else f"--{name}"


@contextmanager
def refusals(of: type[ValueError] = ValueError, what: str = "") -> Iterator[None]:
    """What a model refuses to do with the options given is the user's to mend; its message is a sentence already."""
    try:
        yield
    except of as error:
        raise UsageError(f"{what}{error}") from error


def _side_by_side(images: dict[str, np.ndarray], captions: list[str]) -> dict:
    """How `_write` shows images and what was made of them, by name: a row for each, or image by image as a film."""

    def film() -> bytes:
        frames = [pictures.grid(np.stack(frame), columns=len(images)) for frame in zip(*images.values(), strict=True)]
        return pictures.gif_bytes(frames, milliseconds=1200)

    return {"picture": lambda: pictures.rows(images, columns=captions), "film": film}


def _write(options: Namespace, images: np.ndarray, captions: list[str], labels: np.ndarray, what: str, **shown) -> int:
    pictures.write_samples(options.out, images, captions, labels, **shown)
    print(f"{options.out}: {what}")
    return 0
