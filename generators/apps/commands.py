"""What each command of the command line does, once its options are parsed."""

import shlex
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import datasets
from generators import plans, pretrained, runs
from generators.config import with_text
from generators.errors import UsageError
from generators.families.editing import Directions
from generators.family import Family
from generators.judging.evaluate import captions_of, draw
from generators.registry import FAMILIES, able, can, open_run, resolve, taken_over
from generators.showing import films, pictures
from nn import checkpoint
from nn.parallel import Threads, derive_rng

SAMPLER = ("sample_steps", "guidance", "eta", "temperature")  # options of `sample` that only some families have
PICTURES = ("size", "color", "mirror", "paper")  # options of `train` that say how a folder is read


def train(options: Namespace) -> int:
    if options.resume:
        folder = _folder_to_resume(options)
        print(f"Reading {folder} and its data ...", flush=True)
        with checkpoint.lock(folder):
            run = runs.Run.resume(folder, options.threads)
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
    config, weights, origin = plans.default_config(name, dataset), None, getattr(options, "from") or ""
    if origin:
        config, weights = taken_over(name, origin, config)
    config = with_text(config, _settings(options.set))
    if len(dataset) < config.batch_size:
        raise UsageError(
            f"{data!r} has {len(dataset)} images, fewer than a batch of {config.batch_size}; "
            f"add images, or use --set batch_size={max(1, len(dataset) // 2)}"
        )
    minutes = options.minutes or 5.0
    if options.steps is None:
        print(f"Measuring the speed, to fit the run into {minutes:g} minutes ...", flush=True)
    plan = plans.plan_run(
        name, data, dataset, config, seed, options.threads, options.steps, minutes, options.limit, how, origin
    )
    with runs.new_folder(folder):
        return _finish(runs.start(folder, plan, dataset, options.threads, weights), options)


def _finish(run: runs.Run, options: Namespace) -> int:
    plan, folder = run.plan, str(run.folder)
    left = plan.steps - run.trainer.step_number
    print(f"{plan.family} on {plan.data}: {run.model.parameter_count():,} parameters, {left:,} steps of "
          f"{plan.config.batch_size} images, into {folder}", flush=True)  # fmt: skip
    if not run.finish(options.save_every):
        again = shlex.join(["inkling", "train", "--resume", "--out", folder])
        print(f"Stopped at step {run.trainer.step_number:,} of {plan.steps:,}, saved. Go on with: {again}")
        return 130
    print(f"Done: {plan.steps:,} steps in {run.seconds / 60:.1f} minutes.")
    print(f"See {run.folder / 'loss.svg'}")
    if can(run.model, "sample"):
        print(f"See {run.folder / 'samples'}")
        caption = f"--caption={run.dataset.captions([0])[0]}"
        out = "grid.png" if len(run.model.image_shape) == 3 else "films.gif"
        print(f"Try: {shlex.join(['inkling', 'sample', folder, caption, '--out', out])}")
    if can(run.model, "play"):
        print(f"Try: {shlex.join(['inkling', 'play', folder])}")
    return 0


def sample(options: Namespace) -> int:
    options.out = options.out or f"{Path(options.run).resolve().name}.png"
    if options.actions is not None:
        from generators.apps import play as game  # only here, as pages, demo and lecture below: in all they take 40 ms

        job = Job(options, "play")
        frames, names = game.film(job.model, data_name(job.meta), options.actions, options.seed)
        return job.write(frames, names, np.full(len(names), -1), f"a game of {len(names) - 1} actions")
    job = Job(options, "sample")
    captions, labels = job.captions()
    with job.painting():
        images = draw(job.model, captions, options.seed, job.threads, job.extras)
    shown = films.shown({"": images}, captions) if images.ndim == 5 else {}
    return job.write(images, captions, labels, f"{len(images)} {'films' if shown else 'images'}", **shown)


def continue_(options: Namespace) -> int:
    job = Job(options, "continue")
    real, captions, labels = job.test_images(options.n)
    captions = job.shared_out() or captions
    with job.painting():
        painted = job.model.continue_(real, captions, job.rng, options.given, threads=job.threads, **job.extras)
    both = films.shown({"the film": real, "continued": painted}, captions)
    what = f"{len(painted)} films, continued after {options.given} frames"
    return job.write(painted, captions, labels, what, originals=real, **both)


def inpaint(options: Namespace) -> int:
    job = Job(options, "inpaint")
    known = pictures.read_mask(options.mask, job.model.image_shape[:2])
    images, captions, labels = job.test_images(options.n)
    captions = job.shared_out() or captions
    with job.painting():
        painted = job.model.inpaint(images, known, captions, job.rng, threads=job.threads, **job.extras)
    given = np.where(known[:, :, None], images, np.float32(0.5))
    shown = _side_by_side({"image": images, "given": given, "inpainted": painted}, captions)
    what = f"{len(images)} images, of which {1 - known.mean():.0%} is painted anew"
    return job.write(painted, captions, labels, what, originals=images, **shown)


def reconstruct(options: Namespace) -> int:
    job = Job(options, "reconstruct")
    images, captions, labels = job.test_images(options.n)
    with job.painting():
        rebuilt = job.model.reconstruct(images, captions, threads=job.threads)
    what = f"mean squared error {np.mean((images - rebuilt) ** 2):.5f} per pixel (white is 1)"
    shown = _side_by_side({"image": images, "rebuilt": rebuilt}, captions)
    return job.write(rebuilt, captions, labels, what, originals=images, **shown)


def interpolate(options: Namespace) -> int:
    job, n = Job(options, "interpolate"), options.n
    if can(job.model, "wander"):
        if options.data:
            raise UsageError(f"a {job.model.name} cannot read images; leave out --data, and it walks between random "
                             "noises")  # fmt: skip
        captions, labels = job.captions()
        names = captions
        with job.painting():
            frames = job.model.wander(captions, job.rng, options.frames, threads=job.threads)
    else:
        if options.caption:
            raise UsageError(f"a {job.model.name} walks between test images, under no caption; leave out --caption")
        images, ends, labels = job.test_images(2 * n)
        # Under the empty caption: one sentence could not be true of both ends.
        captions, names = [""] * n, [f"{one} to {other}" for one, other in zip(ends[::2], ends[1::2], strict=True)]
        labels = labels[::2]
        with job.painting():
            frames = job.model.interpolate(images[::2], images[1::2], captions, options.frames, threads=job.threads)
    strips = {f"{i + 1}. {name}": frames[:, i] for i, name in enumerate(names)}  # two may have the same name
    there_and_back = np.concatenate([frames, frames[-2:0:-1]])
    return job.write(
        np.concatenate(frames), captions * len(frames), np.tile(labels, len(frames)),
        f"{n} walks of {len(frames)} pictures", picture=lambda: pictures.rows(strips),
        film=lambda: pictures.film_of_grids(there_and_back, n),
    )  # fmt: skip


def edit(options: Namespace) -> int:
    job = Job(options, "edit")
    if not options.caption:
        raise UsageError('edit needs to know the change: for instance --caption "a bold digit"')
    if options.amount is not None and options.by == "caption":
        raise UsageError("--amount is how far to go in a direction; add --by direction")
    if options.strength is not None and options.by != "caption":
        raise UsageError("--strength is for a change by caption; leave out --by")
    if options.strength is not None and "strength" not in FAMILIES[job.model.name].editing:
        raise UsageError(f"--strength means nothing to a {job.model.name}, which adds no noise to an image; leave it "
                         "out")  # fmt: skip
    if options.guidance is not None and options.by == "direction":
        raise UsageError("--guidance is for a change by caption; how far to go in a direction is --amount")
    images, captions, labels = job.test_images(options.n)
    change = job.model.vocabulary.language.change
    wanted = [change(caption, asked) for caption, asked in zip(captions, job.shared_out(), strict=True)]
    edited, shown = {}, {"image": images}
    with job.painting():
        if options.by != "caption":
            directions = Directions(job.model, load_for(job.meta, "train", 10_000), job.threads)
        if options.strength is not None:
            edited["by caption"] = job.model.sdedit(
                images, wanted, job.rng, options.strength, threads=job.threads, **job.extras
            )
        elif options.by != "direction":
            edited["by caption"] = job.model.edit(images, captions, wanted, threads=job.threads, **job.extras)
        if options.by != "caption":
            edited["by direction"] = directions.edit(images, captions, wanted, options.amount)
        if pictures.kind_of(options.out) in ("picture", "film"):
            shown["round trip"] = job.model.reconstruct(images, captions, threads=job.threads)
    ways = len(edited)
    return job.write(
        np.concatenate([*edited.values()]), wanted * ways, np.tile(labels, ways),
        f"{len(images)} images, edited {' and '.join(edited)}",
        originals=np.concatenate([images] * ways), **_side_by_side(shown | edited, wanted),
    )  # fmt: skip


def denoise(options: Namespace) -> int:
    job = Job(options, "denoise")
    captions, labels = job.captions()
    with job.painting():
        frames, clean = job.model.denoise(captions, job.rng, threads=job.threads, **job.extras)
    both = np.concatenate([frames, clean], axis=1)
    shown = np.unique(np.linspace(0, len(frames) - 1, 10).round().astype(int))
    strips = {}
    for i, caption in enumerate(captions):
        strips[f"{caption or 'anything'} ({i + 1})"] = frames[shown, i]
        strips[f"the image it sees ({i + 1})"] = clean[shown, i]
    what = f"{len(captions)} images from noise on, in {len(frames)} pictures"
    film = lambda: pictures.film_of_grids(both, len(captions))  # noqa: E731
    return job.write(frames[-1], captions, labels, what, picture=lambda: pictures.rows(strips), film=film)


def play(options: Namespace) -> int:
    from generators.apps import explore as explorer
    from generators.apps import play as game

    own = "runs/world-playground"
    run = options.run or (own if Path(own).exists() else pretrained.find("world") or "world")
    model, meta = open_run(run)
    if not can(model, "play"):
        raise UsageError(f"{run} holds a {model.name}, and not a {' or '.join(able('play'))} to play in")
    on_page = lambda started: explorer.server({}, started, Threads(1)).run()  # noqa: E731
    show = on_page if options.web else game.in_terminal
    return game.play(model, data_name(meta), options.seed, show, options.record)


def explore(options: Namespace) -> None:
    from generators.apps import explore as explorer

    explorer.explore(options.run, options.threads, not options.no_browser)


def lecture(options: Namespace) -> None:
    from generators.apps import lecture as lecturer

    out = Path(options.out)
    lecturer.begin(out, options.seed, options.threads).hold()
    print(f"Open {(out / 'index.html').resolve()} in a browser.")


def demo(options: Namespace) -> int:
    from generators.apps import demo as demonstration

    return demonstration.make(Path(options.out), options.minutes, options.seed, options.threads)


# --- what the commands share ---------------------------------------------------------------------------------------


class Job:
    """A command on a trained model, with the options that were given, all looked at before any work."""

    def __init__(self, options: Namespace, verb: str):
        self.options, self.threads = options, options.threads
        self.model, self.meta = open_run(options.run)
        if not can(self.model, verb):
            hint = "; say what is done in it, such as --actions 'left left next'"
            hint = hint if verb == "sample" and can(self.model, "play") else ""
            others = ", ".join(able(verb))
            raise UsageError(f"{options.run} holds a {self.model.name}, which cannot {verb}; {others} can{hint}")
        pictures.kind_of(options.out)
        self.extras = sampler_options(options, self.model)
        for caption in getattr(options, "caption", None) or []:  # also those beyond -n
            self.model.vocabulary.language.check(caption)

    @property
    def rng(self) -> np.random.Generator:
        """The generator of the noise, as `draw` has it."""
        return derive_rng(self.options.seed, "samples", 0)

    @contextmanager
    def painting(self) -> Iterator[None]:
        """Within it the model paints; what it refuses to do with the options given is the user's to mend."""
        if "steps" in FAMILIES[self.model.name].sampling:  # for seconds
            print("Painting, step by step ...", flush=True)
        with refusals():
            yield

    def shared_out(self) -> list[str]:
        """The captions that were given, in turn for each image; none if none was given."""
        given = self.options.caption or []
        return [given[i % len(given)] for i in range(self.options.n)] if given else []

    def captions(self) -> tuple[list[str], np.ndarray]:
        """The captions to paint, and labels for the file: as asked, or those of test images that the checkpoint keeps.

        A checkpoint of another program may keep none, and any checkpoint fewer than are asked for.
        """
        n = self.options.n
        if captions := self.shared_out():
            return captions, np.full(n, -1)
        try:
            kept = list(zip(self.meta["captions"], self.meta["labels"], strict=True))
            captions, labels = [str(caption) for caption, _ in kept], np.array([label for _, label in kept], np.int64)
        except (KeyError, TypeError, ValueError, OverflowError):
            captions = []
        if n > len(captions):  # all that are in the data, if those are there
            try:
                return captions_of(load_for(self.meta, "test", n), n)
            except datasets.DataError:
                if not captions:
                    raise
        chosen = np.arange(n) % len(captions)
        return [captions[i] for i in chosen], labels[chosen]

    def test_images(self, count: int) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Test images as float32 in [0, 1], the first ones the same for any count, with fullest captions and labels."""
        dataset, shape = load_for(self.meta, "test", data=self.options.data), self.model.image_shape
        if dataset.images.shape[1:] != shape:
            raise UsageError(f"the images are {dataset.images.shape[1:]}, but the model was trained on {shape}")
        if count > len(dataset):
            raise UsageError(f"there are {len(dataset)} test images; asked for {count}")
        chosen = derive_rng(self.options.seed, "test images").permutation(len(dataset))[:count]
        return dataset.images[chosen].astype(np.float32) / 255, dataset.captions(chosen), dataset.labels[chosen]

    def write(self, images: np.ndarray, captions: list[str], labels: np.ndarray, what: str, **shown) -> int:
        pictures.write_samples(self.options.out, images, captions, labels, **shown)
        print(f"{self.options.out}: {what}")
        return 0


def _folder_to_resume(options: Namespace) -> Path:
    if options.out is None and options.family is None:
        raise UsageError("--resume needs --out: the folder of the run to go on with")
    planned = [getattr(options, n) for n in ("set", "from", "limit", "seed", *PICTURES)]
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
    return Path(f"runs/{family}-{Path(options.data or FAMILIES[family].data).resolve().name}")


def _settings(pairs: list[str] | None) -> dict[str, str]:
    if wrong := [pair for pair in pairs or [] if pair.find("=") < 1]:
        raise UsageError(f"--set takes NAME=VALUE, such as --set optimiser.rate=1e-4; given {wrong[0]!r}")
    return dict(pair.split("=", 1) for pair in pairs or [])


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


def sampler_options(options: Namespace, model: Family) -> dict:
    """Those options of samplers that were given.  Raises UsageError for one that the family does not have."""
    given = {name.removeprefix("sample_"): value for name, value in vars(options).items()
             if name in SAMPLER and value is not None}  # fmt: skip
    if strange := [name for name in given if name not in FAMILIES[model.name].sampling]:
        option = "--sample-steps" if strange[0] == "steps" else f"--{strange[0]}"
        raise UsageError(f"{option} means nothing to a {model.name}, which paints without such a choice; leave it out")
    return given


@contextmanager
def refusals(of: type[ValueError] = ValueError, what: str = "") -> Iterator[None]:
    """What a model refuses to do with the options given is the user's to mend; its message is a sentence already."""
    try:
        yield
    except of as error:
        raise UsageError(f"{what}{error}") from error


def _side_by_side(images: dict[str, np.ndarray], captions: list[str]) -> dict:
    """How `Job.write` shows images and what was made of them, by name: a row for each, or image by image as a film."""
    pairs = np.stack(list(images.values()), axis=1)  # (N, what, H, W, C)
    return {
        "picture": lambda: pictures.rows(images, columns=captions),
        "film": lambda: pictures.film_of_grids(pairs, len(images), milliseconds=1200),
    }
