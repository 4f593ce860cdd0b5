"""The weights that come along: each is loaded, paints, and is held to the figures measured when it was packed."""
import json
from argparse import Namespace
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

import datasets
import generators
from bench import world
from bench.pretrained import DIGITS, FIGURES, FILM_STEPS, contest, of_films, pack, page, read, rounded, standard_error
from datasets import digits
from generators import plans, pretrained, registry
from generators.apps import commands, explore, lecture, measuring, play
from generators.apps.experiments import CAPTIONS, OPTIONS, READERS
from generators.judging.classifier import accuracy
from nn import checkpoint
from nn.parallel import Threads, derive_rng
from tests.generators import toys

FEW = {"steps": 10}  # denoising steps: ten paint nearly as well as fifty
DRAWS = 8  # of each of the page's captions
PAINTERS = (*toys.of_images(registry.able("sample", "method", "variation")), "gan-no-noise")
NAMES = [name for name in pretrained.names() if name in PAINTERS]


@pytest.fixture(scope="module")
def judge():
    return generators.load("classifier")


@pytest.fixture(scope="module")
def figures():
    return json.loads(FIGURES.read_text())


@pytest.fixture(scope="module")
def test_set():
    return digits.load("test", limit=500)


def painted(judge, name, captions, **options):
    model = generators.load(name)
    few = FEW if name in registry.able("denoise") else {}
    options |= few | OPTIONS.get(name, {})
    return read(judge, model, captions, derive_rng(1, "held to its figures"), Threads(), **options)


def test_every_file_has_its_figures_and_none_is_large(figures):
    assert sorted(figures) == pretrained.names()
    sizes = {name: pretrained.find(name).stat().st_size for name in pretrained.names()}
    assert sizes == {name: row["bytes"] for name, row in figures.items()}
    assert sum(sizes.values()) <= 25_000_000


def test_the_judge_reads_real_digits_as_it_did(judge, figures, test_set):
    share = accuracy(judge, test_set)["digit"]
    was = figures["classifier"]["reads_digit"]
    assert share > was - 3 * standard_error(was, len(test_set)) - 1e-9


@pytest.mark.parametrize("name", [*NAMES, "regression"])
def test_a_painter_is_as_good_as_its_figure(name, judge, figures):
    """Catches: weights of another network; a sampler, temperature or guidance that went wrong."""
    captions = CAPTIONS * DRAWS
    share, was = painted(judge, name, captions)["digit"], figures[name]["page_digit"]
    assert share > was - 3 * standard_error(was, len(captions)) - 1e-9, f"{share:.3f}; it was {was:.3f}"


def test_the_same_caption_is_painted_in_different_ways(judge):
    """But by a model without noise, for which one caption is one picture."""
    for name in NAMES:
        model, few = generators.load(name), FEW if name in registry.able("denoise") else {}
        images = model.sample(["seven"] * 4, np.random.default_rng(0), **few)
        apart = np.abs(images[0] - images[1:]).mean(axis=(1, 2, 3)).min()
        assert (apart > 0.01) == (name != "gan-no-noise"), f"{name}: {apart}"


@pytest.mark.skipif("world" not in pretrained.names(), reason="no world comes along")
def test_the_world_obeys_as_its_figure_says(figures):
    """Catches: weights of another predictor, codes that are read off otherwise, keys that are found wrongly."""
    model, count = generators.load("world"), 200
    labelled, unseen = (world.Transitions(split, model.config.context, count) for split in ("test", "unseen"))
    model.learn_keys(labelled.contexts, labelled.after, labelled.effect, world.ACTIONS)
    share, was = world.one_step(model, unseen, world.Reader())["obeyed"], figures["world"]["obeyed"]
    assert share > was - 3 * standard_error(was, count) - 1e-9, f"{share:.3f}; it was {was:.3f}"


@pytest.mark.skipif("video" not in pretrained.names(), reason="no films come along")
def test_films_are_as_asked_as_their_figures_say(figures):
    """Catches: weights of another network; captions, frames or levels of noise that do not meet in sampling."""
    found = of_films(generators.load("video"), count := 24, 1, Threads())
    for name in ("digit", "stroke", "direction"):
        share, was = found[name], figures["video"][name]
        assert share > was - 3 * standard_error(was, count) - 1e-9, f"{name}: {share:.3f}; it was {was:.3f}"


@pytest.mark.skipif("ddpm" not in pretrained.names(), reason="no diffusion comes along")
def test_guidance_is_what_makes_diffusion_obey(judge):
    """A guidance of 0 ignores the caption, so a tenth of the digits is right by chance."""
    assert painted(judge, "ddpm", CAPTIONS * 6, guidance=0.0)["digit"] < 0.35


@pytest.mark.parametrize("name", [name for name in READERS if name in pretrained.names()])
def test_an_edit_changes_what_it_should_and_keeps_the_digit(name, judge, test_set):
    language = test_set.language
    thin = [i for i in range(len(test_set)) if test_set.describe(i)["stroke"] == "thin"
            and not language.held_out(test_set.describe(i) | {"stroke": "bold"})][:16]  # fmt: skip
    captions = test_set.captions(thin)
    wanted = [language.change(caption, "bold") for caption in captions]
    images = test_set.images[thin].astype(np.float32) / 255
    edited = generators.load(name).edit(images, captions, wanted)
    values = judge.judge(edited).values
    assert np.mean(values["stroke"] == judge.asked(["bold"])["stroke"]) >= 0.75
    assert np.mean(values["digit"] == test_set.labels[thin]) >= 0.75


@pytest.mark.parametrize("name", [name for name in READERS if name in pretrained.names()])
def test_a_picture_comes_back_from_its_noise(name, test_set):
    """The flow exactly; the others far closer than another picture would be."""
    images, captions = test_set.images[:8].astype(np.float32) / 255, test_set.captions(range(8))
    back = generators.load(name).reconstruct(images, captions)
    if name == "realnvp":
        assert np.array_equal(back, images)
    assert np.mean((back - images) ** 2) < 0.3 * np.mean((np.roll(images, 1, axis=0) - images) ** 2)


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vae").mkdir()
    with pytest.raises(checkpoint.CheckpointError, match="checkpoint.npz"):
        registry.open_run("vae")


def test_where_no_run_is_named_a_folder_of_that_name_does_not_come_first(tmp_path, monkeypatch):
    """Catches a lecture, an explorer, a judge or a game that opens whatever lies around where it is called."""
    monkeypatch.chdir(tmp_path)
    for name in pretrained.names():
        (tmp_path / name).mkdir()
    seen = []
    monkeypatch.setattr(explore, "server", lambda *given: seen.append(given) or SimpleNamespace(run=lambda _: None))
    monkeypatch.setattr(play, "play", lambda *given: seen.append(given))
    explore.explore([], Threads(1), browser=False)
    commands.play(Namespace(run=None, seed=0, record=None, web=False))
    (models, world, _), (played, *_) = seen
    assert set(NAMES) - {"gan-no-noise"} <= set(models) and world is not None and played.name == "world"
    assert lecture.begin(tmp_path / "page", 0, Threads(1)).experiments.models.keys() >= set(NAMES)
    assert measuring._judge(Namespace(judge=None), "digits", (28, 28, 1)).name == "classifier"


@pytest.mark.skipif("gan" not in pretrained.names(), reason="no GAN comes along")
def test_the_critic_tells_true_captions_from_false_ones(tmp_path):
    """Catches: a critic that is shown pictures of another range, and captions that are exchanged."""
    experiments = lecture.begin(tmp_path, 0, Threads()).experiments
    assert experiments.verdict()["right"] > 0.95


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    checkpoint.save(tmp_path / "checkpoint.npz", {"ema/w": np.array([1e6], np.float32)}, {})
    with pytest.raises(checkpoint.CheckpointError, match="half precision"):
        pack(tmp_path, tmp_path / "small.npz")
    assert not (tmp_path / "small.npz").exists()


def test_a_weight_keeps_seven_binary_digits():
    given = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    kept = rounded(given)
    assert kept.dtype == np.float16 and len(np.unique(kept.view(np.uint16) & 0x3FF)) == 64
    np.testing.assert_allclose(kept, given, rtol=2.0**-DIGITS, atol=1e-7)
    assert np.array_equal(rounded(np.float32([0, 1, -1.5, 127])), np.float16([0, 1, -1.5, 127]))


def test_what_comes_along_needs_no_critic_and_has_a_new_one(tmp_path):
    """So that training can go on from there (`train --from`), with a critic that can learn."""
    model = toys.build(registry.family("gan"), toys.toy_data(), **registry.FAMILIES["gan"].tiny)
    weights = {f"ema/{name}": array for name, array in model.state().items()}
    meta = {"family": "gan", "config": asdict(model.config)}
    checkpoint.save(tmp_path / "checkpoint.npz", weights, meta)
    pack(tmp_path, tmp_path / "small.npz")
    assert not any("discriminator" in name for name in checkpoint.load(tmp_path / "small.npz")[0])
    again = generators.load(tmp_path / "small.npz").state()
    assert again.keys() == model.state().keys()
    for name, array in model.state().items():
        critic = name.startswith(registry.CRITIC)
        assert critic or np.array_equal(again[name], rounded(array)), name
    assert np.std(again["discriminator.stem.weight"]) > 0.01
    _, weights = registry.taken_over("gan", tmp_path / "small.npz", model.config)
    assert not any(name.startswith(registry.CRITIC) for name in weights)  # the run's own seed draws them


def test_a_critic_of_which_a_part_is_missing_is_no_new_one(tmp_path):
    model = toys.build(registry.family("gan"), toys.toy_data(), **registry.FAMILIES["gan"].tiny)
    weights = {f"ema/{name}": array for name, array in model.state().items()}
    del weights["ema/discriminator.stem.weight"]
    checkpoint.save(tmp_path / "x.npz", weights, {"family": "gan", "config": asdict(model.config)})
    with pytest.raises(checkpoint.CheckpointError, match="another version"):
        generators.load(tmp_path / "x.npz")


def test_films_are_measured_and_written_down(figures):
    data = datasets.load("moving", "test", 2)
    tiny = {**registry.FAMILIES["video"].tiny, "time_steps": FILM_STEPS}
    config = replace(plans.default_config("video", data), **tiny)
    found = of_films(registry.build("video", config, np.random.default_rng(0)), 2, 0, Threads())
    assert set(found) == {"digit", "stroke", "direction", "all", "lawful"} and all(0 <= x <= 1 for x in found.values())
    text = page(figures | {"video": figures["ddpm"] | found}, 10)
    assert f"direction {found['direction']:.0%}" in text


def test_the_contest_comes_along_as_thirty_means(tmp_path):
    rows = [{"step": step, "real_wins": step / 100} for step in range(60)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = contest(tmp_path)["contest"]
    assert kept["step"] == tuple(range(2, 61, 2)) and kept["real_wins"][:2] == (0.005, 0.025)
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
    assert contest(tmp_path) == {}
