"""Strange input for the command line: options, captions, checkpoints, pictures and IDX files that are not as they
should be.  Each case runs `inkling` inside this process and is judged:

- the exit status is 0 or 2, and with 2 the last line is one sentence that begins with "inkling: ";
- no exception gets out, nothing hangs, and nothing is written but where `--out` points.

A case is drawn from a `random.Random`, so that a seed or hypothesis can choose it, and repeat it.
"""
from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import signal
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from generators import cli
from generators.registry import FAMILIES, able
from nn import checkpoint
from tests.generators.toys import sets_of

FUZZED = able("sample", "method", "variation")
SECONDS = 240  # a case that takes longer hangs: compiling alone takes a minute on a slow machine that is busy
JUNK = (  # without a null byte, which no process can be given
    "", " ", "-1", "0", "1", "3", "1000", "100000000", "9" * 30, "9" * 5000, "0.5", "1e8", "nan", "inf", "-inf",
    "1e400", "None", "True", "null", "[]", "{}", "[1", "[1,2]", '"x"', "[" * 2000, "\udce9", "é💥", "--",
    "-", "=", "%s", "$(ls)", "__import__('os')", "/", "/dev/null", "/dev/zero", "/proc/self/mem", ".", "x" * 5000,
)  # fmt: skip
JSON_JUNK = (
    None, True, -1, 0, 1, 7, 1000, 10**9, 10**30, 0.5, -1e300, float("nan"), float("inf"), "", "x", "../../etc",
    "/dev/zero", [], [1], [[[]]], {}, {"x": 1}, [10**9] * 3, "mnist", "y" * 10_000,
)  # fmt: skip
SETTINGS = (
    "width", "widths", "batch_size", "shard_size", "optimiser", "optimiser.rate", "optimiser.betas", "vocabulary",
    "optimiser.muon", "optimiser.momentum",
    "x.y", "channels", "image_size", "likelihood", "ema_decay", "steps", "optimiser.warmup_steps", "latent", "noise",
    "time_steps", "heads", "blocks", "features", "depth", "dequantisation", "gamma",
    "sketches", "penalty_step", "margin", "caption_dropout", "temperature", "beta", "clip_norm",
)  # fmt: skip


class Hang(BaseException):
    """A case took too long."""


@dataclass(frozen=True)
class Outcome:
    status: int
    errors: str  # what went to standard error
    seconds: float


def train_arguments(family: str, folder: Path | str, steps: int, *more: str) -> list[str]:
    """A command line that trains the smallest model of a family, ten shards to a batch: more than there are lanes."""
    sets = sets_of({"batch_size": 20, "shard_size": 2} | FAMILIES[family].tiny)
    return ["train", family, "--limit", "60", "--out", str(folder), "--steps", str(steps), *sets, *more]


def inkling(arguments: list[str], seconds: float = SECONDS) -> Outcome:
    """Run a command in this process.  Raises Hang after so long; any exception of the command is let through."""

    def hang(*_):
        raise Hang(" ".join(arguments)[:500])

    errors, began = io.StringIO(), time.perf_counter()
    previous = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            try:
                status = cli.main(arguments)
            except SystemExit as end:  # --help
                status = end.code or 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    return Outcome(status, errors.getvalue(), time.perf_counter() - began)


def complaint(outcome: Outcome) -> str | None:
    """What is wrong with how a command ended, or None."""
    if outcome.status not in (0, 2):
        return f"exit status {outcome.status}"
    if "Traceback" in outcome.errors:
        return "a traceback"
    if outcome.status == 2:
        lines = outcome.errors.strip().splitlines() or [""]
        if not lines[-1].startswith("inkling: ") or len(lines[-1]) < 15:
            return f"no sentence, but {lines[-1][:200]!r}"
        if len(lines[-1]) > 2000:
            return f"a sentence of {len(lines[-1])} characters"
    return None


class Sandbox:
    """A folder with a tiny trained run of each family, in which cases are set up and run."""

    def __init__(self, folder: Path, families: Sequence[str] = FUZZED):
        self.folder, self.families = Path(folder), families
        for family in families:
            outcome = inkling(train_arguments(family, self.folder / family, 1))
            if outcome.status:
                raise RuntimeError(f"the {family} to be fuzzed could not be trained: {outcome.errors[-500:]}")
        self.bomb = gzip.compress(bytes(400 << 20), 1)

    def run(self, kind: str, random: Random) -> str | None:
        """Draw a case of a kind, run it, judge it: None if all is well, else what was wrong and with which input."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        (work / "out").mkdir(parents=True)
        here, environment = os.getcwd(), dict(os.environ)
        os.environ["https_proxy"] = "http://127.0.0.1:9"  # nobody there: a missing file must not be downloaded
        os.chdir(work)
        try:
            arguments = CASES[kind](self, work, random)
            before = _listing(work)
            try:
                wrong = complaint(inkling(arguments))
            except (Exception, Hang) as error:
                wrong = f"{type(error).__name__}: {error}"
            if wrong is None and kind != "options" and (strays := _listing(work) - before):
                wrong = f"wrote {sorted(strays)[0]}"
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(environment)
        shown = " ".join(repr(word[:80]) for word in arguments)
        return wrong and f"{kind}: {wrong[:1000]}\n  inkling {shown}"


def _listing(work: Path) -> set[str]:
    """Every file in the sandbox that is not under `out`."""
    files = (path.relative_to(work) for path in work.rglob("*"))
    return {str(path) for path in files if path.parts[0] != "out"}


# ---- the kinds of case: each sets up files in `work` and returns a command line


def options(sandbox: Sandbox, work: Path, random: Random) -> list[str]:
    family = random.choice(sandbox.families)
    run = str(sandbox.folder / family)
    arguments = random.choice(
        [
            train_arguments(family, "out/run", 1),
            train_arguments(family, "out/run", 1, "--threads", "2", "--seed", "5"),
            ["train", "--resume", "--out", run],
            ["sample", run, "--out", "out/x.png", "-n", "2", "--seed", "3", "--threads", "1"],
            ["sample", run, "--out", "out/x.npz", "-n", "2", "--caption", "seven", "--guidance", "2"],
            ["sample", run, "--out", "out/x.gif", "-n", "2", "--sample-steps", "3", "--temperature", "0.5"],
            ["reconstruct", run, "--out", "out/x.png", "-n", "2"],
            ["interpolate", run, "--out", "out/x.gif", "-n", "2", "--frames", "3"],
            ["edit", run, "--out", "out/x.png", "-n", "2", "--caption", "a bold digit"],
            ["denoise", run, "--out", "out/x.gif", "-n", "2", "--sample-steps", "3"],
            ["continue", run, "--out", "out/x.gif", "-n", "1", "--given", "2", "--sample-steps", "2"],
            ["evaluate", run, "--judge", run, "-n", "2", "--json", "out/x.json"],
            ["info", run],
            ["demo", "--out", "out/demo", "--minutes", "x"],
        ]
    )
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randrange(1, len(arguments))
        change = random.choice(("replace", "replace", "replace", "insert", "drop", "setting"))
        if arguments[place] in ("--steps", "--minutes") or arguments[place - 1] in ("--steps", "--minutes"):
            continue  # the length of the run is what keeps the case short
        if change == "replace":
            arguments[place] = random.choice(JUNK)
        elif change == "insert":
            arguments.insert(place, random.choice((*JUNK, "--help", "--no-such-option", "--caption")))
        elif change == "drop" and arguments[0] != "demo":
            del arguments[place]
        elif change == "setting" and arguments[0] == "train":
            arguments += ["--set", f"{random.choice(SETTINGS)}={random.choice(JUNK)}"]
        if len(arguments) < 2 or "--steps" not in arguments and arguments[0] == "train" and "--resume" not in arguments:
            return ["train", *arguments[1:], "--steps", "1"]
    return arguments


def captions(sandbox: Sandbox, work: Path, random: Random) -> list[str]:
    words = ("a", "bold", "thin", "seven", "one", "with", "without", "bar", "slanting", "left", "small", "digit")
    text = []
    for _ in range(random.randrange(8)):
        word = random.choice((*words, *words, *JUNK))
        if random.random() < 0.3 and word:
            place = random.randrange(len(word))
            word = word[:place] + chr(random.randrange(1, 0xD800)) + word[place + 1 :]
        text.append(word)
    caption = random.choice((" ", ", ", "  ", "\n", "")).join(text)
    run = sandbox.folder / random.choice(sandbox.families)
    command = random.choice(("sample", "sample", "edit", "denoise"))
    return [command, str(run), f"--caption={caption}", "-n", "2", "--out", "out/x.png"]


def checkpoints(sandbox: Sandbox, work: Path, random: Random) -> list[str]:
    run = work / "out" / "run"
    shutil.copytree(sandbox.folder / random.choice(sandbox.families), run)
    path = run / "checkpoint.npz"
    change = random.choice(("bytes", "meta", "meta", "meta", "arrays", "metrics"))
    if change == "bytes":
        path.write_bytes(mutated(path.read_bytes(), random))
    elif change == "metrics":
        (run / "metrics.jsonl").write_bytes(mutated((run / "metrics.jsonl").read_bytes(), random))
    else:
        arrays, meta = checkpoint.load(path)
        for _ in range(random.choice((1, 1, 2))):
            if change == "meta":
                _change_json(meta, random)
            else:
                name = random.choice(list(arrays))
                arrays[name] = random.choice(
                    [arrays[name].astype(np.float64), arrays[name][None], arrays[name].reshape(-1)[:1],
                     np.full_like(arrays[name], -1), np.zeros((0, 3)), arrays[name] * np.float32(np.nan)]
                )  # fmt: skip
                if random.random() < 0.3:
                    arrays[random.choice(JUNK[:10]) + name] = arrays.pop(name)
        checkpoint.save(path, arrays, meta)
    return random.choice(
        [
            ["train", "--resume", "--out", str(run)],
            ["sample", str(run), "-n", "2", "--out", "out/x.png", *random.choice(((), ("--caption", "seven")))],
            ["info", str(run)],
        ]
    )


def _change_json(meta: dict, random: Random) -> None:
    """Replace, drop or add one value somewhere inside."""
    place = meta
    while True:
        key = random.choice(list(place))
        if isinstance(place[key], dict) and place[key] and random.random() < 0.8:
            place = place[key]
            continue
        break
    action = random.choice(("replace", "replace", "replace", "drop", "add"))
    if action == "drop":
        del place[key]
    else:
        name = key if action == "replace" else random.choice(JUNK)
        # A run that is longer than planned is not wrong, only long.
        place[name] = random.choice(("x", -1, 0, 1, None) if name in ("steps", "minutes") else JSON_JUNK)


def pictures(sandbox: Sandbox, work: Path, random: Random) -> list[str]:
    folder = work / "pictures"
    for number in range(random.choice((0, 1, 5, 8))):
        target = folder / random.choice(("", "a", "b c", "é"))
        target.mkdir(parents=True, exist_ok=True)
        size = random.choice(((28, 28), (1, 1), (40, 3), (300, 200)))
        mode = random.choice(("L", "RGB", "RGBA", "1", "P", "I;16", "CMYK", "LA"))
        ending = random.choice(("png", "gif", "bmp", "jpg", "tiff", "webp"))
        buffer = io.BytesIO()
        with contextlib.suppress(OSError, ValueError, KeyError):
            Image.new(mode, size).save(buffer, {"jpg": "jpeg"}.get(ending, ending))
        (target / f"{number}.{ending}").write_bytes(buffer.getvalue())
    folder.mkdir(exist_ok=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for number in range(random.choice((0, 1, 3))):
        path = folder / f"strange-{number}.png"
        change = random.choice(("mutate", "noise", "bomb", "pipe", "link", "folder", "empty"))
        if change == "mutate" and files:
            chosen = random.choice(files)
            chosen.write_bytes(mutated(chosen.read_bytes(), random))
        elif change == "noise":
            path.write_bytes(random.randbytes(300))
        elif change == "bomb":
            path.write_bytes(huge_png())
        elif change == "pipe":
            os.mkfifo(path)
        elif change == "link":
            path.symlink_to(random.choice(("strange-0.png", ".", "/dev/zero", "nowhere")))
        elif change == "folder":
            path.mkdir()
        else:
            path.write_bytes(b"")
    family = random.choice(sandbox.families)
    return [*train_arguments(family, "out/run", 1), "--set", "batch_size=4", "--data", str(folder)]


def huge_png() -> bytes:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def idx(sandbox: Sandbox, work: Path, random: Random) -> list[str]:
    name, name_of = random.choice((("mnist", "mnist"), ("fashion", "fashion-mnist")))
    folder = work / "data" / name_of
    folder.mkdir(parents=True)
    count = random.choice((0, 1, 25))
    files = {}
    for split in ("train", "t10k"):
        pixels, labels = bytes(count * 784), bytes(i % 10 for i in range(count))
        files[f"{split}-images-idx3-ubyte"] = struct.pack(">4i", 2051, count, 28, 28) + pixels
        files[f"{split}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, count) + labels
    for strange in random.sample(sorted(files), random.choice((1, 1, 2))):
        change = random.choice(("header", "header", "bytes", "bomb", "missing", "folder", "pipe"))
        content = bytearray(files[strange])
        if change == "header":
            field = random.randrange(4 if "images" in strange else 2)
            value = random.choice((-1, 0, 1, 2049, 2051, 28, 2**31 - 1, 2**30, 0x08010203, 70_000))
            struct.pack_into(">i", content, 4 * field, value)
        elif change == "bytes":
            content = mutated(bytes(content), random)
        elif change in ("missing", "folder", "pipe"):
            content = None
        if change == "folder":
            (folder / strange).mkdir()
        elif change == "pipe":
            os.mkfifo(folder / strange)
        if change == "bomb":
            bomb = mutated(sandbox.bomb, random) if random.random() < 0.3 else sandbox.bomb
            (folder / f"{strange}.gz").write_bytes(bomb)
            content = None
        files[strange] = None if content is None else bytes(content)
    for filename, content in files.items():
        if content is not None and random.random() < 0.5:
            filename, content = f"{filename}.gz", gzip.compress(content)
            if random.random() < 0.2:
                content = mutated(content, random)
        if content is not None:
            (folder / filename).write_bytes(content)
    os.environ["INKLING_DATA"] = str(work / "data")
    return [*train_arguments(random.choice(sandbox.families), "out/run", 1), "--data", name]


def mutated(content: bytes, random: Random) -> bytes:
    """The bytes with some flipped, cut off, repeated or put in."""
    content = bytearray(content)
    for _ in range(random.choice((1, 1, 3, 10))):
        place = random.randrange(len(content) + 1)
        change = random.choice(("flip", "flip", "cut", "insert", "remove", "zero"))
        if change == "flip" and place < len(content):
            content[place] ^= 1 << random.randrange(8)
        elif change == "cut":
            del content[place:]
        elif change == "insert":
            content[place:place] = random.randbytes(random.randrange(1, 40))
        elif change == "remove":
            del content[place : place + random.randrange(1, 40)]
        elif change == "zero":
            content[place : place + 8] = bytes(len(content[place : place + 8]))
    return bytes(content)


CASES: dict[str, Callable[[Sandbox, Path, Random], list[str]]] = {
    "options": options, "captions": captions, "checkpoints": checkpoints, "pictures": pictures, "idx": idx,
}  # fmt: skip
