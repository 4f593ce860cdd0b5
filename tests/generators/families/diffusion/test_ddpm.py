"""The family: loss, captions and guidance, and what can be done with a model.

Caught here: captions dropped for the whole batch at once; w = 1 that is not quite conditional; a time or caption that
the network never sees; weights forgotten; samples that depend on the number of threads.
"""
import itertools
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import datasets
from bench import models
from generators import plans
from generators.families.diffusion import process
from generators.families.diffusion.ddpm import DDPM, MAX_GUESS, DDPMConfig, Fresh, weight_at
from generators.family import OptimiserConfig, Shard
from nn.optim import AdamW
from nn.parallel import FlatParameters, Threads
from nn.tensor import Tensor
from tests.nn.test_parallel import accumulate

WORDS = ("dark", "bright")
TINY = DDPMConfig(
    vocabulary=WORDS, image_size=8, shard_size=4, widths=(8, 16), blocks=1, heads=2, features=16, time_steps=50
)


def model(seed=0, dtype=np.float32, **changes):
    """A tiny model with random weights everywhere, also where training would start from zero."""
    rng = np.random.default_rng(seed)
    made = DDPM(DDPMConfig(**{**vars(TINY), **changes}), rng).astype(dtype)
    for parameter in made.parameters():
        if not parameter.data.any():
            parameter.data += (0.1 * rng.standard_normal(parameter.shape)).astype(dtype)
    return made


def shard(count=4, seed=0, batch_size=None, dtype=np.float32):
    """Images that are dark or bright all over, and say so."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = (0.1 + 0.7 * labels[:, None, None, None] + 0.1 * rng.random((count, 8, 8, 1))).astype(dtype)
    return Shard(images, labels[:, None] + 1, None, labels, np.arange(count), batch_size or count)


def spy(made, outputs=None):
    """Replace the network by one that notes what it is given, and says `outputs` (zeros)."""
    calls = []

    def network(x, t, caption):
        calls.append((x.data, t, caption.data))
        return Tensor(np.zeros_like(x.data) if outputs is None else outputs)

    made.network = network
    return calls


def test_the_default_network_has_about_a_million_parameters():
    count = DDPM(DDPMConfig(vocabulary=WORDS), np.random.default_rng(0)).parameter_count()
    assert 0.9e6 < count < 1.25e6


def test_time_and_caption_and_image_all_reach_the_output():
    made = model()
    x, t, tokens = np.zeros((2, 8, 8, 1), np.float32), np.array([5, 5]), np.array([[1], [1]])

    def output(x=x, t=t, tokens=tokens):
        return made.network(Tensor(x), t, made.text(tokens)).data

    base = output()
    assert base.shape == (2, 8, 8, 1)
    np.testing.assert_allclose(base[0], base[1], atol=1e-5)  # rows of one product may differ in their last bit
    for changed in (
        output(x=x + np.float32([0, 0.1]).reshape(2, 1, 1, 1)),
        output(t=np.array([5, 6])),
        output(tokens=np.array([[1], [2]])),
    ):
        np.testing.assert_allclose(changed[0], base[0], atol=1e-5)
        assert np.abs(changed[1] - base[1]).max() > 1e-4


@pytest.mark.parametrize("schedule", ["cosine", "straight"])
@pytest.mark.parametrize("prediction", ["noise", "v", "velocity", "image"])
def test_the_loss_is_the_squared_error_over_the_whole_batch(prediction, schedule):
    made = model(prediction=prediction, schedule=schedule, dtype=np.float64)
    np.testing.assert_array_equal(made.alpha_bar, process.schedule(50, schedule))
    calls, part = spy(made), shard(batch_size=12, dtype=np.float64)
    loss, _ = made.loss(part, np.random.default_rng(1))
    (x_t, t, _), = calls
    signal = np.sqrt(made.alpha_bar[t]).reshape(-1, 1, 1, 1)
    noise = np.sqrt(1 - made.alpha_bar[t]).reshape(-1, 1, 1, 1)
    x0 = part.images * 2 - 1
    eps = (x_t - signal * x0) / noise
    assert abs(eps.mean()) < 0.3 and 0.7 < eps.std() < 1.3
    target = {"noise": eps, "v": signal * eps - noise * x0, "velocity": eps - x0, "image": x0}[prediction]
    errors = (target**2).mean(axis=(1, 2, 3))  # the spy says zero
    assert loss.item() == pytest.approx(errors.sum() / 12)


@pytest.mark.parametrize(("training_times", "in_the_middle"), [("even", 0.3), ("middle", 0.7)])
def test_training_asks_for_every_time_from_the_first_to_the_last(training_times, in_the_middle):
    """And for nothing outside.  Catches times at which a sampler asks a network that never saw them."""
    made = model(training_times=training_times)
    calls = spy(made)
    for seed in range(1500):
        made.loss(shard(seed=seed), np.random.default_rng(seed))
    drawn = np.concatenate([t for _, t, _ in calls])
    assert set(drawn) == set(range(1, 51))
    assert np.mean((drawn > 25) & (drawn <= 40)) == pytest.approx(in_the_middle, abs=0.1)


def test_captions_are_dropped_image_by_image():
    made = model(caption_dropout=0.5)
    calls = spy(made)
    part = shard(64)
    empty = made.text(np.zeros((1, 1), np.int64)).data[0]
    shares = []
    for seed in range(20):
        made.loss(part, np.random.default_rng(seed))
        shares.append(np.mean([np.allclose(row, empty, atol=1e-5) for row in calls[-1][2]]))
    assert all(0.2 < share < 0.8 for share in shares)
    assert abs(np.mean(shares) - 0.5) < 4 * 0.5 / np.sqrt(64 * 20)  # four standard errors


def test_on_the_ways_into_noise_and_back_no_guess_is_cut():
    """Catches a cut on one of the two ways: the other no longer undoes it."""
    made, cut = model(), []
    denoiser = made.denoiser
    made.denoiser = lambda tokens, guidance, clip=True: cut.append(clip) or denoiser(tokens, guidance, clip)
    images, tokens = np.random.default_rng(0).random((2, 8, 8, 1), np.float32), np.array([[1], [2]])
    made.to_images(made.to_noise(images, tokens, 3), tokens, 3)
    assert cut == [False, False]


def test_guidance_zero_is_unconditional_and_one_conditional_exactly():
    made = model()
    x, t = np.random.default_rng(0).standard_normal((3, 8, 8, 1), np.float32), 20
    tokens = np.array([[1], [2], [1]])
    made_of = {
        name: process.clean_image(
            made.network(Tensor(x), np.full(3, t), made.text(given)).data, x, t, made.alpha_bar, "v"
        )
        for name, given in (("caption", tokens), ("nothing", np.zeros_like(tokens)))
    }
    np.testing.assert_array_equal(made.denoiser(tokens, 0, clip=False)(x, t), made_of["nothing"])
    np.testing.assert_array_equal(made.denoiser(tokens, 1, clip=False)(x, t), made_of["caption"])
    weight = weight_at(3, made.alpha_bar[t], made.config.guided_levels)
    assert 1.5 < weight <= 3
    beyond = made_of["nothing"] + weight * (made_of["caption"] - made_of["nothing"])
    np.testing.assert_allclose(made.denoiser(tokens, 3, clip=False)(x, t), beyond, atol=1e-5)
    np.testing.assert_allclose(made.denoiser(tokens, 3)(x, t), np.clip(beyond, -MAX_GUESS, MAX_GUESS), atol=1e-5)
    assert np.abs(beyond).max() > MAX_GUESS >= 1.5  # there was something to cut, and guidance may go beyond white


def test_what_suits_the_images_is_asked_for_and_unless_told_otherwise_used():
    """Catches the wrong network for ink, and a sampler that does not ask the config how strictly to obey."""
    blank = SimpleNamespace(images=np.full((4, 8, 8, 1), 255, np.uint8))
    gray = SimpleNamespace(images=np.full((4, 8, 8, 1), 128, np.uint8))
    assert DDPM.suited(TINY, gray) == TINY
    suited = DDPM.suited(TINY, blank)
    assert suited.squeezed and suited.training_times == "middle"
    assert suited.guided_levels[1] > TINY.guided_levels[1]
    assert suited.guidance > TINY.guidance and suited.edit_guidance > TINY.edit_guidance
    digits = datasets.load("digits", limit=200)  # more than a batch: a smaller set would choose its own
    assert plans.default_config("ddpm", digits) == DDPM.suited(plans.plain_config("ddpm", digits), digits)
    of_ink = DDPM(plans.default_config("ddpm", digits), np.random.default_rng(0))
    assert 0.8e6 < of_ink.parameter_count() < 1e6 and not models.make_model("ddpm", digits, {}).config.squeezed
    made, asked = model(guidance=3.5), []
    made.denoiser = lambda tokens, guidance, **options: asked.append(guidance) or (lambda x, t: x)
    made.sample(["dark"], np.random.default_rng(0), Threads(1), steps=2)
    made.denoise(["dark"], np.random.default_rng(0), threads=Threads(1), steps=2)
    made.denoise(["dark"], np.random.default_rng(0), threads=Threads(1), steps=2, guidance=0.0)
    assert asked == [None, None, 0.0]
    made, tokens = model(guidance=3.5), np.array([[1]])
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(made.denoiser(tokens, None)(x, 20), made.denoiser(tokens, 3.5)(x, 20))
    assert (made.denoiser(tokens, None)(x, 20) != made.denoiser(tokens, 0.0)(x, 20)).any()


def test_guidance_works_in_the_middle_alone_and_fades():
    """Catches a range on the wrong side, one of times instead of noise levels, and a switch, which second-order steps
    would overshoot."""
    levels, between = np.geomspace(0.01, 100, 401), (0.2, 20.0)  # noise over signal
    weights = np.array([weight_at(3.0, 1 / (1 + level**2), between) for level in levels])
    inside = (levels > between[0]) & (levels < between[1])
    assert (weights[~inside] == 1).all() and (weights[inside] > 1).all()
    assert weights.max() == pytest.approx(3, abs=0.01) and np.abs(np.diff(weights)).max() < 0.05
    assert weights[np.argmin(np.abs(levels - 2))] == pytest.approx(3, abs=0.01)
    for guidance in (-1.0, 0.0, 0.3, 1.0):  # a caption obeyed less than was learned: everywhere alike
        assert {weight_at(guidance, 1 / (1 + level**2), between) for level in levels} == {guidance}


@pytest.mark.parametrize("options", [{}, {"eta": 1.0}, {"eta": 0.3, "guidance": 2.0}, {"steps": 50, "guidance": 0}])
def test_samples_are_images_and_do_not_depend_on_the_threads(options):
    made, captions = model(), ["dark", "bright", "", "dark bright", "dark", "bright"]
    results = []
    for count in (1, 2):
        threads = Threads(count)
        options = {"steps": 4} | options
        results.append(made.sample(captions, np.random.default_rng(0), threads, **options))
        threads.close()
    assert results[0].shape == (6, 8, 8, 1) and results[0].dtype == np.float32
    assert results[0].min() >= 0 and results[0].max() <= 1
    np.testing.assert_array_equal(*results)
    assert np.abs(results[0][0] - results[0][4]).max() > 1e-3  # the same caption twice, two images


def test_eta_chooses_the_sampler():
    """Catches an eta that nobody reads, and second-order steps where noise is added."""
    made, tokens = model(), np.array([[1], [2], [1], [2]])
    samplers = {
        0.0: (process.ddim_step, True), 0.3: (partial(process.ddim_step, eta=0.3), False),
        1.0: (process.posterior, False),
    }  # fmt: skip
    painted = []
    for eta, (step, second_order) in samplers.items():
        painted.append(made.sample(["dark", "bright"] * 2, np.random.default_rng(0), Threads(1), steps=6, eta=eta))
        rng = np.random.default_rng(0)
        start = made.noise(4, rng)
        fresh = Fresh(rng.spawn(4))
        x = process.sample(
            made.denoiser(tokens, None), start, made.times(6), made.alpha_bar, step, fresh, second_order=second_order
        )
        np.testing.assert_allclose(painted[-1], np.clip(x * 0.5 + 0.5, 0, 1), rtol=0, atol=1e-6)
    for one, other in itertools.combinations(painted, 2):
        assert np.abs(one - other).max() > 1e-2
    np.testing.assert_array_equal(painted[0], made.sample(["dark", "bright"] * 2, np.random.default_rng(0), steps=6))


def test_a_model_of_few_times_can_sample_by_default():
    """Catches a default number of steps that such a model refuses; one that is asked for stays as it is."""
    made = DDPM(replace(TINY, time_steps=20), np.random.default_rng(0))
    assert made.times(None) == list(range(20, -1, -1)) and len(made.times(7)) == 8
    assert made.sample(["dark"], np.random.default_rng(0)).shape == (1, 8, 8, 1)
    with pytest.raises(ValueError, match="from 1 to 20; given 50"):
        made.sample(["dark"], np.random.default_rng(0), steps=50)


def test_the_film_ends_with_the_samples_of_the_same_seed():
    made, captions = model(), ["dark"] * 5
    noisy, clean = made.denoise(captions, np.random.default_rng(3), steps=6)
    assert noisy.shape == clean.shape == (7, 5, 8, 8, 1)
    np.testing.assert_array_equal(noisy[-1], made.sample(captions, np.random.default_rng(3), steps=6))
    np.testing.assert_array_equal(noisy[-1], clean[-1])
    assert noisy.min() >= 0 and clean.max() <= 1


UPPER = np.arange(8)[:, None] < np.full(8, 4)  # (8, 8), the upper half


def test_what_is_known_of_an_image_stays_and_the_rest_is_painted_without_a_look_at_it():
    """Catches known pixels that come back changed in their last bit, the image shining through where it is unknown,
    captions, seeds or options that do not arrive, and pictures that depend on how many there are."""
    made, part = model(), shard(6, seed=3)
    captions, hidden = ["dark", "bright"] * 3, np.where(UPPER[:, :, None], part.images, np.nan)
    told = dict(captions=captions, steps=3, guidance=1.5)

    def paint(images=hidden, known=UPPER, seed=0, threads=None, **other):
        return made.inpaint(images, known, rng=np.random.default_rng(seed), threads=threads, **told | other)

    painted = paint(part.images)
    assert painted.dtype == np.float32 and 0 <= painted.min() and painted.max() <= 1
    np.testing.assert_array_equal(painted[:, :4], part.images[:, :4])
    assert (np.abs(painted - part.images)[:, 4:].max(axis=(1, 2, 3)) > 0.01).all()
    np.testing.assert_array_equal(painted, paint(hidden))
    np.testing.assert_array_equal(painted, paint(threads=Threads(2)))
    np.testing.assert_allclose(painted[:2], paint(hidden[:2], captions=captions[:2]), atol=1e-5)
    for other in ({"seed": 1}, {"captions": ["dark"] * 6}, {"steps": 4}, {"guidance": 0.0}, {"known": UPPER.T}):
        images = part.images if "known" in other else hidden
        assert np.abs(paint(images, **other) - painted).max() > 1e-3


@pytest.mark.parametrize(
    ("known", "given"),
    [
        (UPPER.astype(int), r"given int64 \(8, 8\), true for 32$"), (UPPER[:, :7], r"bool \(8, 7\), true for 28$"),
        (UPPER[:, :, None], r"\(8, 8, 1\)"), (UPPER | True, "true for 64$"), (UPPER & False, "true for 0$"),
    ],
)  # fmt: skip
def test_a_mask_under_which_nothing_can_be_painted_is_refused_in_a_sentence(known, given):
    with pytest.raises(ValueError, match=r"bool \(8, 8\), true for some pixels and not for all; .*" + given):
        model().inpaint(shard(2).images, known, ["dark"] * 2, np.random.default_rng(0))


@pytest.mark.parametrize("strength", [0.3, 0.7])
def test_what_sdedit_keeps_of_an_image_is_what_its_noise_leaves(strength):
    """Pixels are Gaussian about gray and guesses exact, so what comes out is Gaussian, of known mean and deviation.

    Catches noise that is not added or not scaled, images faded or not brought to [-1, 1], and a walk from another time.
    """
    made, deviation = model(), 0.3
    images = np.full((200, 8, 8, 1), 0.54, np.float32)

    def denoiser(tokens, guidance):
        asked.append(guidance)
        return lambda x, t: x * np.float32(
            math.sqrt(made.alpha_bar[t]) * deviation**2 / (made.alpha_bar[t] * deviation**2 + 1 - made.alpha_bar[t])
        )

    asked, made.denoiser = [], denoiser
    edited = made.sdedit(images, ["dark"] * 200, np.random.default_rng(0), strength, Threads(1), steps=50) * 2 - 1
    ab = made.alpha_bar[round(50 * strength)]
    left = deviation / math.sqrt(ab * deviation**2 + 1 - ab)  # of x_t, at the end of its way
    assert edited.mean() == pytest.approx(math.sqrt(ab) * left * 0.08, abs=0.005)
    assert edited.std() == pytest.approx(math.sqrt(1 - ab) * left, rel=0.05)
    assert set(asked) == {made.config.edit_guidance}


@pytest.mark.parametrize("strength", [0, 1.1, math.nan])
def test_an_impossible_strength_is_refused_in_a_sentence(strength):
    with pytest.raises(ValueError, match=f"above 0, which changes nothing, and at most 1; given {strength}"):
        model().sdedit(shard(2).images, ["dark"] * 2, np.random.default_rng(0), strength)


@pytest.fixture(scope="module")
def trained():
    """A tiny model after 150 steps on dark and bright images."""
    made = DDPM(TINY, np.random.default_rng(0))
    flat, threads = FlatParameters(made.parameters()), Threads(1)
    optimiser, losses = AdamW(flat.values), []
    for step in range(150):
        parts = [shard(8, seed=2 * step + i, batch_size=16) for i in range(2)]
        loss, _ = accumulate(
            flat, lambda i, step=step, parts=parts: made.loss(parts[i], np.random.default_rng(2 * step + i)), 2, threads
        )
        optimiser.step(flat.gradient, 4e-3)
        losses.append(loss)
    return made, losses


def test_training_learns_what_the_captions_mean(trained):
    made, losses = trained
    assert np.mean(losses[-20:]) < 0.4 * np.mean(losses[:20])
    images = made.sample(["dark"] * 8 + ["bright"] * 8, np.random.default_rng(0), steps=10)
    bright = images.mean(axis=(1, 2, 3)) > 0.5
    assert bright[:8].sum() <= 1 and bright[8:].sum() >= 7  # so small a model may be wrong once in eight


def test_images_survive_the_way_into_noise_and_back(trained):
    """Catches the gray of the caption painted instead (31 decibels), and a step back that is not iterated (44)."""
    made, part = trained[0], shard(6, seed=99)
    captions = [WORDS[label] for label in part.labels]
    again = made.reconstruct(part.images, captions)
    assert -10 * np.log10(np.mean((again - part.images) ** 2)) > 52


def test_interpolation_ends_at_its_images_and_edits_follow_the_caption(trained):
    made = trained[0]
    first, second = shard(3, seed=1).images, shard(3, seed=2).images
    path = made.interpolate(first, second, [""] * 3, steps=4)
    assert path.shape == (4, 3, 8, 8, 1)
    np.testing.assert_allclose(path[0], first, rtol=0, atol=0.007)
    np.testing.assert_allclose(path[-1], second, rtol=0, atol=0.007)
    part = shard(8, seed=5)
    dark = part.images[part.labels == 0]
    np.testing.assert_array_equal(made.edit(dark, ["dark"] * len(dark), ["dark"] * len(dark)), dark)
    asked = ["dark"] * len(dark), ["bright"] * len(dark)
    edited = made.edit(dark, *asked)
    assert (edited.mean(axis=(1, 2, 3)) > dark.mean(axis=(1, 2, 3)) + 0.3).all()
    noise = made.encode(dark, asked[0])
    for guidance in (1.0, 2.0):  # of painting alone; the noise is read without
        by_hand = made.decode(noise, asked[1], guidance=guidance)
        np.testing.assert_array_equal(made.edit(dark, *asked, guidance=guidance), by_hand)
    np.testing.assert_array_equal(edited, made.decode(noise, asked[1], guidance=made.config.edit_guidance))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_size": 9}, "with 2 widths the image size must be a multiple of 2; given 9"),
        ({"image_size": 10, "squeezed": True}, "of a squeezed image the image size must be a multiple of 4; given 10"),
        ({"prediction": "x"}, "prediction is one of"),
        ({"schedule": "linear"}, "schedule is one of 'cosine', 'straight'"),
        ({"training_times": "late"}, "training_times is one of"),
        ({"guided_levels": (10.0, 0.1)}, "a lower and a higher level"),
        ({"guided_levels": (10.0, 10.000000000000002)}, "a lower and a higher level"),
        ({"guided_levels": (0.0, 10.0)}, "guided_levels must be at least"),
        ({"guided_levels": (0.1, 1.0, 10.0)}, "guided_levels must have 2 numbers"),
    ],
)
def test_an_impossible_config_is_refused_in_one_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        model(**changes)


def test_the_optimiser_of_the_phase_is_that_of_the_config():
    optimiser = OptimiserConfig(rate=7e-4)
    (phase,) = model(optimiser=optimiser).phases(0)
    assert phase.optimiser is optimiser and len(phase.parameters) == len(model().parameters())
