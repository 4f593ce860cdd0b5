"""A page of this machine on which every model can be tried: said to, turned, scrubbed, drawn for, played.

`Explorer` has a method for each thing that the page asks for, from an `Asked` to a JSON value; `server.py` calls them
one at a time.  Whatever is wrong with a request is a ValueError, whose sentence the page shows.
"""

import base64
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import datasets
from datasets.captions import Language
from generators import pretrained
from generators.apps.play import Game, begin
from generators.apps.server import Server
from generators.config import Config, from_json, number
from generators.errors import UsageError
from generators.families.editing import Directions
from generators.family import Family
from generators.judging.likeliest import probabilities
from generators.registry import FAMILIES, can, open_run
from generators.showing.page import STYLE
from generators.showing.pictures import to_uint8
from nn.parallel import Threads, derive_rng

FEW_STEPS = 10  # of diffusion, from a noise to a picture or back while somebody waits
WALK = 13  # pictures
DRAWN, DENOISED = 2000, 500  # digits from which directions are measured; fewer for diffusion, which takes longer


@dataclass(frozen=True)
class Asked(Config):
    """A request.  ConfigError for anything else."""

    model: str = ""
    caption: str = ""
    other: str = ""  # caption, at the end of a walk
    wanted: str = ""  # phrase, of an edit
    key: str = ""  # of the keyboard
    pixels: str = ""  # of a drawing: a byte for each, in base64
    mask: str = ""  # likewise, 255 where it is to be filled in
    seed: int = number(0)
    count: int = number(1, least=1, most=16)
    numbers: tuple[float, ...] = number((), least=-10, most=10, length=(0, 1000))  # that sliders show
    temperature: float = number(-1.0, least=-1, most=10)  # these of samplers, -1: the model's own
    guidance: float = number(-1.0, least=-1, most=20)
    steps: int = number(-1, least=-1, most=1000)

    @property
    def rng(self) -> np.random.Generator:
        return derive_rng(self.seed, "samples", 0)  # so that `inkling sample` paints the same


class Explorer:
    """What the page can ask for.  models: by name; game: the one to play, if there is a world."""

    def __init__(self, models: Mapping[str, Family], game: Game | None, threads: Threads):
        self.models, self.game, self.threads = models, game, threads
        names = ("about", "change", "say", "turn", "denoise", "walk", "digit", "read", "edit", "fill", "step")
        self.answers = {
            f"/{name}": lambda given, name=name: getattr(self, name)(from_json(Asked, given)) for name in names
        }
        self.directions = functools.cache(self._directions)

    def about(self, asked: Asked) -> dict:
        """Which models there are, what each can do, and of what captions are made."""
        told, phrases = {}, {}
        for name, model in self.models.items():
            row, language = FAMILIES[model.name], model.vocabulary.language
            told[name] = {"summary": row.summary, "shape": model.image_shape, "turns": turns(language),
                          "can": row.can, "latent": model.latent}  # fmt: skip
            phrases |= language.phrases
        return {"models": told, "phrases": phrases, "game": self.game is not None}

    def change(self, asked: Asked) -> str:
        """The caption with another phrase in it."""
        language = self._model(asked, "sample").vocabulary.language
        changed = language.change(asked.caption, asked.wanted)
        language.check(f"{changed} {asked.wanted}")  # else what cannot be said of it would be left out without a word
        return changed

    def say(self, asked: Asked) -> dict:
        """New pictures of a caption."""
        model = self._model(asked, "sample")
        return sent(model.sample([asked.caption] * asked.count, asked.rng, self.threads, **options(asked, model)))

    def turn(self, asked: Asked) -> dict:
        """The picture of a noise: of the vector z, or of what a seed draws, moved so far in each of the directions."""
        model = self._model(asked, "edit")
        (language := model.vocabulary.language).check(asked.caption)
        names = turns(language)
        if len(asked.numbers) != (expected := model.latent or len(names)):
            raise ValueError(f"{asked.model} is turned by {expected} numbers; given {len(asked.numbers)}")
        if model.latent:
            return sent(model.decode(np.array([asked.numbers], np.float32), [asked.caption], self.threads))
        z, silent = model.noise(1, asked.rng), language.silence(asked.caption, names) if names else asked.caption
        for name, amount in zip(names, asked.numbers, strict=True):
            if amount:
                ends = (language.change(silent, language.phrases[name][place]) for place in (0, -1))
                z = z + np.float32(amount * model.direction_amount) * self.directions(model).between(*ends)
        return sent(model.decode(z, [silent], self.threads, guidance=model.config.guidance, **quick(model)))

    def _directions(self, model: Family) -> Directions:
        """Each direction is measured when it is first asked for."""
        digits = datasets.load("digits", "train", DENOISED if can(model, "denoise") else DRAWN)
        return Directions(model, digits, self.threads, **quick(model))

    def denoise(self, asked: Asked) -> dict:
        """How noise becomes an image of the caption, and what the network takes it for on the way."""
        model = self._model(asked, "denoise")
        noisy, believed = model.denoise([asked.caption], asked.rng, self.threads, **options(asked, model))
        return {"noisy": sent(noisy[:, 0]), "believed": sent(believed[:, 0])}

    def walk(self, asked: Asked) -> dict:
        """From a new picture of one caption to one of another; of a GAN, between two of the first."""
        model = self._model(asked, "sample")
        if can(model, "wander"):
            return sent(model.wander([asked.caption], asked.rng, WALK, self.threads)[:, 0])
        ends = self._model(asked, "interpolate").sample([asked.caption, asked.other], asked.rng, self.threads)
        return sent(model.interpolate(ends[:1], ends[1:], [""], WALK, self.threads)[:, 0])

    def digit(self, asked: Asked) -> dict:
        """A drawn digit that no model has seen, and its caption."""
        digits, index = datasets.load("digits", "test", DRAWN), [asked.seed % DRAWN]
        return {"caption": digits.captions(index)[0], **sent(digits.images[index])}

    def read(self, asked: Asked) -> dict:
        """The likeliest caption of a drawing, found attribute by attribute, how likely each value of the first is, and
        the drawing painted again from its noise under that caption."""
        model = self._model(asked, "weigh")
        image, language = drawing(asked.pixels, model), model.vocabulary.language
        caption, first = "", {}
        for phrases in language.phrases.values():
            changed = {language.change(caption, phrase): phrase for phrase in phrases}
            captions = [one for one in changed if one != caption]  # as of a two that is never with a bar
            if not captions:  # as of a folder without classes
                continue
            shares = probabilities(model, image[0], captions)
            first = first or dict(zip(changed.values(), shares.round(4).tolist(), strict=True))
            caption = captions[shares.argmax()]
        again = model.reconstruct(image, [caption], self.threads, **quick(model))
        return {"caption": caption, "shares": first, "again": sent(again)}

    def edit(self, asked: Asked) -> dict:
        """A drawing that a caption describes, as another phrase has it."""
        model, wanted = self._model(asked, "edit"), self.change(asked)
        edited = model.edit(drawing(asked.pixels, model), [asked.caption], [wanted], self.threads)
        return {"caption": wanted, **sent(edited)}

    def fill(self, asked: Asked) -> dict:
        """A drawing of which a part is painted anew, under a caption."""
        model = self._model(asked, "inpaint")
        image, known = drawing(asked.pixels, model), drawing(asked.mask, model)[0, :, :, 0] < 0.5
        images, captions = np.repeat(image, asked.count, axis=0), [asked.caption] * asked.count
        return sent(model.inpaint(images, known, captions, asked.rng, self.threads, **quick(model)))

    def step(self, asked: Asked) -> dict:
        """The frame of the game after a key; "" does nothing."""
        if (game := self.game) is None:
            raise ValueError("there is no world to play in; name one, as in: inkling explore runs/world")
        game.press(asked.key)
        return {"keys": sorted({*game.bindings, "r"}), "frames": len(game.frames), **sent(game.frames[-1][None])}

    def _model(self, asked: Asked, verb: str) -> Family:
        model = self.models.get(asked.model)
        if model is None or not can(model, verb):
            able = [name for name in self.models if can(self.models[name], verb)]
            raise ValueError(f"{asked.model!r:.40} cannot {verb}; {', '.join(able) or 'no model here'} can")
        return model


def turns(language: Language) -> list[str]:
    """The attributes that a slider turns from their first value to their last: those that every noun has."""
    return [name for name in [*language.attributes][1:] if name not in language.owned]


def quick(model: Family) -> dict:
    """The option of `encode` and `decode` that those alone have who paint step by step."""
    return {"steps": FEW_STEPS} if "steps" in FAMILIES[model.name].sampling else {}


def options(asked: Asked, model: Family) -> dict:
    """Those of the sampler that were given."""
    given = {name: getattr(asked, name, -1) for name in FAMILIES[model.name].sampling}
    return {name: value for name, value in given.items() if value >= 0}


def drawing(pixels: str, model: Family) -> np.ndarray:
    """The pixels of a request, gray, as one image (1, H, W, C) for this model."""
    height, width, channels = model.image_shape
    gray = np.frombuffer(base64.b64decode(pixels, validate=True), np.uint8)
    if gray.size != height * width:
        raise ValueError(f"a drawing for this model has {height} x {width} pixels; given {gray.size}")
    return np.repeat(gray.reshape(1, height, width, 1) / np.float32(255), channels, axis=3)


def sent(images: np.ndarray) -> dict:
    """Pictures (N, H, W, C) for the page."""
    levels = to_uint8(images)
    return {"shape": levels.shape, "pixels": base64.b64encode(levels.tobytes()).decode()}


def server(models: Mapping[str, Family], game: Game | None, threads: Threads) -> Server:
    """The page, in one piece, and who answers it."""
    parts = [Path(__file__).with_suffix(end).read_text(encoding="utf-8") for end in (".html", ".css", ".js")]
    page = parts[0].replace("/* style */", STYLE + parts[1]).replace("/* script */", parts[2])
    return Server(page.encode(), Explorer(models, game, threads).answers)


def explore(runs: list[str], threads: Threads, browser: bool) -> None:
    """The page of these runs, or of all that come along.  UsageError for one that paints no images and is no world."""
    models, game = {}, None
    for run in runs or pretrained.names():
        model, meta = open_run(run if runs else pretrained.find(run))
        if can(model, "play"):
            game = begin(model, str(meta["plan"].get("data")), seed=0)
        elif can(model, "sample") and len(model.image_shape) == 3:
            models[run] = model
        elif runs:
            raise UsageError(f"{run} holds a {model.name}, and not a painter of images or a world; leave it out")
    server(models, game, threads).run(browser)
