"""What the commands write, for every family that can, of digits and of folders of pictures: the right images, each
beside its own caption and label, in the right order.

The models have hardly been trained; how well they paint is not the question here.
"""
import functools
import itertools

import numpy as np
import pytest
from PIL import Image

import datasets
from generators import registry
from generators.apps import commands
from generators.cli import main
from generators.families.diffusion.ddpm import DDPM
from generators.showing import pictures
from tests.generators.toys import of_images, sets_of

# Whose way into noise and back ends where it began, to so many levels of 255.
EXACT = [name for name in registry.able("reconstruct") if "guidance" in registry.FAMILIES[name].sampling]
LEVELS = 3
SAID = {"digits": ["bold", "a thin two"], "kinds": ["cat", "red panda"], "flat": [""]}

every_family = pytest.mark.parametrize("family", of_images(registry.able("sample")))
ways_through_noise = pytest.mark.parametrize("family", registry.able("reconstruct"))
every_data = pytest.mark.parametrize("data", SAID)


@pytest.fixture(scope="module")
def inkling(tmp_path_factory):
    """inkling(verb, family, data, *options, out=...): runs the command with a model of that family, on 60 digits or one
    of two folders of pictures, and gives the path of what it wrote."""
    home = tmp_path_factory.mktemp("commands")
    random = np.random.default_rng(0)
    folders = {"kinds": ("cat", "red_panda"), "flat": ("",)}  # pictures in a folder for each class; all in one
    for data, classes in folders.items():
        for name, number in itertools.product(classes, range(60 // len(classes))):
            (home / data / name).mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(random.integers(0, 256, (28, 28), np.uint8))
            picture.save(home / data / name / f"{number:02}.png")

    @functools.cache
    def load(name, split="train", limit=None, real=datasets.load):
        return real(name, split, min(limit or 60, 60))

    @functools.cache
    def run(family, data):
        sets = {"batch_size": 10, "shard_size": 5, "optimiser.rate": 0.05, "optimiser.warmup_steps": 1}
        options = ["--steps", "2", "--threads", "1", *sets_of(sets | registry.FAMILIES[family].tiny)]
        folder, source = home / "runs" / family / data, data if data == "digits" else home / data
        assert main(["train", family, "--data", str(source), "--out", str(folder), *options]) == 0
        return str(folder)

    def inkling(verb, family, data, *options, out="x.npz"):
        path = home / out
        path.unlink(missing_ok=True)
        assert main([verb, run(family, data), "--out", str(path), "--threads", "1", *options]) == 0
        return path

    inkling.model = lambda family, data: registry.load(run(family, data))
    inkling.test_images = lambda data: load(data if data == "digits" else str(home / data), "test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands.datasets, "load", load)
        yield inkling


def arrays(path, count):
    """Images, captions and labels of a file, as many as they should be; none of the images is empty."""
    with np.load(path, allow_pickle=False) as file:
        images, captions, labels = (file[name] for name in ("images", "captions", "labels"))
    assert images.shape == (count, 28, 28) and images.dtype == np.uint8 and labels.dtype == np.int64
    assert len(captions) == len(labels) == count
    assert (images.reshape(count, -1).std(axis=1) > 0.1).all()
    return images, captions.tolist(), labels.tolist()


def differ(images, others):
    return (images != others).any(axis=(1, 2))


@every_data
@every_family
def test_samples_are_of_the_captions_asked_for_in_turn(inkling, family, data):
    """Catches captions that the model is not told, or not in this order, and noise drawn once for all or without the
    seed."""
    told = [f"--caption={caption}" for caption in SAID[data]]
    images, captions, labels = arrays(inkling("sample", family, data, "-n", "4", *told), 4)
    assert captions == (SAID[data] * 4)[:4] and labels == [-1] * 4
    assert differ(images[:2], images[2:]).all() == (family != "regression")  # which has no noise
    another, *_ = arrays(inkling("sample", family, data, "-n", "4", "--seed", "1", *told), 4)
    assert differ(another, images).all() == (family != "regression")
    once, *_ = arrays(inkling("sample", family, data, "-n", "4", told[0]), 4)
    np.testing.assert_array_equal(once[::2], images[::2])
    if len(told) > 1:
        assert differ(once, images)[1::2].all()
    _, captions, labels = arrays(inkling("sample", family, data, "-n", "30"), 30)  # of the data's own
    classes = inkling.test_images(data).classes
    assert len(set(labels)) > len(classes) // 2
    assert all(classes[label] in caption for label, caption in zip(labels, captions, strict=True))


@every_family
def test_more_pictures_begin_with_the_fewer(inkling, family):
    """Catches noise that depends on how many pictures are painted at once, with any option that the family has."""
    values = {"sample-steps": 5, "guidance": 1.5, "eta": 1, "temperature": 0.8}
    known = {name.replace("steps", "sample-steps") for name in registry.FAMILIES[family].sampling}
    options = [f"--{name}={value}" for name, value in values.items() if name in known]
    for told in ([], options, options[:1]):
        few, many = (arrays(inkling("sample", family, "digits", "-n", n, "--caption=seven", *told), int(n))[0]
                     for n in ("3", "12"))  # fmt: skip
        np.testing.assert_allclose(many[:3].astype(int), few, atol=1)  # sums are rounded by the size of a batch


@pytest.mark.parametrize(
    ("verb", "family"),
    [(verb, family) for verb in ("reconstruct", "interpolate", "edit") for family in registry.able(verb)],
)
def test_more_images_begin_with_the_fewer(inkling, verb, family):
    """Catches test images that are others the more are asked for, walks whose ends are, and noise drawn for all ends
    together."""
    told = {"reconstruct": [], "interpolate": ["--frames=3"], "edit": ["--caption=bold"]}[verb]
    frames = 3 if verb == "interpolate" else 1
    few, many = (arrays(inkling(verb, family, "digits", "-n", str(n), *told), n * frames)[0] for n in (2, 5))
    few, many = (images.reshape(frames, -1, 28, 28).astype(int) for images in (few, many))
    np.testing.assert_allclose(many[:, :2], few, atol=1)  # sums are rounded by the size of a batch


@every_data
@ways_through_noise
def test_images_of_the_test_split_are_rebuilt(inkling, family, data):
    """The same ones for every family.  Catches images of the training split or twice the same, captions or labels of
    other images, and images that are written as they were."""
    rebuilt, captions, labels = arrays(inkling("reconstruct", family, data, "-n", "6"), 6)
    again, *_ = arrays(inkling("reconstruct", family, data, "-n", "6", "--seed", "1"), 6)
    assert differ(again, rebuilt).any()
    if family not in EXACT:
        images, *others = arrays(inkling("reconstruct", EXACT[0], data, "-n", "6"), 6)
        assert [captions, labels] == others and differ(rebuilt, images).all()
        rebuilt = images
    test = inkling.test_images(data)
    distances = np.abs(rebuilt[:, None] - test.images[..., 0].astype(int)).max(axis=(2, 3))
    assert distances.min(axis=1).max() <= LEVELS
    places = distances.argmin(axis=1)
    assert len(set(places)) == 6  # of the folders' pictures all that there are
    assert captions == test.captions(places) and labels == test.labels[places].tolist()


@every_data
@ways_through_noise
def test_walks_go_from_one_image_to_the_next(inkling, family, data):
    """Frame by frame, in each all walks.  Catches walks that are written one after the other, and both ends alike."""
    ends, _, labels = arrays(inkling("reconstruct", family, data, "-n", "4"), 4)
    walks, captions, walked = arrays(inkling("interpolate", family, data, "-n", "2", "--frames", "3"), 6)
    assert captions == [""] * 6 and walked == labels[::2] * 3
    first, between, last = walks[:2], walks[2:4], walks[4:]
    assert differ(first, between).all() and differ(between, last).all() and differ(first, last).all()
    if family in EXACT:
        np.testing.assert_allclose(first, ends[::2], atol=LEVELS)
        np.testing.assert_allclose(last, ends[1::2], atol=LEVELS)


@every_data
@ways_through_noise
def test_edits_are_written_beside_the_changed_captions(inkling, family, data):
    """Catches the old captions, changes that are not shared out in turn, the two captions of an image exchanged, and a
    guidance that does not arrive."""
    rebuilt, before, labels = arrays(inkling("reconstruct", family, data, "-n", "4"), 4)
    asked = (SAID[data] * 4)[:4]
    told = [f"--caption={caption}" for caption in SAID[data]]
    strictly = {"guidance": 3.0} if "guidance" in registry.FAMILIES[family].editing else {}
    options = [f"--{name}={value}" for name, value in strictly.items()]
    edited, after, same = arrays(inkling("edit", family, data, "-n", "4", *told, *options), 4)
    assert same == labels
    says = datasets.captions.HANDWRITING.parse if data == "digits" else (lambda caption: {"class": caption})
    for old, change, new in zip(before, asked, after, strict=True):
        assert says(change).items() <= says(new).items()
        assert {name for name in says(old) if says(old)[name] != says(new).get(name)} <= {*says(change), "variant"}
    images = arrays(inkling("reconstruct", "realnvp", data, "-n", "4"), 4)[0][..., None] / np.float32(255)
    by_hand = pictures.to_uint8(inkling.model(family, data).edit(images, before, after, **strictly))[..., 0]
    np.testing.assert_allclose(edited.astype(int), by_hand, atol=1)
    changed = np.array([says(old) != says(new) for old, new in zip(before, after, strict=True)])
    assert np.sum(~differ(edited, rebuilt)[changed]) <= 1  # after two steps a picture may hardly hear a word


def test_edits_from_noise_of_a_strength(inkling, monkeypatch, capsys):
    """Catches a strength, a seed or a changed caption that does not arrive, and a way that was not asked for."""
    asked = []

    def sdedit(model, images, captions, rng, strength, threads=None, **options):
        asked.append((captions, rng.random(), strength, options))
        return images

    monkeypatch.setattr(DDPM, "sdedit", sdedit)
    for seed in ("5", "6"):
        told = ["-n", "3", "--caption=bold", "--strength=0.6", "--seed", seed, "--guidance=2"]
        captions = arrays(inkling("edit", "ddpm", "digits", *told), 3)[1]
        assert asked[-1][0] == captions and all("bold" in caption for caption in captions)
        assert asked[-1][2:] == (0.6, {"guidance": 2.0})
    assert asked[0][1] != asked[1][1]
    for run, more, words in (("vae", [], "nothing to a vae"), ("ddpm", ["--by=both"], "leave out --by")):
        assert main(["edit", run, "--caption=bold", "--strength=0.6", *more, "--out", "x.png"]) == 2
        assert words in capsys.readouterr().err


# --- a part painted anew ---


def mask(path, size=(28, 28), white=(0, 14, 28, 28)):
    """A picture that hides the box `white`, (left, top, right, bottom)."""
    picture = Image.new("L", size)
    picture.paste(255, white)
    picture.save(path)
    return f"--mask={path}"


def test_inpainting_keeps_what_is_black_in_the_mask(inkling, tmp_path, monkeypatch):
    """Catches a mask the other way round or on its side, and captions, a seed or options that do not arrive."""
    hides, asked, real = mask(tmp_path / "x.png"), [], DDPM.inpaint

    def inpaint(model, images, known, captions, rng, threads=None, **options):
        asked.append((captions, options))
        return real(model, images, known, captions, rng, threads, **options)

    monkeypatch.setattr(DDPM, "inpaint", inpaint)
    told = [hides, "-n", "3", "--sample-steps", "4", "--guidance", "1.5"]
    painted = []
    for more in (["--seed=5"], ["--seed=5"], ["--seed=5", "--caption=bold"]):
        path = inkling("inpaint", "ddpm", "digits", *told, *more)
        images, captions, _ = arrays(path, 3)
        originals = np.load(path)["originals"]
        assert asked[-1] == (captions, {"steps": 4, "guidance": 1.5})
        np.testing.assert_array_equal(images[:, :14], originals[:, :14])
        assert differ(images[:, 14:], originals[:, 14:]).all()
        painted.append(images)
    assert captions == ["bold"] * 3 != asked[0][0]
    np.testing.assert_array_equal(painted[0], painted[1])
    assert differ(painted[0], painted[2]).all()
    with Image.open(inkling("inpaint", "ddpm", "digits", *told, out="x.png")) as picture:
        assert picture.height > 3 * 84


@pytest.mark.parametrize(
    ("size", "white", "words"),
    [
        ((28, 20), (0, 0, 28, 9), "must be of the images' size, 28x28 pixels; it has 28x20"),
        ((28, 28), (0, 0, 28, 28), "all white, so nothing of the images is known"),
        ((28, 28), (0, 0, 0, 0), "all black, so there is nothing to paint"),
    ],
)
def test_a_mask_that_leaves_nothing_to_do_is_refused_in_a_sentence(tmp_path, capsys, size, white, words):
    assert main(["inpaint", "ddpm", mask(tmp_path / "x.png", size, white), "--out", str(tmp_path / "y.png")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "y.png").exists()


# --- the film of diffusion ---


def test_the_film_ends_with_what_sample_paints(inkling):
    """Catches another seed, captions or options than those of `inkling sample`."""
    told = ["--caption=bold", "--caption=thin", "-n", "3", "--seed", "5", "--sample-steps", "4", "--guidance", "1.5"]
    film = arrays(inkling("denoise", "ddpm", "digits", *told), 3)
    for filmed, painted in zip(film, arrays(inkling("sample", "ddpm", "digits", *told), 3), strict=True):
        np.testing.assert_array_equal(filmed, painted)


def test_of_the_film_the_arrays_are_its_end(inkling, monkeypatch):
    """Catches its beginning, and captions, a seed or options that do not arrive."""
    films, film = [], DDPM.denoise

    def denoise(model, captions, rng, threads=None, **options):
        films.append((captions, options, film(model, captions, rng, threads=threads, **options)[0]))
        return films[-1][-1], 0 * films[-1][-1]

    monkeypatch.setattr(DDPM, "denoise", denoise)
    told = ["--caption=bold", "--caption=thin", "-n", "3", "--sample-steps", "4", "--guidance", "1.5"]
    ends = []
    for seed in ("5", "5", "6"):
        images, captions, labels = arrays(inkling("denoise", "ddpm", "digits", *told, "--seed", seed), 3)
        asked, options, frames = films[-1]
        assert captions == asked == ["bold", "thin", "bold"] and labels == [-1] * 3
        assert options == {"steps": 4, "guidance": 1.5} and len(frames) == 5
        np.testing.assert_array_equal(images, pictures.to_uint8(frames[-1])[..., 0])
        ends.append(images)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert differ(ends[0], ends[2]).all()


def test_of_the_film_the_upper_half_is_noise(inkling):
    """Catches the noisy images in the place of what the network takes them for, in a true film."""
    with Image.open(inkling("denoise", "ddpm", "digits", "-n", "3", "--sample-steps", "4", out="x.gif")) as film:
        assert film.n_frames == 5
        upper, lower = np.vsplit(np.asarray(film.convert("L"), float), 2)
    assert np.abs(np.diff(upper)).mean() > 2 * np.abs(np.diff(lower)).mean()


@pytest.fixture
def painted_flat(monkeypatch):
    """Each image of the film, and each guess, of a gray of its own: noisy and clean levels, (frames, 2)."""
    frames = 13
    noisy, clean = np.arange(20, 20 + 8 * frames, 2).reshape(2, frames, 2)
    clean[-1] = noisy[-1]  # as the last pair of a film is

    def denoise(model, captions, rng, steps=None, threads=None, guidance=None):
        assert len(captions) == 2 and steps == frames - 1
        return tuple(np.tile(of[..., None, None, None] / 255, (1, 1, 28, 28, 1)) for of in (noisy, clean))

    monkeypatch.setattr(DDPM, "denoise", denoise)
    return noisy, clean


def place(picture, level):
    """(down, right): the middle of what has this level of gray in a picture, an array (H, W)."""
    at = np.argwhere(picture == level)
    assert len(at) >= 28 * 28
    return np.median(at, axis=0)


def test_the_film_shows_noise_above_and_what_is_seen_in_it_below(inkling, painted_flat):
    """All frames in order, image above guess.  Catches halves, images or frames that have changed places."""
    told = ["-n", "2", "--caption=bold", "--sample-steps", "12"]
    with Image.open(inkling("denoise", "ddpm", "digits", *told, out="x.gif")) as film:
        assert film.n_frames == 13
        for number, (noisy, clean) in enumerate(zip(*painted_flat, strict=True)):
            film.seek(number)
            upper, lower = np.vsplit(np.asarray(film.convert("L")), 2)
            (y, left), (same, right) = (place(upper, level) for level in noisy)
            assert y == same and left < right
            (y, below), (same, beside) = (place(lower, level) for level in clean)
            assert y == same and (below, beside) == (left, right)


def test_the_strips_show_ten_moments_from_noise_to_image(inkling, painted_flat):
    """A strip for each image and below it one of what the network sees.  Catches strips in another order, and films
    whose beginning or end is not shown."""
    told = ["-n", "2", "--caption=bold", "--sample-steps", "12"]
    with Image.open(inkling("denoise", "ddpm", "digits", *told, out="x.png")) as picture:
        picture = np.asarray(picture.convert("L"))
    noisy, clean = painted_flat
    shown = [number for number in range(13) if np.count_nonzero(picture == noisy[number, 0]) >= 28 * 28]
    assert len(shown) == 10 and shown[0] == 0 and shown[-1] == 12
    strips = []
    for image in (0, 1):
        for levels in (noisy, clean):
            down, right = np.array([place(picture, levels[number, image]) for number in shown[:-1]]).T
            assert np.ptp(down) <= 1 and (np.diff(right) > 28).all()
            strips.append(down[0])
    assert (np.diff(strips) > 28).all()
