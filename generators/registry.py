"""The table of all families, and from a run's folder to a model that can sample.

`FAMILIES` has one row for each family, and every list of families is made from it: the names in --help, what can be
edited or denoised, which families know an option, what the benchmarks measure, the small models of the tests.  A new
family is its own file, its test and one row here; a twin under bench/peers/ is optional.
"""

import difflib
import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from generators import pretrained
from generators.config import ConfigError, from_json
from generators.errors import UsageError
from generators.family import Family, FamilyConfig
from generators.training import part_of
from nn import checkpoint, init
from nn.checkpoint import CheckpointError


@dataclass(frozen=True)
class Row:
    """What is known of a family without importing it."""

    where: str  # module:class
    summary: str
    tiny: Mapping  # settings of a model that trains in a moment, for tests
    can: tuple[str, ...] = ("sample",)  # methods
    also: tuple[str, ...] = ()  # other names
    label: str = ""  # in pictures, where it is not the name
    role: str = "variation"  # of a "method"; the others are "baseline" and "judge"
    data: str = "digits"  # what it learns from unless told otherwise
    sampling: Mapping[str, str] = field(default_factory=dict)  # options of `sample`, with the default in words
    editing: Mapping[str, str] = field(default_factory=dict)  # likewise of `inkling edit`

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that call the methods: of the same name, but a model that has no way from an image to its noise
        wanders between random noises where others interpolate between images, `continue` is a word of Python, and
        captions are weighed on the page of `explore`."""
        named = (method for method in self.can if method != "weigh")
        return tuple("interpolate" if method == "wander" else method.rstrip("_") for method in named)


THROUGH_NOISE = ("sample", "reconstruct", "interpolate", "edit")
DENOISING = {
    "can": (*THROUGH_NOISE, "weigh", "denoise", "inpaint"),
    "sampling": {"steps": "50", "guidance": "2, or 5 for ink", "eta": "0"},
    "editing": {"guidance": "3, or 5 for ink", "amount": "1", "strength": "none: the image's own noise"},
}
FLOWING = {
    "can": (*THROUGH_NOISE, "weigh"),
    "sampling": {"temperature": "1, or 0.4 for ink", "guidance": "2"},
    "editing": {"guidance": "1.5 to read the image and 2.5 to paint it", "amount": "3"},
}
TINY_UNET = {"widths": (8, 8), "blocks": 1, "heads": 2, "features": 8, "time_steps": 12}
TINY_FLOW = {"steps": (1, 1), "widths": (8, 8), "depth": 1, "features": 8}
FAMILIES = {
    "vae": Row(
        "generators.families.vae:VAE", "a variational auto-encoder", {"width": 8, "latent": 4, "features": 8},
        (*THROUGH_NOISE, "weigh"), role="method", label="VAE", sampling={"temperature": "1"},
        editing={"amount": "1"},
    ),
    "realnvp": Row(
        "generators.families.flow.realnvp:RealNVP", "a normalizing flow", TINY_FLOW, also=("flow",), label="flow",
        role="method", **FLOWING,
    ),
    "flowgan": Row(
        "generators.families.flow.flowgan:FlowGAN", "a flow with a critic", {**TINY_FLOW, "critic_width": 8},
        label="flow with a critic", **FLOWING,
    ),
    "ddpm": Row(
        "generators.families.diffusion.ddpm:DDPM", "diffusion by a U-Net", TINY_UNET, also=("diffusion",),
        label="diffusion", role="method", **DENOISING,
    ),
    "dit": Row(
        "generators.families.diffusion.dit:DiT", "diffusion by a transformer",
        {"width": 8, "depth": 1, "heads": 2, "features": 8, "time_steps": 12}, label="diffusion transformer",
        **DENOISING,
    ),
    "video": Row(
        "generators.families.diffusion.video:Video", "diffusion of films: what is shown, and how it moves",
        {**TINY_UNET, "width": 8, "depth": 1}, ("sample", "continue_"), sampling=DENOISING["sampling"], data="moving",
    ),
    "gan": Row(
        "generators.families.gan:GAN", "a generator and a discriminator", {"width": 8, "noise": 4, "features": 8},
        ("sample", "wander"), label="GAN", role="method",
    ),
    "fewstep": Row(
        "generators.families.diffusion.fewstep:FewStep", "a denoiser that paints in one to four steps, by a critic",
        {**TINY_UNET, "critic_width": 8}, label="diffusion with a critic",
        sampling={"steps": "as many as it was trained for"},
    ),
    "vaegan": Row(
        "generators.families.vaegan:VAEGAN", "a VAE with a critic", {"width": 8, "latent": 4, "features": 8},
        THROUGH_NOISE, label="VAE with a critic", sampling={"temperature": "1"}, editing={"amount": "1"},
    ),
    "world": Row(
        "generators.families.world.world:World", "a world learned from films, to play in",
        {"width": 8, "heads": 2, "codes": 3}, ("play",), data="playground",
    ),
    "regression": Row(
        "generators.families.regression:Regression", "the blurred baseline", {"width": 8, "features": 8},
        role="baseline",
    ),
    "classifier": Row(
        "generators.judging.classifier:Classifier", "the judge", {"width": 8, "features": 8}, (), role="judge"
    ),
}  # fmt: skip

LARGEST_MODEL = 30_000_000  # numbers in one that is to be trained
CRITIC = "discriminator."  # how the names of weights begin that only training needs; what comes along may lack them
LARGEST_CRITIC = 2_000_000  # numbers in those


def resolve(name: str) -> str:
    """A family's name in `FAMILIES`, from that or another of its names.  Raises UsageError if there is none."""
    names = _own_names()
    if name not in names:
        near = difflib.get_close_matches(name.lower(), names, 1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise UsageError(f"there is no family {name!r}{meant}; known are {', '.join(names)}")
    return names[name]


def _own_names() -> dict[str, str]:
    """Each name of a family -> the one in `FAMILIES`."""
    return {other: own for own, row in FAMILIES.items() for other in (own, *row.also)}


def able(verb: str, *roles: str) -> list[str]:
    """The families that have this method or serve this command, of these roles or of any."""
    rows = ((name, row) for name, row in FAMILIES.items() if not roles or row.role in roles)
    return [name for name, row in rows if verb in row.can + row.commands]


def can(model: Family, verb: str) -> bool:
    return model.name in able(verb)


def family(name: str) -> type[Family]:
    """The class of a family; its module is imported only now, so that a run loads no more than it uses."""
    module, _, attribute = FAMILIES[resolve(name)].where.partition(":")
    return getattr(importlib.import_module(module), attribute)


def build(name: str, config: FamilyConfig, rng: np.random.Generator, most: int = LARGEST_MODEL) -> Family:
    """A new model, weights drawn from `rng`.  ConfigError if the config describes none, or more than `most` numbers."""
    kind = family(name)
    try:
        with init.at_most(most):
            return kind(config, rng)
    except (ArithmeticError, LookupError, TypeError) as error:
        raise ConfigError(f"no {kind.name} can be built from this config: {error}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error


def load(run: str | Path) -> Family:
    """The model of a run's folder, of a checkpoint file, or one that comes along by its name ("vae", "flow").

    It has its averaged weights and is ready to sample. A folder of that name comes first.
    Raises CheckpointError, in one sentence, if there is no checkpoint or it is not one of ours.
    """
    return open_run(run)[0]


def open_run(run: str | Path) -> tuple[Family, dict]:
    """The model as `load` gives it, and what its checkpoint says: the plan (a dict), step, machine; its path; and which
    weights it lacks ("new", a set of names): none, or those of a critic, which are drawn."""
    path = Path(run)
    if path.is_dir():
        path = path / "checkpoint.npz"
    elif not path.exists():
        path = pretrained.find(_own_names().get(str(run), str(run)))
        if path is None:
            along = ", ".join(pretrained.names())
            raise CheckpointError(
                f"There is no checkpoint {run}: train one first, check the path, or take one that comes along: {along}"
            )
    arrays, meta = read(path)
    name, plan, weights = meta.get("family"), meta.get("plan"), part_of(arrays, "ema/")
    if not isinstance(name, str) or name not in FAMILIES:
        raise CheckpointError(f"{path} holds a model of family {name!r:.40}; known are {', '.join(FAMILIES)}")
    with of_this_version(path):
        config = from_json(family(name).Config, meta.get("config"))
        bare = not any(weight.startswith(CRITIC) for weight in weights)
        most = 2 * sum(array.size for array in weights.values()) + LARGEST_CRITIC * bare
        model = build(name, config, np.random.default_rng(0), most)
        critic = {weight: array for weight, array in model.state().items() if bare and weight.startswith(CRITIC)}
        model.load_state(critic | weights)
    return model, {**meta, "plan": plan if isinstance(plan, dict) else {}, "path": path, "new": set(critic)}


def taken_over(name: str, run: str | Path, config: FamilyConfig) -> tuple[FamilyConfig, dict[str, np.ndarray]]:
    """What a new model of this family has of a trained one: `config` with its settings, and its weights by name.

    The optimiser and the size of shards do not follow from there.  Raises UsageError unless the family is that of the
    trained model, or one whose config adds to its, and both are about such images and captions.
    """
    model, about = open_run(run)
    if not isinstance(config, type(model.config)):
        raise UsageError(f"a {name} cannot begin with the weights of {run}, which holds a {model.name}")
    values = {one.name: getattr(model.config, one.name) for one in fields(model.config)}
    for what in ("image_size", "channels", "vocabulary"):
        if values[what] != getattr(config, what):
            raise UsageError(f"{run} was trained on data of another {what.replace('_', ' ')}; choose the same --data")
    kept = ("optimiser", "shard_size")
    weights = {name: array for name, array in model.state().items() if name not in about["new"]}
    return replace(config, **{name: value for name, value in values.items() if name not in kept}), weights


@contextmanager
def of_this_version(path: Path) -> Iterator[None]:
    """What is wrong or missing in a checkpoint, as a CheckpointError that tells what to do."""
    try:
        yield
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} was written by another version of Inkling, or is damaged ({error}); go on with that version, or "
            "choose another folder and train again"
        ) from error


# A checkpoint holds the names of a config's fields and of a model's weights, so what is renamed needs an entry here.
FIELDS = {"text": "features", "vaegan.weight": "closeness", "flowgan.weight": "critic_weight"}  # of configs
GONE = {"weighting": "simple", "snr_limit": 5.0}  # fields, with what is always so now
WEIGHTS = (  # families, a part of a weight's name, instead
    (("vae", "vaegan"), r"^decoder\.quarter\.(weight|bias)$", r"decoder.grow.\1"),
    (("vae", "vaegan"), r"^decoder\.blocks\.", "decoder.quarter."),
    (("vae", "vaegan"), r"^encoder\.place\.output\.", "encoder.prior."),
    (("ddpm",), r"\.sketch\.", ".layout."),
)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the description of a checkpoint, under today's names also where it was written under older ones.

    Raises CheckpointError as `nn.checkpoint.load`.
    """
    arrays, meta = checkpoint.load(path)
    renamed, of = {}, meta.get("family")
    for name, array in arrays.items():
        kind, slash, weight = name.partition("/")  # weights, ema, or what only training needs
        for families, old, new in WEIGHTS:
            if of in families:
                weight = re.sub(old, new, weight)
        renamed[f"{kind}{slash}{weight}"] = array
    for place in (meta, meta.get("plan")):
        if isinstance(place, dict) and isinstance(place.get("config"), dict):
            kept = {name: value for name, value in place["config"].items() if (name, value) not in GONE.items()}
            place["config"] = {FIELDS.get(f"{of}.{name}", FIELDS.get(name, name)): kept[name] for name in kept}
    return renamed, meta
