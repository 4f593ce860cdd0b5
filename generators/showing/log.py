"""The log of a run, `metrics.jsonl`: one line a step, with the losses and, now and then, the loss of test images.

Whoever kills a run may leave half a line behind, and whoever edits the file anything, so it is read with care.
"""

import json
from pathlib import Path

import numpy as np

from disk import files
from generators.errors import RunError

NAME = "metrics.jsonl"
LARGEST_METRIC = 1e100  # beyond it a chart has no scale


def losses(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of a run: name -> steps and values, for `charts.line_chart`.  RunError for a line that a run would not write."""
    rows, wrong = _rows(folder / NAME)
    if wrong:
        raise RunError(f"{folder / NAME}: {wrong}; remove the file, or that line and all after it")
    found: dict[str, list[tuple[int, float]]] = {}  # the loss of test images is not computed in each step
    for row in rows:
        for name in row:
            if name.endswith("loss"):
                found.setdefault(name.replace("_", " "), []).append((row["step"], row[name]))
    return {name: tuple(np.array(points).T) for name, points in found.items()}


def cut(folder: Path, step: int) -> None:
    """Drop the lines of steps from `step` on, and all from the first that a kill left half-written."""
    rows, _ = _rows(folder / NAME) if (folder / NAME).exists() else ([], "")
    files.write(folder / NAME, "".join(json.dumps(row) + "\n" for row in rows if row["step"] < step).encode())


def _rows(path: Path) -> tuple[list[dict[str, float]], str]:
    """The lines of a log up to the first that a run would not write, and what is wrong with that one, if any."""
    files.require_plain(path)  # a pipe would never end
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        whole = isinstance(row, dict) and type(row.get("step")) is int and row["step"] >= 0
        if not whole or not all(type(v) in (int, float) and abs(v) < LARGEST_METRIC for v in row.values()):  # so no NaN
            return rows, f"line {number} is {line!r:.60}, not the numbers of one step"
        rows.append(row)
    return rows, ""
