"""The project's argument, claim by claim, each with experiments on the weights that come along, made just now.

`lecture.md` is the lecture, `lecture.zh-TW.md` the same in Chinese: all sentences, in which figures and pictures of the
experiments (`experiments.py`) stand as format fields, {bits.full}.  From each come a text and a page.  Paragraphs and
rows of tables that name what needs a missing model are left out; {missing.dit} is there only without a `dit`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from tqdm import tqdm

import datasets
from disk import files
from generators import pretrained, registry
from generators.apps.experiments import LABELS, Experiments
from generators.showing.page import Page
from nn.parallel import Threads

HERE = Path(__file__).parent
SECTIONS = {end: (HERE / f"lecture{end}.md").read_text(encoding="utf-8").split("\n## ") for end in ("", ".zh-TW")}
IMAGES = 20_000  # of training: fewer than the default's 60,000 are drawn sooner


class Lecture:
    """Texts and pages of these experiments, in their folder."""

    def __init__(self, experiments: Experiments):
        self.experiments, self.out, self.done = experiments, experiments.out, 1
        missing = {name: "" for name in LABELS if name not in experiments.models}
        self.figures = {"missing": SimpleNamespace(**missing)}

    def hold(self) -> None:
        """Make the experiments, claim by claim, and write all anew after each."""
        for section in SECTIONS[""][1:]:
            title = section.partition("\n")[0]
            for name in tqdm(dict.fromkeys(re.findall(r"{(\w+)\.", section)), title, leave=False, disable=None):
                if name not in self.figures:
                    self.figures[name] = self.experiments.run(name)
            self.done += 1
            for end in SECTIONS:
                files.write(self.out / f"lecture{end}.md", self.text(end, "lecture{}.md").encode())
                self.page(end).write(self.out / f"index{end}.html")
            print(f"  {self.done - 1}. {title}", flush=True)

    def page(self, end: str = "") -> Page:
        """The page in the language whose files end so, as far as it is done."""
        title, lead, text = self.text(end, "index{}.html").split("\n\n", 2)
        page = Page(title.removeprefix("# "), lead, language=end[1:] or "en")
        page.markdown(text, self.out)
        return page

    def text(self, end: str, name: str) -> str:
        """Likewise as Markdown; name: of the files, {} being how they end."""
        begin, *sections = SECTIONS[end][: self.done]
        written = "".join(f"\n## {number}. {section}" for number, section in enumerate(sections, 1))
        (other,) = SECTIONS.keys() - {end}
        figures, blocks = {**self.figures, "other": name.format(other)}, []
        for block in (begin + written).split("\n\n"):
            lines = [filled for line in block.splitlines() if (filled := _filled(line, figures)) is not None]
            if len(lines) > (2 if block.startswith("|") else 0):  # a table is more than its head
                blocks.append("\n".join(lines))
        root = os.path.relpath(HERE.parents[1], self.out).replace(os.sep, "/")
        return "\n\n".join(blocks).replace("](/", f"]({root}/").strip() + "\n"


def _filled(line: str, figures: Mapping) -> str | None:
    """A line with the figures that it names, None if there is one that is not."""
    try:
        return line.format(**figures)
    except (AttributeError, KeyError):
        return None


def begin(out: Path, seed: int, threads: Threads) -> Lecture:
    """The lecture on the weights that come along, not held yet."""
    train_set, test_set = datasets.load("digits", "train", IMAGES), datasets.load("digits", "test", 2000)
    models = {name: registry.load(pretrained.find(name)) for name in pretrained.names() if name in LABELS}
    return Lecture(Experiments(out, models, train_set, test_set, seed, threads))
