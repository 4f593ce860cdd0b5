"""The command line: `inkling`, or `python -m generators`.

Parses, checks, and hands over to `apps/`.  `cli.ini` has each command, its arguments, which values they take, and what
they say in --help.  What is wrong with the input ends in one sentence and exit status 2; a traceback is a bug of ours.
"""

import argparse
import configparser
import gc
import keyword
import re
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

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


def _values(words: list[str]) -> dict:
    """What argparse takes for an argument, by the words behind its name in `cli.ini`."""
    values: dict = {}
    for word in words:
        if word == "flag":
            values |= {"action": "store_true", "default": None}
        elif word == "several":
            values["action"] = "append"
        elif "|" in word:
            values["choices"] = word.split("|")
        elif ".." in word:
            values["type"] = _number(*word.split(".."))
        else:
            values["metavar"] = word
    return values


def _number(first: str, last: str) -> Callable[[str], float]:
    """Reads a number in this range."""
    kind = float if {".", "e"} & set(first) else int
    least, most = kind(first), kind(last or 10**9)

    def parse(text: str):
        value = kind(text)
        if not least <= value <= most:  # written so that NaN fails too
            raise ValueError
        return value

    parse.__name__ = f"{'whole number' if kind is int else 'number'} from {least:g} to {int(most):,}"
    return parse


def parser() -> argparse.ArgumentParser:
    """The whole command line, as argparse sees it."""
    import datasets  # only now, as `pretrained`: `main` has made sure that they are ours
    from generators import pretrained

    families = [f"{' or '.join((name, *row.also))} ({row.summary})" for name, row in generators.FAMILIES.items()]
    lists = {
        "families": ", ".join(families),
        "data": ", ".join(datasets.NAMED),
        "along": ", ".join(name for name in pretrained.names() if name != "classifier"),
    }
    words = configparser.RawConfigParser(delimiters=(" = ",))
    words.optionxform = str  # -n is not -N
    words.read_string(Path(__file__).with_suffix(".ini").read_text(encoding="utf-8"))
    top = _Parser("inkling", description=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"inkling {generators.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name in words.sections()[1:]:
        _add(commands, name, words[name], {**words["arguments"], **words[name]}, lists)
    return top


def _add(commands, name: str, words: Mapping[str, str], rows: Mapping[str, str], lists: Mapping[str, str]) -> None:
    """A command, as its section of `cli.ini` has it; rows: of this section, and before them those of [arguments]."""
    summary, able = words["summary"], generators.able(name)
    families = f"\n\nFamilies: {', '.join(able)}." if able else ""
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{families}\n\nExample:\n  {words['example']}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    values, texts = {}, {}
    for row, text in rows.items():
        argument, *behind = row.split()
        values[argument], texts[argument] = _values(behind) or values.get(argument, {}), text
    for place in words["takes"].split():
        group = command.add_mutually_exclusive_group() if "|" in place else command
        for argument in place.split("|"):
            argument, _, default = argument.partition("=")
            own, last = argument.rstrip("?*!"), argument[-1]
            more = {"nargs": last} if last in "?*" else {"required": True} if last == "!" else {}
            more |= {"default": default} if default else {}
            text = texts[own].format(**lists, defaults=_defaults(own, name))
            group.add_argument(*(["-o"] if own == "--out" else []), own, help=text, **values[own] | more)


def _defaults(option: str, command: str) -> str:
    """The families that know a command and its option, and their defaults: "realnvp 2; ddpm, dit 2, or 5 for ink"."""
    option, by_default = option.removeprefix("--sample-").lstrip("-"), {}
    for name in generators.able("sample" if command == "evaluate" else command):
        row = generators.FAMILIES[name]
        if default := (row.editing if command == "edit" else row.sampling).get(option):
            by_default.setdefault(default, []).append(name)
    return "; ".join(f"{', '.join(names)} {default}" for default, names in by_default.items())


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
    from nn import runtime
    from nn.checkpoint import CheckpointError
    from nn.parallel import Threads

    try:
        top = parser()
        if not gc.isenabled():  # which `generators` switched off
            gc.freeze()  # what has been imported stays; to look through it takes 0.2 s now, and 0.1 s at the end
            gc.enable()
        options = top.parse_args(arguments)
        if options.command is None:
            top.print_help()
            return 0, None
        if uncompiled := runtime.uncompiled():
            raise UsageError(uncompiled)
        command = function_of(options.command)
        if "threads" in options:
            options.threads = Threads(options.threads)
        program.interrupts(program.stop_at_once, signal.default_int_handler)
        with program.compiling_announced():
            return command(options) or 0, None
    except (Refusal, DataError, CaptionError, CheckpointError) as error:
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
