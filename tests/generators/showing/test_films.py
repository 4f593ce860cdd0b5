"""Films as files: what the ending says, frame by frame, from the command line on."""
import io

import numpy as np
import pytest
from PIL import Image

import datasets
from generators import registry
from generators.cli import main
from generators.showing import films
from tests.generators.toys import sets_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films") / "run"
    sets = sets_of(registry.FAMILIES["video"].tiny | {"batch_size": 4, "shard_size": 2})
    assert main(["train", "video", "--limit", "40", "--steps", "2", "--out", str(folder), "--threads", "1", *sets]) == 0
    return folder


def test_a_film_plays_its_frames_in_order():
    """Catches films that play one after another, and frames that are mixed up."""
    real = datasets.load("moving", limit=3).images[:]
    gif = Image.open(io.BytesIO(films.gif(real, ["a", "b", "c"])))
    assert gif.n_frames == 12
    seen = []
    for number in range(12):
        gif.seek(number)
        seen.append(np.asarray(gif.convert("L"))[:100].copy())
    for number in range(12):
        ink = [np.abs(seen[number].astype(float) - seen[other]).mean() for other in range(12)]
        assert int(np.argmin(ink)) == number and seen[number].mean() > 1


def milliseconds(path):
    """How long a film plays: of frames that are alike one is kept, for as long as all of them."""
    film, total = Image.open(path), 0
    for number in range(film.n_frames):
        film.seek(number)
        total += film.info["duration"]
    return total


def test_previews_and_samples_are_films(run, tmp_path):
    previews = sorted((run / "samples").glob("*"))
    assert [path.suffix for path in previews] == [".gif", ".gif"]
    whole = 11 * films.MILLISECONDS + films.HOLD
    assert milliseconds(previews[0]) == whole
    command = ["sample", str(run), "--caption", "a bold seven, moving left", "-n", "3", "--threads", "1", "--out"]
    for name in ("x.gif", "x.png", "x.npz", "x/"):
        assert main([*command, f"{tmp_path}/{name}"]) == 0
    assert milliseconds(tmp_path / "x.gif") == whole
    arrays = np.load(tmp_path / "x.npz", allow_pickle=False)
    assert arrays["images"].shape == (3, 12, 28, 28) and set(arrays["captions"].tolist()) == {command[3]}
    assert Image.open(tmp_path / "x" / "00000.png").size == (12 * 28, 28)


def test_continue_keeps_what_is_given(run, tmp_path):
    """Catches given frames that change on their way into a file."""
    command = ["continue", str(run), "-n", "2", "--threads", "1", "--sample-steps", "3", "--out"]
    assert main([*command, str(tmp_path / "x.npz")]) == 0
    arrays = np.load(tmp_path / "x.npz", allow_pickle=False)
    np.testing.assert_array_equal(arrays["images"][:, :6], arrays["originals"][:, :6])
    assert (arrays["images"][:, 6:] != arrays["originals"][:, 6:]).any(axis=(2, 3)).all()
    for name in ("x.png", "x.gif"):
        assert main([*command, str(tmp_path / name), "--given", "9", "--caption", ""]) == 0


def test_what_cannot_be_done_with_films_is_said_in_a_sentence(run, tmp_path, capsys):
    assert main(["evaluate", str(run)]) == 2
    assert "python -m bench films" in capsys.readouterr().err
    assert main(["continue", str(run), "-n", "1", "--given", "12", "--out", str(tmp_path / "x.gif")]) == 2
    assert "of 12 frames one gap must be left to be painted; given 12" in capsys.readouterr().err
