"""The command line: `inkling`, or `python -m generators`.

Parses, checks, and hands over to `commands.py`.  Whatever is wrong with the input ends in one sentence and exit
status 2, without a traceback; a traceback is a bug of ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import re
import sys
import warnings

from generators.errors import Refusal, UsageError

EXAMPLES = """\
Four ways to make an image from a sentence.  To begin:

  inkling train vae --out runs/vae --minutes 2
  inkling sample runs/vae --caption "a bold seven with a bar" -n 16 --out sevens.png

Each command explains itself: inkling train --help
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UsageError(f"{message} (see: {self.prog} --help)")

    def parse_known_args(self, args=None, namespace=None):
        for word in sys.argv[1:] if args is None else args:
            if re.fullmatch(r"--[\w-]+=--|-\w--", word):  # argparse drops the value, and each version fails otherwise
                self.error(f"'--' is no value for an option, in {word!r}")
        return super().parse_known_args(args, namespace)


def _positive(kind, most: int = 10**9):
    def parse(text: str):
        value = kind(text)
        if not 0 < value <= most:
            raise ValueError
        return value

    parse.__name__ = f"positive {'whole number' if kind is int else 'number'} up to {most:,}"
    return parse


def _between(least: float, most: float):
    def parse(text: str):
        value = float(text)
        if not least <= value <= most:  # written so that NaN fails too
            raise ValueError
        return value

    parse.__name__ = f"number from {least:g} to {most:g}"
    return parse


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**63:
        raise ValueError
    return value


_seed.__name__ = "whole number of at least 0"


def parser() -> argparse.ArgumentParser:
    """The whole command line, as argparse sees it."""
    top = _Parser("inkling", description=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _add_train(commands)
    _add_pictures(commands)
    _add_evaluate(commands)
    _add_demo(commands)
    return top


def _command(commands, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\nExample:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _threads(command) -> None:
    command.add_argument(
        "--threads", type=_positive(int, 1024), help="default: all cores; the result is the same for any number"
    )


def _add_train(commands) -> None:
    train = _command(
        commands, "train", "train a model from scratch and keep it in a folder",
        "inkling train ddpm --data fashion --out runs/clothes --minutes 10",
    )  # fmt: skip
    train.add_argument(
        "family",
        nargs="?",
        help="vae, realnvp, ddpm, dit (diffusion by a transformer), gan, vaegan (a VAE with a critic), regression (the "
        "blurred baseline), or classifier (the judge)",
    )
    train.add_argument(
        "--data", help="digits (built in), mnist, fashion, or a folder of images (default: digits)"
    )
    train.add_argument("--limit", type=_positive(int), metavar="N", help="train on the first N images only")
    train.add_argument(
        "--size", type=_positive(int), metavar="N",
        help="of a folder: fit its pictures into N x N pixels, a multiple of 4 (default: 28); the time of a step grows "
        "with the pixels, so 56 takes four times as long as 28",
    )  # fmt: skip
    train.add_argument("--color", action="store_true", default=None, help="of a folder: in colour (default: gray)")
    train.add_argument(
        "--mirror", action="store_true", default=None, help="of a folder: add the mirror image of each picture"
    )
    train.add_argument(
        "--paper", choices=("black", "white"),
        help="of a folder: what is behind transparent parts and around pictures (default: black)",
    )  # fmt: skip
    train.add_argument("--out", metavar="FOLDER", help="where the run lives (default: runs/FAMILY-DATA)")
    length = train.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=_positive(float),
        help="train about so long: measures the speed, then fixes the steps (default: 5)",
    )
    length.add_argument("--steps", type=_positive(int), help="train for so many steps")
    train.add_argument("--seed", type=_seed, help="everything random follows from it (default: 0)")
    _threads(train)
    train.add_argument("--resume", action="store_true", help="go on with the run in --out, after Ctrl-C or a crash")
    train.add_argument(
        "--save-every", type=_positive(float), default=60.0, metavar="SECONDS", help="between checkpoints (default: 60)"
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
        "inkling interpolate runs/vae --out walk.gif",
    )  # fmt: skip
    edit = _command(
        commands, "edit", "keep an image's noise and change what it shows: by another caption, or by a direction",
        'inkling edit runs/realnvp --caption "a bold digit" --by both --out edits.png\n\n'
        "By caption: the noise is read off the image under its own caption and decoded under the changed one.\n"
        "By direction: the caption is silent about the change, and the noise is moved instead, along the mean\n"
        "difference between the noise of images that are bold, say, and of images that are not.",
    )  # fmt: skip
    denoise = _command(
        commands, "denoise", "film how noise becomes an image, step by step",
        'inkling denoise runs/ddpm --caption "seven" --out film.gif',
    )  # fmt: skip
    for command, count in ((sample, 16), (reconstruct, 10), (interpolate, 6), (edit, 10), (denoise, 4)):
        command.add_argument("run", help="the folder of a trained model")
        command.add_argument(
            "-n", type=_positive(int, 500 if command is denoise else 100_000), default=count, metavar="N",
            help=f"how many images (default: {count})",
        )
        command.add_argument(
            "--out", required=True, metavar="FILE", help="ending .png: a picture; .gif: a film; .npz: the arrays"
        )
        command.add_argument("--seed", type=_seed, default=0, help="another seed, other pictures (default: 0)")
        _threads(command)
    for command in (sample, edit, denoise):
        what = "what to change" if command is edit else "what to paint"
        instead = "" if command is edit else " (default: those of the first test images)"
        command.add_argument(
            "--caption", action="append", metavar="TEXT", help=f"{what}; several are shared out in turn{instead}"
        )
    edit.add_argument(
        "--by", choices=("caption", "direction", "both"), default="caption",
        help="how the change is made (default: caption); directions need the built-in digits, whose attributes "
        "(variant, stroke, slant, size) are known",
    )  # fmt: skip
    edit.add_argument(
        "--amount", type=_between(-100, 100), metavar="A",
        help="how far to go in the direction: 1 as far as from thin to bold, say, below 0 the other way (default: 1; "
        "realnvp: 3)",
    )  # fmt: skip
    _sampler(sample)
    _steps(denoise)
    _guidance(denoise, "2, or 5 for ink")
    _guidance(edit, "ddpm, dit 3, or 5 for ink; realnvp 1.5 to read the image and 2.5 to paint it")
    for command in (reconstruct, interpolate, edit):
        command.add_argument("--data", help="where the images come from (default: the test images of the model's data)")
    interpolate.add_argument(
        "--frames", type=_positive(int, 1000), default=12, metavar="N", help="pictures on the way (default: 12)"
    )


def _sampler(command) -> None:
    """All options that the samplers of the families have between them."""
    _steps(command)
    _guidance(command, "realnvp 2; ddpm, dit 2, or 5 for ink")
    command.add_argument(
        "--eta",
        type=_between(0, 1),
        metavar="E",
        help="ddpm, dit: fresh noise in each step, from 0 (none) to 1 (ancestral sampling)",
    )
    command.add_argument(
        "--temperature",
        type=_between(0, 100),
        metavar="T",
        help="vae, vaegan, realnvp: scale of the noise; below 1 is safer and duller, 0 one picture for each caption "
        "(default: 1; realnvp of ink: 0.4)",
    )


def _steps(command) -> None:
    command.add_argument(
        "--sample-steps", type=_positive(int), metavar="N", help="ddpm, dit: denoising steps (default: 50)"
    )


def _guidance(command, default: str) -> None:
    command.add_argument(
        "--guidance",
        type=_between(-100, 100),
        metavar="W",
        help="ddpm, dit, realnvp: how strictly to obey the caption: 0 not at all, 1 as learned from the data, above 1 "
        "more strictly; diffusion swells to W in the middle of the noise and asks for 1 at its ends "
        f"(default: {default})",
    )


def _add_evaluate(commands) -> None:
    evaluate = _command(
        commands, "evaluate", "measure a trained model with a judge",
        "inkling evaluate runs/ddpm --judge runs/classifier-digits",
    )  # fmt: skip
    evaluate.add_argument("run", help="the folder of a trained model")
    evaluate.add_argument("--judge", metavar="FOLDER", help="a trained classifier (default: runs/classifier-DATA)")
    evaluate.add_argument(
        "-n", type=_positive(int, 100_000), default=10_000, metavar="N", help="samples to draw (default: 10000)"
    )
    evaluate.add_argument("--seed", type=_seed, default=0)
    _sampler(evaluate)
    evaluate.add_argument(
        "--no-score", action="store_true", help="leave out the accuracy score, for which two classifiers are trained"
    )
    evaluate.add_argument("--json", metavar="FILE", help="also write the figures there")
    _threads(evaluate)


def _add_demo(commands) -> None:
    demo = _command(
        commands, "demo", "train every family briefly on the built-in digits and show them on one page",
        "inkling demo --out out/demo",
    )  # fmt: skip
    demo.add_argument("--out", default="out/demo", metavar="FOLDER", help="default: out/demo")
    demo.add_argument("--minutes", type=_positive(float), default=8.0, help="for all families together (default: 8)")
    demo.add_argument("--seed", type=_seed, default=0)
    _threads(demo)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 after one sentence about what was wrong with the input."""
    if foreign := _foreign_datasets():
        print(f"inkling: {foreign}", file=sys.stderr)
        return 2
    from datasets import CaptionError, DataError
    from generators.showing.pictures import PictureError
    from nn.checkpoint import CheckpointError

    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is shown escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # A NaN in training ends the run with a sentence of its own.
    warnings.filterwarnings("ignore", "(overflow|underflow|divide by zero|invalid value) encountered", RuntimeWarning)
    try:
        top = parser()
        options = top.parse_args(arguments)
        if options.command is None:
            top.print_help()
            return 0
        from generators.apps import commands

        return getattr(commands, options.command)(options) or 0
    except (Refusal, DataError, CaptionError, CheckpointError, PictureError) as error:
        message = str(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}"
    except MemoryError:
        message = "not enough memory for what was asked; try fewer images or a smaller model"
    except KeyboardInterrupt:
        message = "stopped"
    if len(message) > 800:  # some input was quoted in it
        message = f"{message[:400]} [...] {message[-400:]}"
    print(f"inkling: {message}", file=sys.stderr)
    return 130 if message == "stopped" else 2


def _foreign_datasets() -> str | None:
    """A sentence if the package `datasets` that would be imported is not ours: another project's has the same name."""
    import nn

    ours = os.path.dirname(os.path.dirname(os.path.abspath(nn.__file__)))
    found = importlib.util.find_spec("datasets")  # not imported: it may be large, or broken
    theirs = os.path.dirname(os.path.dirname(os.path.abspath(found.origin or "")))
    if theirs == ours:
        return None
    return (
        f"the package 'datasets' in {theirs} hides Inkling's own in {ours}; "
        "uninstall it, or run Inkling in an environment of its own"
    )
