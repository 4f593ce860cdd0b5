"""Diffusion of films: parted and joined, a level of noise for each frame, going on.  All else is tested with `DDPM`."""
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.captions import Names
from datasets.dataset import Dataset
from generators.families.diffusion import process
from generators.families.diffusion.video import APART, GIVEN, Video, VideoConfig, join, parted, shifted
from generators.family import OptimiserConfig, Shard
from generators.training import Trainer
from nn.tensor import Tensor
from tests.generators.toys import pool

WORDS = ("dark", "bright")
TINY = VideoConfig(
    vocabulary=WORDS, image_size=8, frames=6, widths=(8, 16), blocks=1, width=8, depth=1, heads=2, features=8
)


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


def films_of(rng, shape):
    """Random films, with ink that has a centre."""
    return np.where(rng.random(shape) < 0.2, rng.random(shape), 0) * 2 - 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([4, 7, 8]), st.integers(1, 2))
def test_a_film_is_parted_and_joined_again_bit_for_bit(seed, frames, size, channels):
    """Catches: ink that is lost at the border, a shift the wrong way, rows for columns, ways that do not add up."""
    films = films_of(np.random.default_rng(seed), (3, frames, size, size, channels))
    parts = parted(films)
    assert parts.shape == (3, frames, size + 2, size, channels)
    np.testing.assert_array_equal(join(parts), films)


def test_what_moves_by_whole_pixels_is_shown_at_rest_and_its_ways_are_points():
    """Catches: a centre that flickers between two pixels, one that does not know that the border is a seam, ways that
    are places, and frames that are shifted by the first frame's way."""
    drawn = np.full((1, 1, 28, 28, 1), -1.0)
    drawn[0, 0, 3:9, 4:6, 0], drawn[0, 0, 5:7, 4:12, 0] = 1, 0.5  # its centre in rows lies between two pixels, exactly
    ways = np.array([[2, -3], [1, 1], [0, 2], [-1, 0], [9, 7], [-2, 2]])
    film = shifted(np.repeat(drawn, 6, axis=1), np.cumsum(ways, axis=0)[None])
    np.testing.assert_array_equal(film[0, 1], np.roll(drawn[0, 0], (3, -2), axis=(0, 1)))
    parts = parted(film)
    assert (parts[0, :, :28] == parts[0, 0, :28]).all()
    rows = parts[0, :, 28:, :, 0]
    assert (np.sort(rows, axis=-1) == [-1] * 27 + [1]).all()
    np.testing.assert_array_equal(rows[1:].argmax(axis=-1) - 14, ways[1:])
    ink = parts[0, 0, :28, :, 0] + 1
    assert abs((ink.sum(axis=1) @ np.arange(28)) / ink.sum() - 14) <= 0.501
    assert abs((ink.sum(axis=0) @ np.arange(28)) / ink.sum() - 14) <= 0.501


def test_at_first_its_loss_is_the_mean_square_of_the_target_over_noisy_frames():
    """Catches a network that begins by saying something, frames that are given and count, films that count less the
    more of them is given, and pictures or ways that are left out."""
    made, films = Video(replace(TINY, prediction="noise"), np.random.default_rng(0)), shard(120)
    rng = np.random.default_rng(2)
    loss, _ = made.loss(films, rng)
    rng, expected = np.random.default_rng(2), 0
    rng.random(120)
    t = made.draw_levels(120, rng)
    eps = rng.standard_normal((120, 6, 10, 8, 1), dtype=np.float32)
    for noise in (eps[:, :, :8], eps[:, :, 8:]):
        expected += np.mean([np.mean(film[noisy] ** 2) for film, noisy in zip(noise, t > 0, strict=True)])
    assert (t == 0).any() and loss.item() == pytest.approx(expected, rel=1e-5)

    silent = made.network
    made.network = lambda x, t, *told: silent(x, t, *told) + np.float32(9) * (t == 0)[..., None, None, None]
    made.network.frames = 6
    assert made.loss(films, np.random.default_rng(2))[0].item() == loss.item()


def test_frame_by_frame_a_step_makes_as_many_passes_of_the_network_and_weighs_them_alike():
    """Catches: a baseline that costs as much as all frames do apart, and a loss that shrinks with its share."""
    made, seen = Video(replace(TINY, across_time=False), np.random.default_rng(0)), []
    paint = made.network.paint
    made.network.paint = lambda x, *told: seen.append(x.shape) or paint(x, *told)
    losses = [made.loss(shard(24), np.random.default_rng(seed))[0].item() for seed in range(20)]
    whole = Video(TINY, np.random.default_rng(0))
    expected = [whole.loss(shard(24), np.random.default_rng(seed))[0].item() for seed in range(20)]
    assert set(seen) == {(4, 6, 8, 8, 1)}
    np.testing.assert_allclose(np.mean(losses), np.mean(expected), rtol=0.05)


@pytest.mark.parametrize("across", [True, False])
def test_the_last_frame_hears_of_the_first_pixel_unless_time_is_cut(across):
    """Catches frames that are alone, a baseline without time that peeks, what is shown that hears of ways, ways that do
    not hear of what is shown, and films that hear of one another."""
    made, x = model(across_time=across), np.random.default_rng(3).standard_normal((2, 6, 10, 8, 1))
    for row, hear, deaf in ((0, slice(None), slice(0)), (-1, slice(-2, None), slice(None, -2))):
        touched = x.copy()
        touched[0, 0, row, 0, 0] += 1
        for t in ([5, 7], [[5, 5, 3, 3, 9, 9], [2, 2, 2, 2, 4, 4]]):
            changed = np.abs(output(made, touched, t) - output(made, x, t)) > 1e-9
            assert not changed[1].any() and not changed[0, :, deaf].any()
            seen = changed[0, :, hear]
            assert seen[0].all() and seen[1:].all() == seen[1:].any() == across


def test_each_frame_has_its_own_level_and_equal_levels_are_one():
    """Catches levels that reach the wrong frame, and one for all that is not the same as all the same."""
    made, x = model(across_time=False), np.random.default_rng(4).standard_normal((2, 6, 10, 8, 1))
    np.testing.assert_allclose(output(made, x, np.full((2, 6), 7)), output(made, x, [7, 7]), atol=1e-12)
    mixed = output(made, x, [[7, 7, 3, 3, 9, 9], [2, 2, 7, 7, 7, 7]])
    for film, frames, t in ((0, slice(2, 4), 3), (0, slice(4, 6), 9), (1, slice(0, 2), 2)):
        np.testing.assert_allclose(mixed[film, frames], output(made, x, [t, t])[film, frames], atol=1e-12)


def test_a_frame_s_level_is_heard_by_all():
    """Catches: levels that the U-Net is not shown, or only the highest of them; ways whose levels are one."""
    made, x = model(), np.random.default_rng(4).standard_normal((1, 6, 10, 8, 1))
    levels = np.array([[2, 9, 9, 9, 9, 9]])
    changed = np.abs(output(made, x, levels) - output(made, x, np.full((1, 6), 9))) > 1e-9
    assert changed.all()


def test_levels_are_drawn_as_documented():
    made, frames = Video(TINY, np.random.default_rng(0)), 6
    t = made.draw_levels(6000, np.random.default_rng(5))
    assert t.shape == (6000, frames) and t.min() == 0 and t.max() <= 1000
    given, noisy = t == 0, [set(row[row > 0]) for row in t]
    assert (given.sum(axis=1) < frames).all()  # something is left to paint
    assert np.mean([len(levels) == 1 for levels in noisy]) == pytest.approx(1 - APART, abs=0.02)
    # Whole films are among those given in part, too: one in six begins at the first frame and goes on to the end.
    assert given.any(axis=1).mean() == pytest.approx(GIVEN * (1 - 1 / 6 * (2 / 3 + 1 / 3 / 6)), abs=0.02)
    onward = given[:, 0] & ~given[:, -1]
    assert onward.sum() > given[:, -1].sum() > 0 and (given[:, 0] & given[:, -1]).any()

    even = Video(replace(TINY, noise_factor=1.0), np.random.default_rng(0)).draw_levels(6000, np.random.default_rng(5))
    own = np.array([row for row in even if row.min() > 0 and len(set(row)) > 1])  # frames apart, as far as any times
    assert own.std(axis=1).mean() == pytest.approx(own.std(), rel=0.15)

    level = np.sqrt(1 / made.alpha_bar - 1)  # between the noise and four times the noise: on average twice
    one, many = (np.log(level[drawn[drawn > 0]]).mean() for drawn in (
        Video(replace(TINY, noise_factor=factor), np.random.default_rng(0)).draw_levels(6000, np.random.default_rng(5))
        for factor in (1, 4)
    ))  # fmt: skip
    assert many - one == pytest.approx(np.log(2), abs=0.1)


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
    """The v of films from N(mean, covariance), 4x4 pixels, that stay where they are, by Bayes' rule, at a level of
    noise for each frame."""

    def __init__(self, mean, covariance, alpha_bar):
        self.mean, self.covariance, self.alpha_bar = mean, covariance, alpha_bar

    def __call__(self, x, t, caption):
        n, frames, x = *x.shape[:2], x.data
        assert (np.asarray(t) == t[:1]).all()
        ab = np.broadcast_to(self.alpha_bar[t[0]], frames)
        signal, noise = (np.repeat(level, 16) for level in (np.sqrt(ab), np.sqrt(1 - ab)))
        seen = signal[:, None] * self.covariance * signal + np.diag(noise**2)
        off = x[:, :, :4].reshape(n, -1) - signal * self.mean
        clean = self.mean + np.linalg.solve(seen, off.T).T @ (signal[:, None] * self.covariance)
        rows = np.broadcast_to(np.where(np.arange(4) == 2, 1.0, -1.0)[:, None], (n, frames, 2, 4, 1))
        x0 = np.concatenate([clean.reshape(n, frames, 4, 4, 1), rows], axis=2)
        signal, noise = (level[:, None, None, None] for level in (np.sqrt(ab), np.sqrt(1 - ab)))
        return Tensor((signal * x - x0) / np.maximum(noise, 1e-9))


def gaussian():
    """A model whose network knows all of Gaussian films of four frames of 4x4 pixels, their mean and covariance."""
    small = {"image_size": 4, "widths": (8,), "frames": 4, "guidance": 1.0, "prediction": "v"}
    made, mix = Video(replace(TINY, **small), np.random.default_rng(0)), np.random.default_rng(6)
    mix = mix.standard_normal((64, 64))
    covariance = 0.001 * (mix @ mix.T) / np.trace(mix @ mix.T) * 64
    mean = np.full((4, 4, 4), -0.6)
    mean[:, 2, 2] = 0.3  # ink, which so is in the middle
    made.network = Oracle(mean.ravel(), covariance, made.alpha_bar)
    return made, mean.ravel(), covariance


def covariance_of(films):
    return np.cov((films * 2 - 1).reshape(len(films), -1).T)


@pytest.mark.parametrize("given", [0, 1, 3, [True, False, False, True], [False, False, True, True]])
def test_gaussian_films_come_out_with_their_covariance_and_go_on_with_it(given):
    """Catches frames that are painted one by one, given frames that the others do not heed, or that are noised."""
    made, mean, covariance = gaussian()
    rng, count = np.random.default_rng(7), 6000
    real = rng.multivariate_normal(mean, covariance, count).reshape(count, 4, 4, 4, 1) / 2 + 0.5
    painted = made.continue_(real, [""] * count, rng, given, pool(1), steps=100)
    known = np.arange(4) < given if np.ndim(given) == 0 else np.array(given)
    np.testing.assert_array_equal(painted[:, known], real[:, known])
    assert (painted[:, ~known] != real[:, ~known]).mean() > 0.99
    painted = painted if given else made.sample([""] * count, rng, pool(1), steps=100)
    np.testing.assert_allclose(covariance_of(painted), covariance, atol=0.06 * covariance.max())


def test_ways_of_given_frames_lead_from_given_ones_alone():
    """Catches: a way that tells of a frame that is not given, and one that is lost behind a gap."""
    drawn = np.full((1, 1, 8, 8, 1), -1.0)
    drawn[0, 0, 3:5, 3:5] = 1
    ways = np.array([[1, -2], [1, 1], [0, 2], [-1, 0], [1, 1], [2, 0]])
    film = shifted(np.repeat(drawn, 6, axis=1), np.cumsum(ways, axis=0)[None])
    whole = parted(film)[0, :, 8:, :, 0].argmax(axis=-1) - 4
    for known in ([1, 1, 0, 0, 1, 1], [0, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0]):
        known = np.array(known, bool)
        found = parted(film, known[None])[0, :, 8:, :, 0].argmax(axis=-1) - 4
        np.testing.assert_array_equal(found[~known], whole[~known])
        np.testing.assert_array_equal(np.cumsum(found[known], axis=0), np.cumsum(whole, axis=0)[known])


@pytest.mark.parametrize("known", [[1, 1, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
def test_what_is_painted_stands_where_its_ways_lead(known):
    """Catches a gap whose ways are added to those of what is given behind it: frames before and in it stay in place."""
    rng, known = np.random.default_rng(3), np.array(known, bool)
    film = shifted(films_of(rng, (1, 6, 8, 8, 1)), np.cumsum(rng.integers(-1, 2, (1, 6, 2)), axis=1))
    joined = join(parted(film, known[None]))
    np.testing.assert_array_equal(joined[:, ~known], film[:, ~known])


def test_in_training_ways_of_given_frames_lead_from_given_ones(monkeypatch):
    """Catches a network that learns from ways that it will not be told."""
    made, seen = model(), []
    given = np.array([True, True, False, False, True, True])
    monkeypatch.setattr(made, "draw_levels", lambda count, rng: np.where(given, 0, np.full((count, 6), 500)))
    network = made.network
    made.network = lambda x, t, caption: seen.append(x.data) or network(x, t, caption)
    made.network.frames = network.frames
    batch = replace(shard(), images=films_of(np.random.default_rng(4), (8, 6, 8, 8, 1)) / 2 + 0.5)
    made.loss(batch, np.random.default_rng(0))
    expected = parted(batch.images * 2 - 1, np.tile(given, (8, 1)))
    np.testing.assert_allclose(seen[0][:, given], expected[:, given], atol=1e-6)
    assert not np.allclose(expected, parted(batch.images * 2 - 1))


def test_going_on_heeds_caption_and_guidance():
    films = films_of(np.random.default_rng(8), (1, 6, 8, 8, 1)) / 2 + 0.5
    go_on = lambda caption, guidance: model(guided_levels=(1e-3, 1e3)).continue_(  # noqa: E731
        films, [caption], np.random.default_rng(9), 3, pool(1), steps=3, guidance=guidance
    )
    dark = go_on("dark", 1.0)
    assert np.abs(dark - go_on("bright", 1.0)).max() > 1e-3 and np.abs(dark - go_on("dark", 3.0)).max() > 1e-3
    np.testing.assert_array_equal(go_on("dark", 0.0), go_on("bright", 0.0))


@pytest.mark.parametrize("given", [2, [True, True, False, False, False, True], [False, False, True, True, True, True]])
def test_what_is_not_given_is_not_looked_at(given):
    """Catches: an answer that is known before it is asked for."""
    made, rng = model(guidance=1.0), np.random.default_rng(8)
    films, known = films_of(rng, (2, 6, 8, 8, 1)) / 2 + 0.5, np.arange(6) < 2 if given == 2 else np.array(given)
    other = np.where(known[:, None, None, None], films, rng.random(films.shape))
    painted = [made.continue_(seen, ["dark"] * 2, np.random.default_rng(9), given, steps=3) for seen in (films, other)]
    np.testing.assert_array_equal(*painted)


def test_what_cannot_be_given_is_refused():
    made, films = Video(TINY, np.random.default_rng(0)), np.zeros((1, 6, 8, 8, 1), np.float32)
    for known in (6, 7, [True] * 4, [True] * 6, [False, True, True, False, True, True]):
        with pytest.raises(ValueError, match="of 6 frames one gap must be left to be painted; given"):
            made.continue_(films, ["dark"], np.random.default_rng(0), known)


def test_a_size_that_cannot_be_halved_so_often_is_refused():
    """Catches a film that fails in the middle of the network: three widths halve it three times."""
    with pytest.raises(ValueError, match="video: .*multiple of 8"):
        Video(replace(TINY, image_size=12, widths=(8, 8, 16)), np.random.default_rng(0))


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
