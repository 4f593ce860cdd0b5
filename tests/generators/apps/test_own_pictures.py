"""A folder of one's own pictures, in colour and of another size than 28x28, from `train` to `edit`, by every family."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from generators import registry
from generators.cli import main
from generators.runs import Run
from tests.generators.toys import pool, sets_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven pictures of each of two classes, one called by an emoji, one by bytes that are no UTF-8."""
    home = tmp_path_factory.mktemp("own") / os.fsdecode(b"na\xefve")
    random = np.random.default_rng(0)
    for name in ("\U0001f408", os.fsdecode(b"caf\xe9")):
        (home / name).mkdir(parents=True)
        for place in range(11):
            pixels = random.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(home / name / f"{place:02}.png")
    return home


@pytest.mark.parametrize("family", [name for name, row in registry.FAMILIES.items() if row.data == "digits"])
def test_every_family_learns_and_paints_them(folder, tmp_path, family, capsys):
    """Catches a size or a channel taken for granted, test images read in another way than the run read its own, a small
    set that is refused for its batch, a run that forgets how to read, and a name that cannot be printed."""
    sets = sets_of(registry.FAMILIES[family].tiny)
    run, out = tmp_path / "run", tmp_path / "x.npz"
    read = ["--size", "16", "--color", "--mirror", "--paper", "white"]
    assert main(["train", family, "--data", str(folder), "--out", str(run), "--steps", "2", *read, *sets]) == 0
    told = capsys.readouterr()
    assert "20 pictures for training and 2 for testing, as 16x16 colour" in told.err and "by class: " in told.err
    assert "steps of 20 images" in told.out  # 40 with the mirror images, fewer than a batch of 128
    if family == "classifier":
        return
    assert ("\\udce9" in told.out) and "\udce9" not in told.out
    model = registry.load(run)
    assert model.image_shape == (16, 16, 3)
    for verb in ("sample", "reconstruct", "edit"):
        if registry.can(model, verb):
            caption = ["--caption", "\U0001f408"] if verb != "reconstruct" else []
            assert main([verb, str(run), "-n", "2", *caption, "--out", str(out)]) == 0
            assert np.load(out)["images"].shape == (2, 16, 16, 3)
            assert main([verb, str(run), "-n", "2", *caption, "--out", str(tmp_path / f"{verb}.png")]) == 0
    assert main(["sample", str(run), "-n", "4", "--out", str(out)]) == 0  # under the captions of its own test images
    resumed = Run.resume(run, pool())
    assert resumed.plan.pictures == {"size": 16, "color": True, "mirror": True, "paper": "white"}
    assert len(resumed.dataset) == 40


def test_a_run_is_sampled_without_its_data(folder, tmp_path, monkeypatch):
    """Catches a relative folder that is looked for in another place, and captions that a checkpoint does not keep."""
    shutil.copytree(folder, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    sets = sets_of(registry.FAMILIES["vae"].tiny)
    assert main(["train", "vae", "--data", "data", "--out", "run", "--steps", "1", *sets]) == 0
    assert main(["sample", "run", "-n", "4", "--out", "with.npz"]) == 0
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    assert main(["sample", str(tmp_path / "run"), "-n", "4", "--out", "without.npz"]) == 0
    first, second = np.load(tmp_path / "with.npz"), np.load("without.npz")
    assert all((first[name] == second[name]).all() for name in ("images", "captions", "labels"))
    assert set(first["labels"].tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "30"], "multiple of 4 from 8 to 256; given 30"),
        (["--color", "--data", "digits"], "color can be chosen for a folder of pictures, not for digits"),
        (["--paper", "grey"], "--paper"),
        (["--set", "batch_size=100"], "fewer than a batch of 100"),
        (["--paper=--"], "'--' is no value"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(folder, tmp_path, options, words, capsys):
    assert main(["train", "vae", "--data", str(folder), "--out", str(tmp_path / "run"), *options]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
