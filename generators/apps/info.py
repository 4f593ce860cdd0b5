"""`inkling info`: what is in a run's folder, or in a checkpoint file."""
from __future__ import annotations

import json
from pathlib import Path

from generators import runs
from generators.judging.evaluate import summary
from generators.registry import FAMILIES, open_run

FIGURES = "figures.json"  # where `inkling evaluate --json` may leave its figures


def lines(run: str) -> list[str]:
    """One line for each thing that is known.  Raises CheckpointError as `open_run`, RunError for a damaged log."""
    model, meta = open_run(run)
    folder, row = Path(run), FAMILIES[model.name]
    plan = meta["plan"]
    file = folder / "checkpoint.npz" if folder.is_dir() else folder
    seconds = meta.get("seconds")
    facts = {
        "model": f"{row.summary}, {model!r}",
        "can": ", ".join(row.commands) or "judge",
        "words": ", ".join(model.vocabulary.words) or "none, only the empty caption",
        "data": plan.get("data"),
        "limit": plan.get("limit") and f"the first {plan['limit']} images",
        "steps": f"{meta.get('step')} of {plan.get('steps')}, of {model.config.batch_size} images each",
        "time": f"{seconds / 60:.1f} minutes" if isinstance(seconds, int | float) else None,
        "seed": plan.get("seed"),
        "size": f"{file.stat().st_size / 1e6:.1f} MB",
    }
    if folder.is_dir() and (folder / "metrics.jsonl").exists():
        facts |= {name: f"{values[-1]:.4g}" for name, (_, values) in runs.losses(folder).items()}
    if (folder / FIGURES).exists():
        try:
            facts |= {name: f"{value} (real: {real})" if real else value
                      for name, value, real in summary(json.loads((folder / FIGURES).read_text()))}  # fmt: skip
        except (ValueError, LookupError, TypeError, AttributeError):
            facts[FIGURES] = "not what `inkling evaluate --json` writes"
    width = max(map(len, facts))
    return [f"{name:<{width}}  {fact}" for name, fact in facts.items() if fact is not None]
