"""How fast the families that have a twin in PyTorch train and paint, beside it: `python -m bench speed`.

    python -m bench speed --json speed.json --plot speed.png
    python -m bench speed --families vae --rounds 3 --sweep batch

The same networks on both sides (`bench/peers/`): before anything is timed, loss and every gradient are shown to agree.
Then Inkling on two threads and on one, and PyTorch on two in its ways, take turns in processes of their own: eager,
channels_last, compiled, and as two processes of one thread each; all with the allocator's settings that Inkling has.
A step is a whole one: data, forward, backward, clipping, optimiser, moving average.  Without PyTorch, Inkling alone.
"""
from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile

from bench import report, startup
from bench.arena import ALL, OURS, TORCH, ask_once, match, series, torch_is_installed
from bench.models import WITH_TWIN, add_families, width_settings
from disk import files
from generators.registry import FAMILIES
from nn import runtime

BATCH = {"batch_size": 128}
PICTURES = 128  # painted at once
SWEEPS = {"batch": (16, 32, 64, 128, 256, 512), "width": (16, 32, 64, 128), "size": (28, 32, 48, 64)}
# Instruction sets that newer processors can be kept to, on both sides: the environment, and what libraries then say.
ISA = {
    "avx2": {
        "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "", "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
}  # fmt: skip
TAKEN = {"avx2": {"haswell", "zen", "avx2"}}
HOW_TO_INSTALL = "PyTorch is not installed, so Inkling runs alone; to compare: .venv/bin/pip install -e '.[bench]'"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    names = options.contestants or list(ALL)
    hold_to(options.isa)
    if not torch_is_installed():
        print(HOW_TO_INSTALL)
        names = [name for name in names if name in OURS]
    result = {"machine": runtime.describe(), "isa": options.isa, "families": {}}
    if options.isa:
        print(f"Vectors of {options.isa}: {', '.join(vectors(names, options.isa))}.", flush=True)
    with tempfile.TemporaryDirectory(prefix="inkling-inductor-") as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # empty, so that the time to compile is the whole of it
        if advice := held_back(result["machine"]["blas_core"]):
            print(advice)
        for family in options.families:
            measured = result["families"][family] = measure(family, names, options)
            print(report.family(family, measured), flush=True)
            _write(options.json, result)
    print(report.summary(result["families"]))
    if options.plot:
        report.plot(result["families"], options.plot)
    wrong = [family for family, measured in result["families"].items() if measured.get("agrees") is False]
    return 1 if wrong else 0


def add_isa(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--isa", choices=list(ISA), help="keep both sides to these vectors (default: all there are)")


def hold_to(isa: str | None) -> None:
    """Keep what is started from now on to these vectors; None: to none."""
    os.environ |= ISA.get(isa, {})


def held_back(core: str | None) -> str | None:
    """A sentence where the user's OPENBLAS_CORETYPE keeps NumPy, whose BLAS works for `core`, from faster kernels."""
    told = os.environ.get("OPENBLAS_CORETYPE")
    if not told or not core or core.lower() in runtime.AVX512_CORES or not runtime.has_avx512():
        return None
    return (
        f"OPENBLAS_CORETYPE={told} keeps NumPy from its AVX-512 kernels, which multiply matrices almost twice as fast "
        "on this processor; unset it, and Inkling chooses."
    )


def vectors(names: list[str], isa: str) -> list[str]:
    """What the libraries of both sides say they use now.  SystemExit if one did not take the instruction set."""
    told = {}
    for side in ("ours", "torch_eager"):
        if side in names:
            told |= ask_once(side, "vectors")
    wrong = {library: said for library, said in told.items() if said.lower() not in TAKEN[isa]}
    if wrong:
        raise SystemExit(f"bench: not on {isa}: {wrong}; unset what your environment says of them")
    return [f"{library} {said}" for library, said in told.items()]


def measure(family: str, names: list[str], options: argparse.Namespace) -> dict:
    """Everything about one family, in the form of the JSON."""
    measured: dict = {}
    if any(name in TORCH for name in names):
        checked = ask_once("torch_eager", "check", family=family)
        measured |= checked
        verdict = "the twins agree" if checked["agrees"] else "THE TWINS DISAGREE, so nothing is timed"
        print(f"{family}: {verdict}: {checked['how']}", flush=True)
        if not checked["agrees"]:
            return measured  # two different computations: nothing to compare
    films = FAMILIES[family].data != "digits"
    build = {"family": family, "settings": {} if films else BATCH}  # a batch of films is as large as by default
    outcomes = match(names, build, options.rounds, options.turn, PICTURES, lambda text: say(f"{family}: {text}"))
    measured |= report.figures(outcomes)
    if "ours" in names:
        measured["gflop"] = ask_once("ours_1_thread", "flops", **build)["gflop"]
        rate = measured["gemm_gflops"].get("ours", math.nan)  # NaN: it failed
        measured["gemm_share"] = measured["gflop"] / measured["ours_ms"] * 1e3 / rate
        if not options.no_startup:
            say(f"{family}: start-up")
            compiling = "torch_compile" in names and not outcomes["torch_compile"].failure
            measured |= startup.measure(family, compiler="torch_compile" if compiling else None)
    for kind in options.sweep if not films else ():  # which have one size, and a batch of them is large already
        measured.setdefault("sweep", {})[kind] = sweep(family, kind, names, options)
    return measured


def sweep(family: str, kind: str, names: list[str], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Milliseconds a step by value of what is swept and by contestant; torch.compile takes minutes for each."""
    builds = {}
    for value in SWEEPS[kind]:
        changed = {"batch": {"batch_size": value}, "width": width_settings(family, value), "size": {}}[kind]
        builds[str(value)] = {"family": family, "size": value if kind == "size" else 28, "settings": BATCH | changed}
    say(f"{family}: over {kind}")
    outcomes = series(names, builds, max(1, options.rounds // 2), options.turn / 2)
    for value, several in outcomes.items():
        for name, outcome in several.items():
            if outcome.failure:
                say(f"{family}, {kind} {value}: {name} failed: {outcome.failure}")
    found = {value: {name: o.milliseconds for name, o in several.items()} for value, several in outcomes.items()}
    print(report.sweep(family, kind, found), flush=True)
    return found


def _write(path: str | None, result: dict) -> None:
    if path:
        files.write_json(path, report.without_nan(result))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_families(parser, WITH_TWIN, WITH_TWIN)
    parser.add_argument("--contestants", nargs="+", choices=list(ALL), help="default: all")
    add_isa(parser)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: 5)")
    parser.add_argument("--turn", type=float, default=4.0, metavar="SECONDS", help="length of a turn (default: 4)")
    parser.add_argument("--sweep", nargs="*", default=[], choices=list(SWEEPS), help="besides: over these")
    parser.add_argument("--no-startup", action="store_true", help="leave out compile time and time to first picture")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there, after each family")
    parser.add_argument("--plot", metavar="FILE", help="also draw bars there (needs matplotlib: extra plot)")
    return parser
