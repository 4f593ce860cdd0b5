"""The command line: `inkling`, or `python -m generators`.

Parses, checks, and hands over to `apps/`.  Whatever is wrong with the input ends in one sentence and exit
status 2, without a traceback; a traceback is a bug of ours.
"""

from __future__ import annotations

import argparse
import keyword
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable

import generators
from generators.apps import program
from generators.errors import Refusal, UsageError

EXAMPLES = """\
Four ways to make an image from a sentence.  To begin:

  inkling train vae --out runs/vae --minutes 2
  inkling sample runs/vae --caption "a bold seven with a bar" -n 16 --out sevens.png

Each command explains itself: inkling train --help
"""


# An option of other commands, and what a command has instead.
ELSEWHERE = {
    ("--steps", "--sample-steps"): "--steps is for training; of sampling it is --sample-steps",
    ("--steps", "--frames"): "--steps is for training; how many pictures are on the way is --frames",
    ("--sample-steps", "--steps"): "--sample-steps is for sampling; of training it is --steps",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        for (option, own), sentence in ELSEWHERE.items():
            if unknown and unknown[1] == option and own in self._option_string_actions:
                message = sentence
        raise UsageError(f"{message} (see: {self.prog} --help)")

    def parse_known_args(self, args=None, namespace=None):
        for word in sys.argv[1:] if args is None else args:
            if re.fullmatch(r"--[\w-]+=--|-\w--", word):  # argparse drops the value, and each version fails otherwise
                self.error(f"'--' is no value for an option, in {word!r}")
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:  # said by the command itself, which knows its options, rather than by the parser of all commands
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown


def _number(kind, least: float, most: float = 10**9):
    def parse(text: str):
        value = kind(text)
        if not least <= value <= most:  # written so that NaN fails too
            raise ValueError
        return value

    parse.__name__ = f"{'whole number' if kind is int else 'number'} from {least:g} to {most:,}"
    return parse


SEED, COUNT, TIME = _number(int, 0, 2**63 - 1), _number(int, 1), _number(float, 1e-9)


def parser() -> argparse.ArgumentParser:
    """The whole command line, as argparse sees it."""
    top = _Parser("inkling", description=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"inkling {generators.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _add_train(commands)
    _add_pictures(commands)
    _add_evaluate(commands)
    _add_info(commands)
    _add_demo(commands)
    _add_play(commands)
    _add_explore(commands)
    return top


def _command(commands, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    families = f"\n\nFamilies: {', '.join(generators.able(name))}." if generators.able(name) else ""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{families}\n\nExample:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _threads(command) -> None:
    command.add_argument(
        "--threads", type=_number(int, 1, 1024), help="default: all cores; the result is the same for any number"
    )


def _add_train(commands) -> None:
    import datasets  # only now: `main` has made sure that it is ours

    train = _command(
        commands, "train", "train a model from scratch and keep it in a folder",
        "inkling train ddpm --data fashion --out runs/clothes --minutes 10",
    )  # fmt: skip
    families = [f"{' or '.join((name, *row.also))} ({row.summary})" for name, row in generators.FAMILIES.items()]
    train.add_argument("family", nargs="?", help=", ".join(families))
    train.add_argument(
        "--data", help=f"{', '.join(datasets.NAMED)}, or a folder of images (default: digits, or moving for "
        "films, which are built in)",
    )
    train.add_argument("--limit", type=COUNT, metavar="N", help="train on the first N pictures only")
    train.add_argument(
        "--size", type=COUNT, metavar="N",
        help="of a folder: fit its pictures into N x N pixels, a multiple of 4 (default: 28); the time of a step grows "
        "with the pixels, so 56 takes four times as long as 28",
    )  # fmt: skip
    train.add_argument("--color", action="store_true", default=None, help="of a folder: in colour (default: gray)")
    train.add_argument(
        "--mirror", action="store_true", default=None,
        help="of a folder: add the mirror image of each picture, so with --limit N there are 2N images",
    )  # fmt: skip
    train.add_argument(
        "--paper", choices=("black", "white"),
        help="of a folder: what is behind transparent parts and around pictures (default: black)",
    )  # fmt: skip
    train.add_argument("-o", "--out", metavar="FOLDER", help="where the run lives (default: runs/FAMILY-DATA)")
    train.add_argument(
        "--from", dest="origin", metavar="RUN",
        help="begin with the weights and the settings of a trained model, the folder of a run or one that comes along: "
        "of the same family, or a fewstep with those of a ddpm, a flowgan with those of a realnvp",
    )  # fmt: skip
    length = train.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=TIME,
        help="train about so long: measures the speed, then fixes the steps (default: 5)",
    )
    length.add_argument("--steps", type=COUNT, help="train for so many steps")
    train.add_argument("--seed", type=SEED, help="everything random follows from it (default: 0)")
    _threads(train)
    train.add_argument(
        "--resume", action="store_true",
        help="go on with the run in --out, after Ctrl-C or a crash; --steps (in all) or --minutes (beyond what "
        "was planned) make it longer",
    )  # fmt: skip
    train.add_argument(
        "--save-every", type=TIME, default=60.0, metavar="SECONDS", help="between checkpoints (default: 60)"
    )
    train.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="change the model's config, such as width=64 or optimiser.rate=1e-4; any unknown name lists them",
    )  # fmt: skip


def _add_pictures(commands) -> None:
    sample = _command(
        commands, "sample", "paint new images from captions",
        'inkling sample runs/vae --caption "a bold seven" --caption "two" -n 32 --out grid.png',
    )  # fmt: skip
    reconstruct = _command(
        commands, "reconstruct", "send images through the model's noise and back",
        "inkling reconstruct runs/vae --out pairs.png",
    )  # fmt: skip
    interpolate = _command(
        commands, "interpolate", "walk from one image to another through the model's noise",
        "inkling interpolate runs/vae --out walk.gif\n\n"
        "Between test images; of a gan, which cannot read an image's noise, between new ones of one caption.",
    )  # fmt: skip
    edit = _command(
        commands, "edit", "keep an image's noise and change what it shows: by another caption, or by a direction",
        'inkling edit runs/realnvp --caption "a bold digit" --by both --out edits.png\n\n'
        "By caption: the noise is read off the image under its own caption and decoded under the changed one.\n"
        "By direction: the caption is silent about the change, and the noise is moved instead, along the mean\n"
        "difference between the noise of images that are bold, say, and of images that are not.",
    )  # fmt: skip
    continue_ = _command(
        commands, "continue", "paint how films go on whose beginning is given",
        "inkling continue runs/video --given 6 --out films.gif",
    )  # fmt: skip
    denoise = _command(
        commands, "denoise", "film how noise becomes an image, step by step",
        'inkling denoise runs/ddpm --caption "seven" --out film.gif',
    )  # fmt: skip
    inpaint = _command(
        commands, "inpaint", "paint a part of images anew, so that it fits the rest",
        'inkling inpaint ddpm --mask mask.png --caption "a bold seven" --out painted.png\n\n'
        "The mask is a picture of the images' size, white where they are to be painted anew and black where they are\n"
        "to stay as they are. This makes one that hides their lower half:\n"
        '  python -c "from PIL import Image; m = Image.new(\'L\', (28, 28));'
        " m.paste(255, (0, 14, 28, 28)); m.save('mask.png')\"",
    )  # fmt: skip
    from generators import pretrained  # only now: it needs nn, and `main` has made sure that it is ours

    along = ", ".join(name for name in pretrained.names() if name != "classifier")
    counts = {sample: 16, reconstruct: 10, interpolate: 6, edit: 10, denoise: 4, continue_: 4, inpaint: 10}
    for command, count in counts.items():
        command.add_argument("run", help=f"the folder of a trained model, or one that comes along: {along}")
        command.add_argument(
            "-n", type=_number(int, 1, 500 if command is denoise else 100_000), default=count, metavar="N",
            help=f"how many images (default: {count})",
        )
        command.add_argument(
            "-o", "--out", required=command is not sample, metavar="FILE",
            help="ending .png or .jpg: a picture; .gif: a film; .npz: the arrays; a new folder, ending in /: single "
            "pictures" + (" (default: RUN.png)" if command is sample else ""),
        )
        command.add_argument("--seed", type=SEED, default=0, help="another seed, other pictures (default: 0)")
        _threads(command)
    given = continue_, inpaint
    for command in (sample, interpolate, edit, denoise, *given):
        what = "of a gan: what to paint" if command is interpolate else "what to paint"
        what = "what to change" if command is edit else what
        instead = "" if command is edit else " (default: those of the first test images)"
        instead = " (default: their own)" if command in given else instead
        command.add_argument(
            "--caption", action="append", metavar="TEXT", help=f"{what}; several are shared out in turn{instead}"
        )
    edit.add_argument(
        "--by", choices=("caption", "direction", "both"), default="caption",
        help="how the change is made (default: caption); directions need the built-in digits, whose attributes "
        "(variant, stroke, slant, size) are known",
    )  # fmt: skip
    edit.add_argument(
        "--amount", type=_number(float, -100, 100), metavar="A",
        help="how far to go in the direction: 1 as far as from thin to bold, say, below 0 the other way "
        f"(default: {_defaults('amount', 'edit')})",
    )  # fmt: skip
    edit.add_argument(
        "--strength", type=_number(float, 1e-3, 1), metavar="S",
        help="by caption, but from fresh noise: how much is added, from 0 to 1, before it is taken away under the "
        f"changed caption (SDEdit; default: {_defaults('strength', 'edit')})",
    )  # fmt: skip
    sample.add_argument(
        "--actions", metavar="TEXT", help="of a world: what is done in it, such as 'left left next'; the film of that"
    )
    _sampler(sample)
    _sampler(denoise, "denoise", ("steps", "guidance"))
    _sampler(edit, "edit", ("guidance",))
    _sampler(continue_, "continue", ("steps", "guidance"))
    _sampler(inpaint, "inpaint", ("steps", "guidance"))
    inpaint.add_argument("--mask", required=True, metavar="FILE", help="which part: white; what is to stay: black")
    continue_.add_argument(
        "--given", type=COUNT, default=6, metavar="N", help="frames that are given, from the first on (default: 6)"
    )
    for command in (reconstruct, interpolate, edit, *given):
        command.add_argument("--data", help="where the images come from (default: the test images of the model's data)")
    interpolate.add_argument(
        "--frames", type=_number(int, 1, 1000), default=12, metavar="N", help="pictures on the way (default: 12)"
    )


def _defaults(option: str, verb: str) -> str:
    """The families that can do this with that option, and their defaults: "realnvp 2; ddpm, dit 2, or 5 for ink"."""
    by_default: dict[str, list[str]] = {}
    for name in generators.able(verb):
        row = generators.FAMILIES[name]
        if default := (row.editing if verb == "edit" else row.sampling).get(option):
            by_default.setdefault(default, []).append(name)
    return "; ".join(f"{', '.join(names)} {default}" for default, names in by_default.items())


SAMPLER = {
    "steps": (COUNT, "N", "denoising steps"),
    "guidance": (
        _number(float, -100, 100), "W",
        "how closely the caption is followed: 0 not at all, 1 as learned from the data, above 1 more closely; for "
        "diffusion the weight rises to W at medium noise and is 1 at both ends",
    ),
    "eta": (_number(float, 0, 1), "E", "fresh noise in each step, from 0 (none) to 1 (ancestral sampling)"),
    "temperature": (
        _number(float, 0, 100), "T",
        "scale of the noise; below 1 is less varied, 0 one picture for each caption",
    ),
}  # fmt: skip


def _sampler(command, verb: str = "sample", names: Iterable[str] = tuple(SAMPLER)) -> None:
    """Those options of the families' samplers that the command has."""
    for name in names:
        kind, letter, text = SAMPLER[name]
        command.add_argument(
            "--sample-steps" if name == "steps" else f"--{name}", dest=f"sampler_{name}", type=kind, metavar=letter,
            help=f"{text} (default: {_defaults(name, verb)})",
        )  # fmt: skip


def _add_evaluate(commands) -> None:
    evaluate = _command(
        commands, "evaluate", "measure a trained model with a judge",
        "inkling evaluate runs/ddpm --judge runs/classifier-digits",
    )  # fmt: skip
    evaluate.add_argument(
        "run", help="the folder of a trained model, or samples of any tool: an .npz file with `images` (N, H, W) or "
        "(N, H, W, C), bytes or numbers from 0 to 1, and perhaps `captions`",
    )  # fmt: skip
    evaluate.add_argument("--data", help="of a file of samples: the data set that they are to be like")
    evaluate.add_argument("--judge", metavar="FOLDER", help="a trained classifier (default: runs/classifier-DATA)")
    evaluate.add_argument(
        "-n", type=_number(int, 1, 100_000), metavar="N", help="samples to draw of a model (default: 10000)"
    )
    evaluate.add_argument("--seed", type=SEED, help="of a model: another seed, other samples (default: 0)")
    _sampler(evaluate)
    evaluate.add_argument(
        "--no-score", action="store_true", help="leave out the accuracy score, for which two classifiers are trained"
    )
    evaluate.add_argument("--json", metavar="FILE", help="also write the figures there; info shows RUN/figures.json")
    _threads(evaluate)


def _add_info(commands) -> None:
    info = _command(commands, "info", "say what a run is, knows and has done", "inkling info runs/vae")
    info.add_argument("run", help="the folder of a trained model")


def _add_demo(commands) -> None:
    demo = _command(
        commands, "demo", "show every family on one page, then train each briefly on this machine",
        "inkling demo --out out/demo",
    )  # fmt: skip
    demo.add_argument("-o", "--out", default="out/demo", metavar="FOLDER", help="default: out/demo")
    demo.add_argument(
        "--minutes", type=_number(float, 0, 10_000), default=7.5,
        help="of training, for all families together (default: 7.5); 0: only the page of the weights that come along",
    )  # fmt: skip
    demo.add_argument("--seed", type=SEED, default=0)
    _threads(demo)


def _add_play(commands) -> None:
    play = _command(
        commands, "play", "play in a learned world, by keyboard", "inkling play runs/world-playground --record game.gif"
    )
    play.add_argument("run", nargs="?", help="default: runs/world-playground, or else the world that comes along")
    play.add_argument("--web", action="store_true", help="on a page of this machine, not in the terminal")
    play.add_argument("--record", metavar="FILE", help="keep the game as a film, ending .gif")
    play.add_argument("--seed", type=SEED, default=0, help="another seed, another first frame (default: 0)")


def _add_explore(commands) -> None:
    explore = _command(commands, "explore", "try models on a page of this machine", "inkling explore vae runs/x")
    explore.add_argument("run", nargs="*", help="default: all that come along")
    explore.add_argument("--no-browser", dest="browser", action="store_false", help="print its address, and no more")
    _threads(explore)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 after one sentence about what was wrong with the input."""
    status, message = 2, generators.foreign()
    if message is None:
        try:
            with program.streams(), warnings.catch_warnings():
                # A NaN in training ends the run with a sentence of its own.
                arithmetic = "(overflow|underflow|divide by zero|invalid value) encountered"
                warnings.filterwarnings("ignore", arithmetic, RuntimeWarning)
                warnings.showwarning = lambda text, *_, **__: print(f"inkling: {text}", file=sys.stderr)
                status, message = _run(arguments)
        except OSError as error:  # standard output is a file on a full disk
            message = f"{error.filename}: {error.strerror}"
    if message is not None:
        with program.streams():
            print(f"inkling: {program.escaped(message)}", file=sys.stderr)
    return status


def function_of(command: str) -> Callable[[argparse.Namespace], int | None]:
    """What does the work of a command, given its options."""
    from generators.apps import commands, measuring  # only now, since they import all the rest

    own = command + "_" * keyword.iskeyword(command)  # `continue` is a word of Python
    return getattr(measuring if command in ("evaluate", "info") else commands, own)


def _run(arguments: list[str] | None) -> tuple[int, str | None]:
    """The exit status of a command, and the sentence to say about it, if any."""
    from datasets import CaptionError, DataError
    from generators.showing.pictures import PictureError
    from nn import runtime
    from nn.checkpoint import CheckpointError

    try:
        top = parser()
        options = top.parse_args(arguments)
        if options.command is None:
            top.print_help()
            return 0, None
        if uncompiled := runtime.uncompiled():
            raise UsageError(uncompiled)
        command = function_of(options.command)
        program.interrupts(program.stop_at_once, signal.default_int_handler)
        with program.compiling_announced():
            return command(options) or 0, None
    except (Refusal, DataError, CaptionError, CheckpointError, PictureError) as error:
        message = str(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}"
    except MemoryError:
        message = "not enough memory for what was asked; try fewer images or a smaller model"
    except KeyboardInterrupt:
        return 130, "stopped"
    if len(message) > 800:  # some input was quoted in it
        message = f"{message[:400]} [...] {message[-400:]}"
    return 2, message
