"""Does an edit do what was asked, and nothing else?  `python -m bench edits`.

    python -m bench edits --minutes 10 --out out/quality-digits      # the runs that `bench quality` has trained

Test digits, each to be changed in one thing, drawn at random: the variant (to another one of its digit), the stroke,
the slant or the size.  Every family that can edit does so by the changed caption, and the VAE and the flow also by a
direction in their noise (`generators/families/editing.py`), measured on training images.  A judge reads the results.

    changed     share of images that have what was asked for; also for each attribute, and of those that were to become
                what no image in training is (`new`)
    kept        share in which the digit is still the same; `rest`: in which nothing else has changed
    distance    root mean square difference over all pixels (white is 1), to the image that the same hand would have
                drawn, had it been asked for the change: the built-in digits are drawn by a program, which can be asked

A painter that ignores the image and paints something new under the changed caption would have the first three, and
not the last.  So each family's own new pictures stand beside its edits, and so do the images as they are, which score
what the judge misreads, and those of the same hand, which are the perfect edit.
"""
import argparse
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

import datasets
from bench.kept import trained
from bench.models import add_families
from datasets import digits
from datasets.captions import HANDWRITING as language
from datasets.dataset import Dataset
from datasets.glyphs import DIGITS, VARIANTS_OF
from disk import files
from generators import plans
from generators.families.editing import Directions
from generators.family import Family
from generators.judging.classifier import Classifier
from generators.registry import FAMILIES, able
from generators.showing import pictures
from generators.showing.page import Page
from nn.parallel import Threads, derive_rng

NAMES = tuple(name for name in language.attributes if name != "digit")
COLUMNS = ("changed", *NAMES, "new", "kept", "rest", "distance")


@dataclass(frozen=True)
class Task:
    """Images of the built-in digits, and what each is to be changed into."""

    images: np.ndarray  # float32 (N, H, W, C) in [0, 1]
    captions: list[str]  # the fullest
    wanted: list[str]  # the same with one attribute changed
    names: np.ndarray  # which attribute, str (N,)
    before: np.ndarray  # int64 (N, 5), codes of the attributes in the order of the language
    after: np.ndarray  # the same, changed
    redrawn: np.ndarray  # images (N, H, W, C) as the same hand would have drawn them, changed

    @cached_property
    def new_to_all(self) -> np.ndarray:
        """Which images are to become what no image in training is: the combinations that are held out, bool (N,)."""
        return np.array([language.held_out(language.parse(caption)) for caption in self.wanted])


def draw_task(test: Dataset, count: int, seed: int) -> Task:
    """`count` different images of the digits' split "test", or of its beginning, each with a change drawn at random."""
    rng = derive_rng(seed, "edits")
    chosen = rng.choice(len(test), count, replace=False)
    before = np.stack([codes[chosen] for codes in test.attributes.values()], axis=1)
    after = before.copy()
    columns = rng.integers(1, before.shape[1], count)
    for row, column in zip(after, columns, strict=True):
        row[column] = rng.choice([code for code in choices(row[0], column) if code != row[column]])
    return Task(
        images=test.images[chosen] * np.float32(1 / 255),
        captions=[language.full(row) for row in before.tolist()],
        wanted=[language.full(row) for row in after.tolist()],
        names=np.array(list(language.attributes))[columns],
        before=before,
        after=after,
        redrawn=digits.draw_images(digits.picture_keys(0, "test", chosen), after) * np.float32(1 / 255),
    )


def choices(digit: int, column: int) -> list[int]:
    """The codes that the attribute in this column can have in a picture of this digit."""
    name, values = list(language.attributes.items())[column]
    if name == "variant":
        values = VARIANTS_OF[DIGITS[digit]]
    return [language.attributes[name].index(value) for value in values]


def measure(task: Task, edited: np.ndarray, judge: Classifier, threads: Threads) -> dict:
    """What the judge reads in edited images (N, H, W, C) in [0, 1], rounded to bytes, as shares: see above.

    Each attribute's name: share changed of those that were asked to change in it.  `new`: share changed of those that
    were to become what no image in training is.  None where there were none.
    """
    edited = pictures.to_uint8(edited)
    values = judge.judge(edited, threads).values
    read = np.stack([values[name] for name in language.attributes], axis=1)
    asked = task.before != task.after
    changed = (read == task.after)[asked]  # one in each row
    difference = edited * np.float32(1 / 255) - task.redrawn
    return {
        "changed": float(changed.mean()),
        **{name: _share(changed[task.names == name]) for name in NAMES},
        "new": _share(changed[task.new_to_all]),
        "kept": float((read[:, 0] == task.before[:, 0]).mean()),
        "rest": float(((read == task.before) | asked).all(axis=1).mean()),
        "distance": float(np.sqrt(np.mean(difference**2))),
    }


def _share(hits: np.ndarray) -> float | None:
    return float(hits.mean()) if len(hits) else None


def ways(model: Family, task: Task, directions: Directions | None, seed: int, threads: Threads) -> dict:
    """What the family makes of the task, each way: images (N, H, W, C) of all tasks at once."""
    painted = {"by caption": model.edit(task.images, task.captions, task.wanted, threads)}
    if directions:
        painted["by direction"] = directions.edit(task.images, task.captions, task.wanted)
    # Under the same captions, from noise that no image was asked for.
    return painted | {"painted anew": model.sample(task.wanted, derive_rng(seed, "painted anew"), threads)}


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if not 1 <= options.n <= digits.SPLITS["test"]:
        parser.error(f"there are {digits.SPLITS['test']:,} test digits, so -n cannot be {options.n:,}")
    threads, out = Threads(options.threads), Path(options.out)
    json_path = options.json or out / "edits.json"
    training, test = datasets.load("digits", "train"), datasets.load("digits", "test", max(options.n, 1000))
    task = draw_task(test, options.n, options.seed)

    def keep(name: str, minutes: float, seed: int) -> Family:
        config = plans.default_config(name, training)
        return trained(out, config, name, training, "digits", minutes, seed, threads)[0]

    judge = keep("classifier", options.judge_minutes, 0)
    assert isinstance(judge, Classifier)
    score = partial(measure, task, judge=judge, threads=threads)
    results = {
        "data": "digits", "minutes": options.minutes, "edits": options.n, "seed": options.seed,
        "judge": judge.weights_hash(),
        "real": {"as they are": score(task.images), "same hand": score(task.redrawn)}, "families": {},
    }  # fmt: skip
    shown = {"image": task.images, "same hand": task.redrawn}
    for name in options.families:
        model = keep(name, options.minutes, options.seed)
        # Where noise is read in steps, that is 50 passes through the network for each of thousands of images.
        directions = None if "steps" in FAMILIES[name].sampling else Directions(model, training, threads)
        painted = ways(model, task, directions, options.seed, threads)
        results["families"][name] = {way: score(images) for way, images in painted.items()}
        shown |= {f"{name} {way}": images for way, images in painted.items()}
        files.write_json(json_path, results)
    print(as_text(rows := table(results)))
    build_page(results, rows, task, shown).write(out / "edits.html")
    print(f"\nJudge {results['judge']}. Pictures and figures: {out / 'edits.html'}, {json_path}")
    return 0


def table(results: dict) -> list[list[str]]:
    """The head and the lines of the table: real images, then each family's ways."""
    lines = [(way, figures) for way, figures in results["real"].items()]
    for name, by in results["families"].items():
        lines += [(f"{name} {way}", figures) for way, figures in by.items()]
    return [["", *COLUMNS]] + [[title, *(_cell(column, figures[column]) for column in COLUMNS)]
                               for title, figures in lines]  # fmt: skip


def _cell(column: str, value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:.3f}" if column == "distance" else f"{value:.1%}"


def as_text(rows: list[list[str]]) -> str:
    """The table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def build_page(results: dict, rows: list[list[str]], task: Task, shown: dict[str, np.ndarray], count: int = 10) -> Page:
    """The figures, and the first `count` images with what became of them."""
    page = Page(
        "Edits, measured",
        f"{results['edits']:,} digits, each asked to change in one thing and to stay as it is in all others; every "
        f"model trained for {results['minutes']:g} minutes; read by one classifier, weights {results['judge']}.",
    )
    page.section(
        "Pictures",
        "Each column is one digit, under the caption that it is to have. The second row is what the same hand would "
        "have drawn.",
    )
    page.picture(pictures.rows({title: images[:count] for title, images in shown.items()}, task.wanted[:count]))
    page.section(
        "Figures",
        "`changed`: what was asked for can be read, over all images, for each attribute, and where it makes a `new` "
        "combination, which no image in training is. `kept`: the digit is still "
        "the same. `rest`: nothing else has changed. `distance`: how far from what the same hand would have drawn, the "
        "root mean square over all pixels (white is 1). Painting anew under the changed caption may read as well; it "
        "is not the same digit, and its distance says so.",
    )
    page.table(rows[0], rows[1:])
    return page


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench edits", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of training for each family (default: 10)")
    parser.add_argument("--judge-minutes", type=float, default=4.0, help="of training for the judge (default: 4)")
    add_families(parser, able("edit", "method"), able("edit"))
    parser.add_argument("--seed", type=int, default=0, help="of the training and of the edits (default: 0)")
    parser.add_argument("-n", type=int, default=200, help="edits (default: 200)")
    parser.add_argument(
        "--out", default="out/quality-digits",
        help="folder of the runs and the page (default: out/quality-digits, which `bench quality` fills)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="default: edits.json in that folder")
    parser.add_argument("--threads", type=int)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
