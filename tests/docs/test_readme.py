"""The README's commands and snippets, word for word, only with fewer steps and images, and narrower networks."""
import json
import re
import shlex

import pytest
from PIL import Image

import datasets
from bench.__main__ import BENCHES
from generators.cli import main
from generators.registry import FAMILIES
from tests.docs.pages import blocks
from tests.exercises.cli import parser as exercises

LINES = [re.sub(r"\s+#.*", "", line) for block in blocks("README.md", "") for line in block.splitlines()]
INKLING = [line for line in LINES if re.match(r"(\.venv/bin/)?inkling ", line)]
TINY = {name: shlex.join(f"--set={k}={json.dumps(v)}" for k, v in row.tiny.items()) for name, row in FAMILIES.items()}
LESS = [
    (r"--minutes \S+", "--steps 3 --set batch_size=16"),
    (r"train (\w+)", lambda found: f"{found[0]} {TINY[found[1]]}"),
    (r"-n \d+", "-n 2"),
    (r"evaluate", "evaluate -n 60 --no-score --sample-steps 2"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder where all commands of the README have run, after a demo that made its VAE; of 500 digits."""
    home, patch = tmp_path_factory.mktemp("readme"), pytest.MonkeyPatch()
    patch.chdir(home)
    load = datasets.load
    patch.setattr(datasets, "load", lambda name, split="train", limit=None: load(name, split, min(limit or 500, 500)))
    mask = Image.new("L", (28, 28))
    mask.paste(255, (0, 14, 28, 28))
    mask.save("mask.png")
    for line in ["inkling train vae --minutes 1 --out out/demo/runs/vae", *INKLING]:
        for pattern, less in LESS:
            line = re.sub(pattern, less, line)
        assert main(shlex.split(line)[1:]) == 0, line
    yield home
    patch.undo()


def test_commands_write_what_they_say(home):
    """Catches: an option that was renamed, a command that is gone."""
    assert len(INKLING) >= 8
    written = [name for line in INKLING for name in re.findall(r"--out (\S+)", line)]
    assert len(written) >= 6 and all((home / name).exists() for name in written)


def test_python_snippets_run(home, capsys):
    autograd, sample = blocks("README.md", "python")
    exec(autograd, {})
    assert float(capsys.readouterr().out) < 1e-4  # as its comment says
    names = {}
    exec(sample, names)
    assert names["images"].shape == (8, 28, 28, 1) and 0 <= names["images"].min() <= names["images"].max() <= 1


def test_other_commands_exist():
    """Of the benchmarks the name and the options, of the exercises the whole line."""
    bench = [line.split() for line in LINES if line.startswith("python -m bench")]
    assert {words[3] for words in bench} == set(BENCHES)
    listed = [line.split()[3:] for line in LINES if line.startswith("python -m tests.exercises")]
    assert listed and all(exercises().parse_args(words).run for words in listed)
