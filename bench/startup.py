"""What waiting costs before anything happens: compiling for training, and from process start to the first picture."""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.arena import ROOT, Contestant


def seconds_to_first_step(family: str, cache: Path, name: str = "ours") -> float:
    """From process start to the end of the first training step, with the compiler's cache in this folder."""
    begin = time.perf_counter()
    contestant = Contestant(name, {"NUMBA_CACHE_DIR": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache)})
    try:
        contestant.ask("build", family=family)
        contestant.ask("train", steps=1)
        return time.perf_counter() - begin
    finally:
        contestant.close()


def seconds_to_picture(run: Path, cache: Path) -> float:
    """From process start to one picture of a saved run, as `inkling sample` writes it."""
    command = ["sample", str(run), "-n", "1", "--caption", "", "--out", str(run / "picture.png")]
    begin = time.perf_counter()
    _inkling(command, cache)
    return time.perf_counter() - begin


def _inkling(command: list[str], cache: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "generators", *command],
        check=True, cwd=ROOT, env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, capture_output=True,
    )  # fmt: skip


def measure(family: str, repeats: int = 5, compiler: str | None = None) -> dict:
    """{"first_step": {name: (from process start with an empty cache, with a warm one)}, "compile_seconds": what an
    empty cache adds to ours, "first_picture_cold_seconds", "first_picture_seconds": with a warm cache}; the medians of
    `repeats` where the cache is warm.

    compiler: the contestant of PyTorch's that compiles, if it is to be measured, too

    The pictures are of a run on the digits as anybody would train it; for diffusion that is its network for ink."""
    with tempfile.TemporaryDirectory(prefix="inkling-startup-") as temporary:
        folder = Path(temporary)
        first_step = {}
        for name in ("ours", *([compiler] if compiler else [])):
            cache = folder / ("training" if name == "ours" else name)
            cold = seconds_to_first_step(family, cache, name)
            warm = float(np.median([seconds_to_first_step(family, cache, name) for _ in range(3)]))
            first_step[name] = (cold, warm)
        run = folder / "run"
        _inkling(["train", family, "--steps", "2", "--limit", "256", "--out", str(run)], folder / "training")
        first = seconds_to_picture(run, folder / "sampling")
        again = [seconds_to_picture(run, folder / "sampling") for _ in range(repeats)]
    return {
        "first_step": first_step,
        "compile_seconds": first_step["ours"][0] - first_step["ours"][1],
        "first_picture_cold_seconds": first,
        "first_picture_seconds": float(np.median(again)),
    }
