"""The command line: what works, and that whatever does not ends in one sentence and status 2."""
import functools
import importlib.metadata
import inspect
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

import datasets
import generators
from bench.pretrained import pack
from generators import cli, pretrained, registry
from generators.apps import commands, demo, lecture
from generators.cli import main
from nn import checkpoint

SMALL = ["--set", "width=8", "--set", "latent=3", "--set", "features=8", "--set", "batch_size=16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A VAE, trained for three steps."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    assert main(["train", "vae", "--limit", "64", "--steps", "3", "--out", str(folder), *SMALL]) == 0
    return str(folder)


def refused(capsys, *arguments, status=2):
    """Run a command that must fail; returns its one sentence."""
    assert main([str(a) for a in arguments]) == status
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("inkling: ")]
    assert len(lines) == 1 and "Traceback" not in captured.err
    return lines[0]


def test_training_says_where_to_go_on(run, capsys):
    assert sorted(p.name for p in Path(run).iterdir() if not p.name.startswith(".")) == [
        "checkpoint.npz", "loss.svg", "metrics.jsonl", "samples",
    ]  # fmt: skip


def test_help_names_the_defaults_in_force(capsys):
    """Catches: a default changed in a family and not in the help."""
    from generators.families.diffusion.ddpm import DDPM, SAMPLING_STEPS, DDPMConfig
    from generators.families.flow.realnvp import RealNVP, RealNVPConfig

    digits = datasets.load("digits", limit=64)
    gray, ink, flow_of_ink = DDPMConfig(), DDPM.suited(DDPMConfig(), digits), RealNVP.suited(RealNVPConfig(), digits)
    flow = RealNVPConfig()
    diffusion = f"ddpm, dit {gray.guidance:g}, or {ink.guidance:g} for ink"
    for command, default in (
        ("sample", f"(default: realnvp, flowgan {flow.guidance:g}; {diffusion.replace('dit', 'dit, video')})"),
        ("sample", f"(default: ddpm, dit, video {SAMPLING_STEPS};"),
        ("sample", f"realnvp, flowgan {flow.temperature:g}, or {flow_of_ink.temperature:g} for ink)"),
        ("denoise", f"(default: {diffusion})"),
        ("edit", f"(default: realnvp, flowgan {RealNVP.reading_guidance:g} to read the image and "
                 f"{flow.edit_guidance:g} to paint it; "
                 f"ddpm, dit {gray.edit_guidance:g}, or {ink.edit_guidance:g} for ink)"),
    ):  # fmt: skip
        with pytest.raises(SystemExit):
            cli.parser().parse_args([command, "--help"])
        assert default in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("ending", ["png", "npz", "gif"])
def test_sample_writes_what_the_ending_says(run, tmp_path, ending):
    out = tmp_path / f"x.{ending}"
    assert main(["sample", run, "--caption", "a bold seven", "--caption", "two", "-n", "5", "--out", str(out)]) == 0
    if ending == "npz":
        arrays = np.load(out, allow_pickle=False)
        assert arrays["images"].shape == (5, 28, 28) and arrays["images"].dtype == np.uint8
        assert arrays["captions"].tolist() == ["a bold seven", "two"] * 2 + ["a bold seven"]
    else:
        assert Image.open(out).format == ending.upper()


def test_without_captions_the_labels_are_those_of_the_data(run, tmp_path):
    """Catches labels and captions drawn apart."""
    assert main(["sample", run, "-n", "40", "--out", str(tmp_path / "x.npz")]) == 0
    arrays = np.load(tmp_path / "x.npz")
    digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert all(digits[label] in caption for label, caption in zip(arrays["labels"], arrays["captions"], strict=True))
    assert len(set(arrays["labels"].tolist())) > 3


def test_seeds_and_threads(run, tmp_path):
    """Another seed, other pictures; another number of threads, the same."""
    def sample(*extra):
        assert main(["sample", run, "--caption", "two", "-n", "20", "--out", str(tmp_path / "x.npz"), *extra]) == 0
        return np.load(tmp_path / "x.npz")["images"]

    first = sample("--threads", "1")
    np.testing.assert_array_equal(sample("--threads", "4"), first)
    assert (sample("--seed", "1") != first).any()
    still = sample("--temperature", "0")  # no noise: the same two again and again
    assert (still == still[0]).all() and (still[0] != first[0]).any()


@pytest.fixture
def drawn_once(monkeypatch):
    """Data sets that are drawn once for a test, however many commands it gives."""
    monkeypatch.setattr(commands.datasets, "load", functools.cache(commands.datasets.load))


@pytest.mark.parametrize("verb", ["reconstruct", "interpolate", "edit"])
@pytest.mark.parametrize("name", ["x.jpg", "x.npz", "x.gif", "pictures/"])
def test_the_ways_through_noise(run, tmp_path, verb, name, capsys, drawn_once):
    """Where images are read, the originals stay beside what is made of them.  Catches them left out, or exchanged."""
    out, arrays = f"{tmp_path}/{name}", f"{tmp_path}/y.npz"
    asked = [verb, run, "-n", "3", *(["--caption", "a bold digit", "--by", "both"] if verb == "edit" else [])]
    assert main([*asked, "-o", out]) == main([*asked, "-o", arrays]) == 0
    assert f"{out}: " in capsys.readouterr().out  # where to look
    written = dict(np.load(arrays))
    assert ("originals" in written) == (verb != "interpolate")
    if verb != "interpolate":
        test = commands.datasets.load("digits", "test", None).images[..., 0]
        assert all((test == original).all(axis=(1, 2)).any() for original in written["originals"])
        assert (written["images"] != written["originals"]).any(axis=(1, 2)).all()
    if name == "pictures/":
        for kind, folder in {"images": out, "originals": out + "originals/"}.items():
            found = [np.asarray(Image.open(file)) for file in sorted(Path(folder).glob("*.png"))]
            assert np.array_equal(found, written.get(kind, []))
    elif name == "x.gif" and verb == "reconstruct":
        with Image.open(out) as film:
            assert film.n_frames == 3 and film.width > 1.5 * film.height


def test_edits_by_caption_and_by_direction(run, tmp_path, drawn_once):
    """Catches one way's images given out as the other's, and an amount that nobody reads."""
    def edit(*options):
        out = tmp_path / "x.npz"
        assert main(["edit", run, "-n", "6", "--caption", "a bold digit", "--out", str(out), *options]) == 0
        return np.load(out)["images"]

    both = edit("--by", "both")
    by_caption, by_direction = both[:6], both[6:]
    np.testing.assert_array_equal(by_caption, edit())
    np.testing.assert_array_equal(by_direction, edit("--by", "direction"))
    far = edit("--by", "direction", "--amount", "40")
    np.testing.assert_array_equal(edit("--by", "direction", "--amount", "1"), by_direction)
    assert (by_direction != by_caption).any() and (far != by_direction).any()


def test_edits_are_shown_with_the_round_trip(run, tmp_path, monkeypatch, drawn_once):
    drawn = []
    real = commands.pictures.rows
    monkeypatch.setattr(commands.pictures, "rows", lambda rows, columns: drawn.append(rows) or real(rows, columns))
    for by in ("caption", "direction", "both"):
        out = str(tmp_path / "x.png")
        assert main(["edit", run, "-n", "3", "--caption", "bold", "--by", by, "--out", out]) == 0
    first, ways = ["image", "round trip"], {"by caption", "by direction"}
    assert [set(rows) - set(first) for rows in drawn] == [{"by caption"}, {"by direction"}, ways]
    assert all([*rows][:2] == first for rows in drawn)


def test_one_sentence_for_an_edit_that_cannot_be(run, capsys, tmp_path, drawn_once):
    def refuse(*options, of=run):
        return refused(capsys, "edit", of, "-n", "2", "--out", tmp_path / "x.png", *options)

    assert "did you mean 'bold'" in refuse("--caption", "bolt", "--by", "direction")
    assert "'slanting right'" in refuse("--caption", "right", "--by", "direction")
    assert "--by direction" in refuse("--caption", "bold", "--amount", "2")
    assert "--amount" in refuse("--caption", "bold", "--amount", "nan", "--by", "direction")
    assert "'both'" in refuse("--caption", "bold", "--by", "noise")
    assert "--guidance" in refuse("--caption", "bold", "--guidance", "2", "--by", "direction")
    assert "guidance" in refuse("--caption", "bold", "--guidance", "2")
    clothes = tmp_path / "clothes"
    for number in range(24):
        folder = clothes / ("coat", "boot")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((28, 28), 10 * number, np.uint8)).save(folder / f"{number}.png")
    plain = str(tmp_path / "plain")
    assert main(["train", "vae", "--data", str(clothes), "--steps", "1", "--out", plain, *SMALL]) == 0
    sentence = refuse("--caption", "coat", "--by", "both", of=plain)
    assert "no attributes" in sentence and "change the caption" in sentence
    assert not (tmp_path / "x.png").exists()
    assert main(["edit", plain, "-n", "2", "--caption", "coat", "--out", str(tmp_path / "x.png")]) == 0


def test_resume(tmp_path, capsys):
    folder = str(tmp_path / "it's $x")
    assert main(["train", "vae", "--limit", "64", "--steps", "2", "--out", folder, *SMALL]) == 0
    (suggested,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Try: inkling "))
    assert cli.parser().parse_args(shlex.split(suggested)[2:]).run == folder  # what one pastes into a shell
    assert main(["train", "--resume", "--out", folder]) == 0
    assert "--steps is the length" in refused(capsys, "train", "--resume", "--out", folder, "--steps", "2")
    assert main(["train", "--resume", "--out", folder, "--steps", "3"]) == 0
    for planned in (("--set", "width=16"), ("--seed", "0"), ("--data", "digits"), ("--limit", "9")):
        assert planned[0] in refused(capsys, "train", "--resume", "--out", folder, *planned)
    assert "holds a vae" in refused(capsys, "train", "gan", "--resume", "--out", folder, "--steps", "9")
    assert checkpoint.load(tmp_path / "it's $x/checkpoint.npz")[1]["plan"]["steps"] == 3  # not 9
    assert "--resume" in refused(capsys, "train", "vae", "--limit", "64", "--out", folder)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "van"], "van"),
        (["train"], "vae"),
        (["train", "vae", "--steps", "0"], "--steps"),
        (["train", "vae", "--steps", "3", "--minutes", "1"], "--minutes"),
        (["train", "vae", "--seed", "-1"], "--seed"),
        (["train", "vae", "--threads", "none"], "--threads"),
        (["train", "vae", "--data", "/nowhere/at/all", "--steps", "1"], "/nowhere/at/all"),
        (["train", "vae", "--data", "moving", "--limit", "200", "--steps", "1"], "images, and moving has films"),
        (["train", "vae", "--limit", "5", "--steps", "1", "--set", "batch_size=6"], "batch_size"),
        (["sample", "x", "--caption=--", "--out", "x.png"], "'--' is no value"),
        (["sample", "x", "-n--", "--out", "x.png"], "'--' is no value"),
        (["train", "vae", "--limit", "200", "--steps", "1", "--set", "width"], "NAME=VALUE"),
        (["train", "vae", "--limit", "200", "--steps", "1", "--set", "colour=3"], "colour"),
        (["train", "vae", "--limit", "200", "--minutes", "0.01", "--set", "optimiser.rate=1e30"], "diverged"),
        (["sample", "x", "--guidance", "nan", "--out", "x.png"], "--guidance"),
        (["sample", "x", "--eta", "2", "--out", "x.png"], "--eta"),
        (["sample", "x", "--steps", "20", "--out", "x.png"], "of sampling it is --sample-steps"),
        (["train", "vae", "--sample-steps=20"], "of training it is --steps"),
        (["interpolate", "x", "--steps", "3", "--out", "x.gif"], "on the way is --frames (see: inkling interpolate"),
        (["info", "x", "--steps", "3"], "unrecognized arguments: --steps 3 (see: inkling info --help)"),
        (["train", "--resume"], "--out"),
        (["train", "--resume", "--out", "/nowhere"], "/nowhere"),
        (["train", "--resume", "--out", "."], "no run to resume"),
        (["sample", "/nowhere", "--out", "x.png"], "/nowhere"),
        (["paint"], "paint"),
    ],
)
def test_one_sentence_for_what_cannot_be(capsys, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    assert named in refused(capsys, *arguments)
    assert not list(tmp_path.rglob("*.npz"))


def test_one_sentence_for_what_a_run_cannot(run, capsys, tmp_path):
    out = str(tmp_path / "x.png")
    for caption, named in (
        ("sevn", "'sevn'"), ("bold thin", "two things about the stroke"), ("zero with a bar", "a zero is never"),
        ("seven with", "not complete"), ("--", "has no word"), ("\x1b[31m", r"\x1b"),
    ):  # fmt: skip
        for command in ("sample", "edit"):  # also a caption beyond -n
            asked = ["--caption", "a digit", f"--caption={caption} "]
            assert named in refused(capsys, command, run, *asked, "-n", "1", "--out", out)
    assert ".npz" in refused(capsys, "sample", run, "--caption", "two", "--out", str(tmp_path / "x.bmp"))
    assert "--eta" in refused(capsys, "sample", run, "--caption", "two", "--eta", "0.7", "--out", out)
    sentence = refused(capsys, "denoise", run, "--caption", "two", "--out", out)
    assert "vae" in sentence and "ddpm, dit can" in sentence
    assert "--caption" in refused(capsys, "edit", run, "--out", out)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in refused(capsys, "train", "vae", "--limit", "200", "--steps", "1", "--out", tmp_path / "file/x")


def test_a_checkpoint_that_is_not_one(capsys, tmp_path):
    (tmp_path / "checkpoint.npz").write_bytes(b"PK\x03\x04 not really")
    assert "checkpoint.npz" in refused(capsys, "sample", tmp_path, "--out", tmp_path / "x.png")


@pytest.mark.parametrize("command", ["", "train", "sample", "reconstruct", "interpolate", "edit", "denoise", "info"])
def test_help_teaches(capsys, command):
    """Every command's help has an example that starts with its own name."""
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"] if command else ["--help"])
    assert stop.value.code == 0
    assert f"inkling {command}" in capsys.readouterr().out


@pytest.mark.parametrize("way", [["-m", "generators", "info", "x"], ["-c", "import generators; generators.load('x')"]])
@pytest.mark.parametrize("name", ["datasets", "disk", "nn"])
@pytest.mark.parametrize(("case", "words"), [("ahead", "hides"), ("merged", "overwrite each"), ("lost", "of its own")])
def test_another_package_of_our_name(tmp_path, way, case, words, name):
    """From the command line and from Python.  Catches a check that comes only after the import which it is there to
    forestall, and one that takes for ours a folder into which two projects were installed."""
    for ours in {"nn", "disk", "datasets", "generators"} - (set() if case == "merged" else {name}):
        (tmp_path / ours).symlink_to(Path(cli.__file__).parents[1] / ours)
    if case == "merged":
        (tmp_path / f"{name}-4.0.0.dist-info").mkdir()
        (tmp_path / f"{name}-4.0.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 4.0.0\n")
    else:
        other = tmp_path / ("theirs" if case == "ahead" else ".") / name
        other.mkdir(parents=True)
        code = "raise ImportError('not to be imported')"
        (other / ("__init__.py" if case == "ahead" else "left.py")).write_text(code)
    path = os.pathsep.join([str(tmp_path / "theirs"), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, *way], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )  # fmt: skip
    sentence = done.stderr.splitlines()[-1]
    assert words in sentence and f"package {name!r}" in sentence and str(tmp_path) in sentence
    assert "not to be imported" not in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) if way[0] == "-m" else "ImportError" in sentence


def test_another_package_is_told_of_in_this_process_too(monkeypatch, tmp_path):
    """The sentences themselves.  Catches: another place, or another package, than the one that is in the way."""
    assert generators.foreign() is None
    root = str(Path(cli.__file__).parents[1])
    with monkeypatch.context() as patch:
        patch.setattr(generators.glob, "glob", lambda pattern: [pattern] if pattern.endswith("nn[-.]*info") else [])
        assert generators.foreign().startswith(f"another project's package 'nn' is installed in {root}, too")
    for origin, begins in [
        (str(tmp_path / "disk/__init__.py"), f"the package 'disk' in {tmp_path} hides Inkling's own in {root}"),
        (None, f"Inkling's package 'disk' is gone from {root}"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(generators.importlib.util, "find_spec", lambda name, o=origin: SimpleNamespace(origin=o))
            assert generators.foreign().startswith(begins)


def test_version(capsys):
    """Catches: a version that is not the one that is installed."""
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"inkling {importlib.metadata.version('inkling')}\n"


def test_every_command_exists():
    """Catches a command that parses and then has nothing to call."""
    for action in cli.parser()._subparsers._group_actions:
        for name in action.choices:
            assert callable(cli.function_of(name))


VERBS = {verb for row in registry.FAMILIES.values() for verb in row.can}


@pytest.mark.parametrize("name", registry.FAMILIES)
def test_the_table_says_what_a_family_can(name):
    """Catches a row that promises what the class lacks, an ability that no row tells of, and options likewise."""
    row, kind = registry.FAMILIES[name], registry.family(name)
    assert kind.name == name and {verb for verb in VERBS if hasattr(kind, verb)} == set(row.can)
    replace(kind.Config(), **row.tiny)
    assert "weigh" not in row.can or "reconstruct" in row.can  # the page does both at once
    if "sample" in row.can:
        options = inspect.signature(kind.sample).parameters.keys() - {"self", "captions", "rng", "threads"}
        assert options == row.sampling.keys()
    if "edit" in row.can:
        assert ("guidance" in inspect.signature(kind.edit_options).parameters) == ("guidance" in row.editing)
        assert float(row.editing["amount"]) == kind.direction_amount
        assert hasattr(kind, "sdedit") == ("strength" in row.editing)


def test_the_commands_of_a_family_are_commands():
    """Catches a method without a command of its name, offered as one, and a family whose command refuses it."""
    known = {name for action in cli.parser()._subparsers._group_actions for name in action.choices}
    assert all(set(row.commands) <= known for row in registry.FAMILIES.values())
    assert set(registry.able("interpolate")) == {*registry.able("reconstruct"), *registry.able("wander")}


def test_other_names_of_a_family(tmp_path, capsys):
    """Catches a folder, or a checkpoint, under a name that is not the family's own."""
    assert registry.resolve("flow") == "realnvp" and registry.resolve("diffusion") == registry.resolve("ddpm") == "ddpm"
    tiny = [f"--set={name}={json.dumps(value)}" for name, value in registry.FAMILIES["realnvp"].tiny.items()]
    arguments = ["--limit", "64", "--steps", "1", "--out", str(tmp_path / "x"), "--set=batch_size=8"]
    assert main(["train", "flow", *arguments, *tiny]) == 0
    assert generators.load(tmp_path / "x").name == "realnvp"
    assert main(["train", "flow", "--resume", "--out", str(tmp_path / "x")]) == 0
    assert "did you mean 'diffusion'" in refused(capsys, "train", "difusion")


def test_the_lecture_is_held_where_it_was_asked_for(tmp_path, monkeypatch, capsys):
    begun = Mock()
    monkeypatch.setattr(lecture, "begin", begun)
    assert main(["lecture", "--out", str(tmp_path / "x"), "--seed", "3", "--threads", "1"]) == 0
    out, seed, threads = begun.call_args.args
    assert (out, seed, threads.count) == (tmp_path / "x", 3, 1) and begun.return_value.hold.call_count == 1
    assert str(tmp_path / "x" / "index.html") in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "told"), [(40, "40 seconds"), (150, "2.5 minutes")])
def test_the_demo_tells_how_long_it_took(monkeypatch, seconds, told):
    monkeypatch.setattr(demo.time, "monotonic", lambda: 1000.0 + seconds)
    assert demo._time_since(1000.0) == told


def test_the_demo_from_end_to_end(tmp_path, monkeypatch):
    """A step a model, twice: the second time it trains nothing, and what was trained paints the same."""
    entries = []
    for entry in demo.ENTRIES:
        small = {name: json.dumps(value) for name, value in registry.FAMILIES[entry.family].tiny.items()}
        kept = {"noise": entry.settings["noise"]} if "noise" in entry.settings else {}
        entries.append(replace(entry, settings={**small, **kept, "batch_size": "16"}))
    monkeypatch.setattr(demo, "ENTRIES", entries)
    monkeypatch.setattr(lecture, "IMAGES", 600)
    monkeypatch.setattr(demo.plans, "seconds_per_step", lambda *a: 60.0)
    along = tmp_path / "along"
    along.mkdir()
    monkeypatch.setattr(pretrained, "FOLDER", along)
    assert main(["train", "vae", "--limit", "64", "--steps", "3", "--out", str(tmp_path / "vae"), *SMALL]) == 0
    pack(tmp_path / "vae", along / "vae.npz")

    page = tmp_path / "demo" / "index.html"
    command = ["demo", "--out", str(page.parent), "--minutes", "2"]
    assert main([*command[:-1], "0"]) == 0  # only the page
    assert page.read_text().count("<section") == 12 and not (page.parent / "runs").exists()
    assert main(command) == 0
    first = page.read_text()
    assert first.count("<section") == 13 and "just now" in first
    assert first.count("<svg") == page.read_text().count("The loss of") == len(entries)
    monkeypatch.setattr(demo.plans, "plan_run", None)
    painted = (page.parent / "trained-here.png").read_bytes()
    assert main(command) == 0
    assert (page.parent / "trained-here.png").read_bytes() == painted
