"""What the learner has started and passed, in a text file that they may read and edit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

HEADER = "# The exercises you have started: id, state, hints seen, fingerprint of the code that passed, date.\n"


@dataclass
class Entry:
    state: str = "started"  # or passed
    hints: int = 0
    code: str = "-"
    date: str = "-"
    failing: str = "-"  # the test that failed last, for --replay


@dataclass
class Progress:
    path: Path
    entries: dict[str, Entry] = field(default_factory=dict)
    current: str | None = None

    @classmethod
    def read(cls, path: Path) -> Progress:
        """The file's contents; lines that cannot be read are passed over, so an edited file never locks anybody out."""
        progress = cls(path)
        if not path.exists():
            return progress
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            line, _, failing = line.partition(" failing=")
            words = line.split("#")[0].split()
            if words[:1] == ["current"] and len(words) == 2:
                progress.current = words[1]
            elif len(words) >= 2 and words[1] in ("started", "passed"):
                fields = dict(word.split("=", 1) for word in words[2:] if "=" in word)
                hints = fields.get("hints", "0")
                progress.entries[words[0]] = Entry(
                    words[1],
                    int(hints) if hints.isdigit() else 0,
                    fields.get("code", "-"),
                    fields.get("date", "-"),
                    failing or "-",
                )
        return progress

    def save(self) -> None:
        lines = [HEADER, f"current {self.current}\n" if self.current else ""]
        for id, entry in self.entries.items():
            fields = f"hints={entry.hints} code={entry.code} date={entry.date} failing={entry.failing}"
            lines.append(f"{id:28} {entry.state:8} {fields}\n")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text("".join(lines), encoding="utf-8")
        temporary.replace(self.path)

    def state(self, id: str) -> str:
        """new, started or passed."""
        return self.entries[id].state if id in self.entries else "new"

    def begin(self, id: str) -> None:
        hints = self.entries[id].hints if id in self.entries else 0
        self.entries[id] = Entry(hints=hints)

    def forget(self, id: str) -> None:
        self.entries.pop(id, None)

    def record(self, id: str, passed: bool, code: str, failing: str = "-") -> None:
        """Note a verdict; what has passed once stays passed, with the code that passed."""
        entry = self.entries[id]
        entry.failing = failing
        if passed:
            entry.state, entry.code, entry.date = "passed", code, time.strftime("%Y-%m-%d")
