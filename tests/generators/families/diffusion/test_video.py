"""Diffusion of films: slices that meet, a level of noise for each, going on.  All else is tested with `DDPM`."""
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.captions import Names
from datasets.dataset import Dataset
from generators.families.diffusion import process
from generators.families.diffusion.video import GIVEN, Video, VideoConfig, toward_middle
from generators.family import OptimiserConfig, Shard
from generators.training import Trainer
from nn.tensor import Tensor
from tests.generators.toys import pool

WORDS = ("dark", "bright")
TINY = VideoConfig(vocabulary=WORDS, image_size=8, frames=6, span=2, widths=(8, 16), blocks=1, heads=2, features=8)


def model(**changes):
    """In float64, with random weights everywhere, also where training would start from zero."""
    rng = np.random.default_rng(0)
    made = Video(replace(TINY, **changes), rng).astype(np.float64)
    for parameter in made.parameters():
        parameter.data += 0.2 * rng.standard_normal(parameter.shape)
    return made


def output(made, x, t):
    return made.network(Tensor(x), np.asarray(t), made.text(np.ones((len(x), 1), np.int64))).data


def shard(count=8):
    films = np.random.default_rng(1).random((count, 6, 8, 8, 1), np.float32)
    return Shard(films, np.ones((count, 1), np.int64), None, np.zeros(count, np.int64), np.arange(count), count)


def test_at_first_its_loss_is_the_mean_square_of_the_target_over_noisy_frames():
    """Catches a network that begins by saying something, frames that are given and count, and films that count less
    the more of them is given."""
    made, rng = Video(replace(TINY, prediction="noise"), np.random.default_rng(0)), np.random.default_rng(2)
    loss, _ = made.loss(shard(120), rng)
    rng = np.random.default_rng(2)
    rng.random()
    t = made.draw_levels(40, rng, 3)
    noise = rng.standard_normal((40, 6, 8, 8, 1), dtype=np.float32)
    expected = np.mean([np.mean(film[noisy] ** 2) for film, noisy in zip(noise, t > 0, strict=True)])
    assert (t == 0).any() and loss.item() == pytest.approx(expected, rel=1e-5)

    silent = made.network
    made.network = lambda x, t, *told: silent(x, t, *told) + np.float32(9) * (t == 0)[..., None, None, None]
    assert made.loss(shard(120), np.random.default_rng(2))[0].item() == loss.item()


def test_at_first_a_step_shows_one_slice_of_each_film():
    """Catches clips of whole films, always of the same slice, of which the network is told another, and weights of a
    shard's films that do not sum to the shard's part of the batch."""
    made, shown, films = Video(TINY, np.random.default_rng(0)), [], shard()
    silent = made.network
    made.network = lambda x, t, caption, first: shown.append((x.data, t, first)) or silent(x, t, caption, first)
    when = 0, 0.1, 0.49, 0.5  # at 0.49 the clips are where they are, no longer nearer to the middle
    losses = [made.loss(films, np.random.default_rng(seed), done)[0].item() for seed in range(30) for done in when]
    shown, losses = [(*seen, when[i % 4]) for i, seen in enumerate(shown)], np.reshape(losses, (30, 4))
    for x, t, first, done in (seen for seen in shown if seen[3] < 0.5):
        assert x.shape == (8, 2, 8, 8, 1) and t.shape == (8, 2) and (t > 0).all()
        clean = toward_middle((films.images * 2 - 1)[:, 2 * first : 2 * first + 2], max(0, 1 - done / 0.4))
        nearly = t[:, 0] <= 30
        np.testing.assert_allclose(x[nearly], clean[nearly], atol=0.5)
    assert {first for _, _, first, _ in shown[::4]} == {0, 1, 2}
    assert all(x.shape == (3, 6, 8, 8, 1) and first == 0 for x, _, first, _ in shown[3::4])
    np.testing.assert_allclose(losses[:, :3].mean(axis=0), losses[:, 3].mean(), rtol=0.1)


@given(row=st.integers(-3, 3), column=st.integers(-3, 3), share=st.sampled_from([0, 0.35, 0.7, 1]))
def test_a_clip_is_shifted_toward_the_middle_as_a_whole(row, column, share):
    """Catches rows taken for columns, frames that are shifted one by one, ink that is lost at the border, a shift that
    goes the wrong way, and one of all clips alike."""
    middle = np.full((1, 2, 8, 8, 1), -1.0)
    middle[0, 0, 3:5, 2:4] = middle[0, 1, 3:5, 4:6] = 1  # what moves to the right, and is in the middle on average
    clip = np.roll(middle, (row, column), axis=(2, 3))
    expected = np.roll(clip, (-round(share * row), -round(share * column)), axis=(2, 3))
    found = toward_middle(np.concatenate([clip, middle]), share)
    np.testing.assert_array_equal(found, np.concatenate([expected, middle]))


@pytest.mark.parametrize("across", [True, False])
def test_the_last_slice_hears_of_the_first_pixel_unless_time_is_cut(across):
    """Catches slices that are alone, a baseline without time that peeks, and neighbours that are of another film."""
    made, x = model(across_time=across), np.random.default_rng(3).standard_normal((2, 6, 8, 8, 1))
    touched = x.copy()
    touched[0, 0, 0, 0, 0] += 1
    for t in ([5, 7], [[5, 5, 3, 3, 9, 9], [2, 2, 2, 2, 4, 4]]):
        changed = np.abs(output(made, touched, t) - output(made, x, t)) > 1e-9
        assert not changed[1].any()
        assert changed[0, :2].all() and changed[0, 2:].all() == changed[0, 2:].any() == across


def test_each_frame_has_its_own_level_and_equal_levels_are_one():
    """Catches levels that reach the wrong slice, and one for all that is not the same as all the same."""
    made, x = model(across_time=False), np.random.default_rng(4).standard_normal((2, 6, 8, 8, 1))
    np.testing.assert_allclose(output(made, x, np.full((2, 6), 7)), output(made, x, [7, 7]), atol=1e-12)
    mixed = output(made, x, [[7, 7, 3, 3, 9, 9], [2, 2, 7, 7, 7, 7]])
    for film, frames, t in ((0, slice(2, 4), 3), (0, slice(4, 6), 9), (1, slice(0, 2), 2)):
        np.testing.assert_allclose(mixed[film, frames], output(made, x, [t, t])[film, frames], atol=1e-12)


def test_levels_are_drawn_as_documented():
    made, slices = Video(TINY, np.random.default_rng(0)), 3
    t = made.draw_levels(6000, np.random.default_rng(5), slices)
    assert t.shape == (6000, 6) and (t[:, ::2] == t[:, 1::2]).all() and t.min() == 0 and t.max() <= 1000
    t = t[:, ::2]
    given, noisy = t == 0, [set(row[row > 0]) for row in t]
    assert (given.sum(axis=1) < slices).all()  # something is left to paint
    assert np.mean([len(levels) == 1 for levels in noisy]) == pytest.approx(0.85, abs=0.02)
    # Whole films are among those given in part, too: one in three begins at the first slice and goes on to the end.
    assert given.any(axis=1).mean() == pytest.approx(GIVEN * (1 - 2 / 3 / 3 - 1 / 3 / 3 / 3), abs=0.02)
    onward = given[:, 0] & ~given[:, -1]
    assert onward.sum() > given[:, -1].sum() > 0 and (given[:, 0] & given[:, -1]).any()


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 3.5])
def test_noisier_times_have_that_much_more_noise_over_signal(factor):
    alpha_bar = process.schedule(1000)
    level, t = np.sqrt(1 / alpha_bar - 1), np.arange(1001)
    later = process.noisier(t, factor, alpha_bar)
    inside = (later > 20) & (later < 980)
    np.testing.assert_allclose(level[later][inside], factor * level[t][inside], rtol=0.1)
    assert later[0] == 0 and later.max() == 1000 and (np.diff(later) >= 0).all()
    assert factor != 1 or (later == t).all()


class Oracle:
    """The v of films from N(0, covariance), (N, T, 2, 2, 1), by Bayes' rule, at a level of noise for each frame."""

    def __init__(self, covariance, alpha_bar):
        self.covariance, self.alpha_bar = covariance, alpha_bar

    def __call__(self, x, t, caption, first=0):
        shape, x = x.shape, x.data.reshape(len(x), -1)
        assert (np.asarray(t) == t[:1]).all()
        ab = np.repeat(self.alpha_bar[t[0]], x.shape[1] // np.size(t[0]))
        signal, noise = np.sqrt(ab), np.sqrt(1 - ab)
        seen = signal[:, None] * self.covariance * signal + np.diag(noise**2)
        x0 = np.linalg.solve(seen, x.T).T @ (signal[:, None] * self.covariance)
        return Tensor(((signal * x - x0) / np.maximum(noise, 1e-9)).reshape(shape))


def gaussian():
    """A model whose network knows all of Gaussian films of four frames of 2x2 pixels, and that covariance."""
    small = {"image_size": 2, "widths": (8,), "frames": 4, "span": 1, "guidance": 1.0}
    made, mix = Video(replace(TINY, **small), np.random.default_rng(0)), np.random.default_rng(6)
    mix = mix.standard_normal((16, 16))
    covariance = 0.01 * (mix @ mix.T) / np.trace(mix @ mix.T) * 16
    made.network = Oracle(covariance, made.alpha_bar)
    return made, covariance


def covariance_of(films):
    return np.cov((films * 2 - 1).reshape(len(films), -1).T)


@pytest.mark.parametrize("given", [0, 1, 3, [True, False, False, True], [False, True, False, False]])
def test_gaussian_films_come_out_with_their_covariance_and_go_on_with_it(given):
    """Catches frames that are painted one by one, given frames that the others do not heed, or that are noised."""
    made, covariance = gaussian()
    rng, count = np.random.default_rng(7), 6000
    real = rng.multivariate_normal(np.zeros(16), covariance, count).reshape(count, 4, 2, 2, 1) / 2 + 0.5
    painted = made.continue_(real, [""] * count, rng, given, pool(1), steps=100)
    known = np.arange(4) < given if np.ndim(given) == 0 else np.array(given)
    np.testing.assert_array_equal(painted[:, known], real[:, known])
    assert (painted[:, ~known] != real[:, ~known]).mean() > 0.99
    painted = painted if given else made.sample([""] * count, rng, pool(1), steps=100)
    np.testing.assert_allclose(covariance_of(painted), covariance, atol=0.06 * covariance.max())


def test_what_cannot_be_given_is_refused():
    made, films = Video(TINY, np.random.default_rng(0)), np.zeros((1, 6, 8, 8, 1), np.float32)
    for known in (3, 6, 7, [True] * 4, [True] * 6, [True, False] * 3):
        with pytest.raises(ValueError, match="of 6 frames, whole runs of 2 can be given"):
            made.continue_(films, ["dark"], np.random.default_rng(0), known)
    with pytest.raises(ValueError, match="span must divide the films' 6 frames; given 4"):
        Video(replace(TINY, span=4), np.random.default_rng(0))


def test_it_learns_to_obey():
    """Films that grow brighter, or darker, from frame to frame: each is painted under its own caption."""
    rng, count = np.random.default_rng(0), 200
    labels = np.arange(count) % 2
    ramps = np.where(labels[:, None] == 1, [40, 60, 80, 140, 160, 180], [180, 160, 140, 80, 60, 40])
    films = (ramps[..., None, None, None] + rng.integers(0, 40, (count, 6, 8, 8, 1))).astype(np.uint8)
    data = Dataset("ramps", films, labels, WORDS, Names(WORDS, tuple(sorted(WORDS))))
    optimiser = OptimiserConfig(rate=2e-2, warmup_steps=5)
    config = replace(TINY, vocabulary=data.vocabulary, shard_size=16, optimiser=optimiser, noise_factor=2.0)
    trainer = Trainer(Video(config, np.random.default_rng(0)), data, 0, 200, pool(1))
    for _ in range(200):
        trainer.step()
    with trainer.averaged_weights():
        painted = trainer.family.sample(["dark", "bright"] * 4, np.random.default_rng(0), steps=10)
    tones = painted.mean(axis=(2, 3, 4))
    rise = tones[:, 4:].mean(axis=1) - tones[:, :2].mean(axis=1)  # 0.47 and -0.47 in the data
    assert (rise[1::2] > 0.2).all() and (rise[::2] < -0.2).all()
