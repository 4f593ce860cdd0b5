"""The flow as a whole: exact inverse, exact likelihood, and what both are good for."""
import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.families.flow.bijectors import Bijector, Composition, Coupling
from generators.families.flow.conditioning import Conditioning, CouplingNetwork, Sketches
from generators.families.flow.realnvp import (
    RealNVP,
    RealNVPConfig,
    bits_per_dimension,
    dequantise,
    gaussian_log_density,
    quantise,
    sketch_channels,
    uniform_noise,
)
from generators.family import Shard
from generators.parts.blocks import log_mean_exp
from generators.parts.patches import squeeze, unsqueeze
from nn import functional as F
from nn.parallel import Threads
from nn.tensor import Parameter, Tensor
from tests.nn.gradcheck import gradcheck

WORDS = ("seven", "bold", "thin")
TINY = RealNVPConfig(
    vocabulary=WORDS, image_size=8, steps=(1, 1), widths=(8, 8), depth=1, features=4, batch_size=32, shard_size=4,
    sketches=2,
)
seeds = st.integers(0, 10**6)


def random_model(config, seed=0, size=0.1):
    """A float64 flow with every parameter moved away from where it was initialised."""
    rng = np.random.default_rng(seed)
    model = RealNVP(config, rng).astype(np.float64)
    for parameter in model.parameters():
        parameter.data += size * rng.standard_normal(parameter.shape)
    return model


def random_images(config, count, rng):
    return rng.integers(0, 256, (count, config.image_size, config.image_size, config.channels)) / 255


def random_tokens(count, rng):
    return rng.integers(0, len(WORDS) + 1, (count, 2))


def test_gradients_of_what_it_paints():
    """Of the whole way back, for a loss on pictures, against finite differences.  Catches: a layer that cuts it."""
    model, rng = random_model(replace(TINY, dequantisation="uniform")), np.random.default_rng(1)
    tokens, z = random_tokens(2, rng), 0.5 * rng.standard_normal((2, 64))
    gradcheck(lambda z, *_: model.flow.inverse(z, model.conditioning(tokens)), (z, *model.parameters()), rng, 1e-5)


# --- 8-bit values and real numbers ---


def test_a_uniform_density_costs_exactly_8_bits():
    assert bits_per_dimension(0.0, 784) == 8
    assert bits_per_dimension(784 * math.log(2), 784) == 7  # twice as dense everywhere


class ToNormal(Bijector):
    """z = the normal quantile of x: the flow for which x is uniform."""

    def forward(self, x, condition):
        z = Tensor(np.vectorize(NormalDist().inv_cdf)(x.data.reshape(len(x), -1)))
        return z, Tensor(-gaussian_log_density(z).data)


@pytest.mark.parametrize("samples", [1, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_flow_whose_density_is_uniform_scores_exactly_8_bits(samples, channels):
    config = replace(TINY, dequantisation="uniform", channels=channels)
    model = random_model(config)
    model.flow = ToNormal()
    rng = np.random.default_rng(0)
    bits = model.bits(random_images(config, 6, rng), ["seven"] * 6, rng, samples, Threads(1))
    np.testing.assert_allclose(bits, 8, rtol=0, atol=1e-9)


@given(seed=seeds)
def test_quantise_undoes_dequantise_for_every_value_and_noise(seed):
    values = (np.arange(256, dtype=np.float32) / 255).reshape(1, 16, 16, 1)
    noise = uniform_noise(values.shape, np.random.default_rng(seed))
    x = dequantise(values, noise)
    assert x.dtype == np.float32 and x.min() > 0 and x.max() < 1
    np.testing.assert_array_equal(quantise(x), values)


class Extreme:
    """A generator whose numbers are the least and the largest that NumPy's float32 ones can be, in turn."""

    def random(self, shape, dtype):
        return np.resize(np.array([0, 1 - 2**-24], dtype), shape)


def test_no_noise_reaches_the_next_level_in_float32():
    """Catches: noise so near to 1 that a level and it are, rounded, the next level."""
    levels = np.repeat(np.arange(256, dtype=np.float32) / 255, 2)
    noise = uniform_noise(levels.shape, Extreme())
    np.testing.assert_array_equal(quantise(dequantise(levels, noise)), levels)
    assert 0 < noise.min() < 1e-4 and 1 - 1e-4 < noise.max() < 1


def test_dequantised_values_fill_the_unit_interval_evenly():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, 200_000) / 255
    x = dequantise(images, uniform_noise(images.shape, rng))
    counts, _ = np.histogram(x, bins=64, range=(0, 1))
    assert np.abs(counts / len(x) * 64 - 1).max() < 0.1


def test_log_mean_exp_does_not_overflow():
    """Catches also a sum where a mean is meant."""
    np.testing.assert_allclose(log_mean_exp(np.array([[1000.0, -5000.0], [1000.0, -5000.0]])), [1000, -5000])
    np.testing.assert_allclose(log_mean_exp(np.log([[1.0], [3.0]])), [np.log(2)])


def test_density_of_the_noise():
    z = np.array([[0.3, -1.2, 2.0]])
    expected = sum(math.log(NormalDist().pdf(value)) for value in z[0])
    np.testing.assert_allclose(gaussian_log_density(Tensor(z)).data, [expected], rtol=1e-12)


# --- dequantisation ---


@given(seed=seeds)
def test_learned_noise_stays_in_its_interval_and_knows_its_slope(seed):
    """du/dnoise is triangular only because each value's noise is its own: its diagonal, numerically."""
    rng = np.random.default_rng(seed)
    model = random_model(TINY, seed)
    images, tokens = random_images(TINY, 2, rng), random_tokens(2, rng)
    noise = rng.uniform(0.01, 0.99, images.shape)
    x, log_slope = model.spread(images, noise, model.conditioning(tokens))
    assert (np.floor(x.data * 256) == np.rint(images * 255)).all()
    up, down = (model.spread(images, noise + s, model.conditioning(tokens))[0].data for s in (1e-6, -1e-6))
    slope = (up - down) / 2e-6 * 256
    np.testing.assert_allclose(log_slope.data, np.log(slope).sum(axis=(1, 2, 3)), rtol=1e-5, atol=1e-5)


def test_learned_noise_begins_as_uniform_noise():
    rng = np.random.default_rng(0)
    model = RealNVP(TINY, rng).astype(np.float64)
    images = random_images(TINY, 3, rng)
    noise = rng.uniform(0.01, 0.99, images.shape)
    x, log_slope = model.spread(images, noise, model.conditioning(random_tokens(3, rng)))
    np.testing.assert_allclose(x.data, dequantise(images, noise), rtol=1e-12)
    np.testing.assert_allclose(log_slope.data, 0, atol=1e-9)


# --- inverse and determinant ---


@settings(max_examples=10)
@given(
    size=st.sampled_from([8, 12]), channels=st.sampled_from([1, 3]), seed=seeds, guidance=st.sampled_from([1, 2]),
    sketches=st.sampled_from([0, 1, 3]),
)  # fmt: skip
def test_there_and_back_and_back_and_there(size, channels, seed, guidance, sketches):
    config = replace(TINY, image_size=size, channels=channels, sketches=sketches)
    model, rng = random_model(config, seed), np.random.default_rng(seed)
    condition = model.guided(model.vocabulary.encode(["seven", "bold", "thin seven"]), guidance)
    x = Tensor(rng.uniform(0.01, 0.99, (3, size, size, channels)))
    z, _ = model.flow.forward(x, condition)
    assert z.shape == (3, size * size * channels)
    np.testing.assert_allclose(model.flow.inverse(z, condition).data, x.data, rtol=0, atol=1e-9)
    z = Tensor(z.data + 0.1 * rng.standard_normal(z.shape))  # noise of images that are not too near black and white
    back = model.flow.forward(model.flow.inverse(z, condition), condition)[0]
    np.testing.assert_allclose(back.data, z.data, rtol=0, atol=1e-9)


@settings(max_examples=8)
@given(channels=st.sampled_from([1, 2]), seed=seeds, guidance=st.sampled_from([1, 2]))
def test_log_det_of_the_whole_flow_is_that_of_its_numerical_jacobian(channels, seed, guidance):
    config = replace(TINY, channels=channels)
    model, rng = random_model(config, seed), np.random.default_rng(seed)
    x = rng.uniform(0.05, 0.95, (1, 8, 8, channels))
    size = x.size
    tokens = model.vocabulary.encode(["thin seven"] * 2 * size)
    log_det = model.flow.forward(Tensor(x), model.guided(tokens[:1], guidance))[1].data
    shifts = 1e-6 * np.concatenate([np.eye(size), -np.eye(size)]).reshape(2 * size, *x.shape[1:])
    z = model.flow.forward(Tensor(x + shifts), model.guided(tokens, guidance))[0].data
    np.testing.assert_allclose(log_det[0], np.linalg.slogdet((z[:size] - z[size:]) / 2e-6)[1], rtol=1e-6, atol=1e-5)


def test_log_likelihood_is_gaussian_plus_determinants():
    model, rng = random_model(TINY), np.random.default_rng(0)
    images, tokens = random_images(TINY, 3, rng), random_tokens(3, rng)
    noise = rng.uniform(0.01, 0.99, images.shape)
    x, log_slope = model.spread(images, noise, model.conditioning(tokens))
    z, log_det = model.flow.forward(x, model.conditioning(tokens))
    expected = -0.5 * (z.data**2).sum(axis=1) - 32 * np.log(2 * np.pi) + log_det.data + log_slope.data
    log_p = model.log_likelihood(images, model.conditioning(tokens), noise).data
    np.testing.assert_allclose(log_p, expected, rtol=1e-10)


def test_many_draws_tighten_the_bound_and_both_noises_agree_on_the_probability():
    """With draws enough, log-mean-exp is the log-probability itself, whatever noise it was averaged over."""
    rng = np.random.default_rng(4)
    config = replace(TINY, image_size=4, shard_size=500)
    model = random_model(config)
    model.dequantiser.network.leave.bias.data += 0.5  # noise that is not uniform
    images = np.repeat(random_images(config, 1, rng), 2000, axis=0)  # one image: 2000 measurements of one number
    one, eight = (model.bits(images, ["seven"] * len(images), rng, k, Threads(1)).mean() for k in (1, 8))

    def probability():
        many = np.repeat(images, 10, axis=0)
        told = model.conditioning(model.vocabulary.encode(["seven"] * len(many)))
        log_p = model.log_likelihood(many, told, rng.uniform(1e-6, 1 - 1e-6, many.shape))
        return bits_per_dimension(log_mean_exp(log_p.data), 16)

    exact = probability()
    assert exact + 0.005 < eight and eight + 0.005 < one
    model.dequantiser = None
    assert abs(probability() - exact) < 0.01


# --- the network and its captions ---


@pytest.mark.parametrize("dequantisation", ["uniform", "learned"])
@pytest.mark.parametrize("sketches", [0, 1, 3])
def test_every_parameter_and_every_caption_counts(dequantisation, sketches):
    config = replace(TINY, dequantisation=dequantisation, sketches=sketches)
    model, rng = random_model(config), np.random.default_rng(1)
    images, noise = random_images(config, 2, rng), rng.uniform(0.1, 0.9, (2, 8, 8, 1))
    said = model.vocabulary.encode(["seven bold", "thin"])
    log_p = model.log_likelihood(images, model.conditioning(said), noise)
    log_p.backward(np.array([1.0, 2.0]))
    idle = [name for name, p in model.named_parameters() if p.grad is None or not np.abs(p.grad).max() > 0]
    assert idle == []
    otherwise = model.conditioning(model.vocabulary.encode(["seven thin", "thin"]))
    other = model.log_likelihood(images, otherwise, noise).data
    assert other[0] != log_p.data[0] and other[1] == log_p.data[1]


@pytest.mark.parametrize("dropout", [0.0, 1.0])
@pytest.mark.parametrize("sketches", [0, 1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_is_the_bits_and_the_error_of_sketches_that_lie_as_the_image_does(sketches, dropout, channels):
    """Catches: a sketch laid out otherwise than a squeezed image, an error that is summed or averaged over sketches, or
    not averaged over the whole batch, a flow that is told less in training than when it is asked, or a caption that
    was dropped."""
    config = replace(TINY, caption_dropout=dropout, dequantisation="uniform", sketches=sketches, channels=channels)
    model, rng = random_model(config), np.random.default_rng(2)
    images, tokens = random_images(config, 3, rng), random_tokens(3, rng)
    shard = Shard(images, tokens, None, np.zeros(3, int), np.arange(3), batch_size=6)
    loss, metrics = model.loss(shard, np.random.default_rng(0))
    drawn = np.random.default_rng(0)
    drawn.random(3)  # which captions are dropped
    tokens = 0 * tokens if dropout else tokens
    log_p = model.log_likelihood(images, model.conditioning(tokens), uniform_noise(images.shape, drawn)).data
    bits = bits_per_dimension(log_p, 64 * channels).sum() / 6
    np.testing.assert_allclose(metrics["bits_per_dimension"], bits, rtol=1e-9)
    error = 0.0
    if sketches:
        errors = [((painted - (2 * images - 1)) ** 2).mean(axis=(1, 2, 3)) for painted in sketched(model, tokens)]
        temperature, share = model.sketches.TEMPERATURE, model.sketches.SHARE
        mixture = -temperature * np.log(np.mean(np.exp(np.divide(errors, -temperature)), axis=0))
        error = ((1 - share) * mixture + share * np.mean(errors, axis=0)).sum() / 6
        np.testing.assert_allclose(metrics["sketch_error"], error, rtol=1e-9)
    np.testing.assert_allclose(loss.item(), metrics["bits_per_dimension"] + error, rtol=1e-9)


def sketched(model, tokens):
    """The sketches of captions, each as images (N, H, W, C) from -1 to 1."""
    sketches = model.conditioning(tokens).sketches.data
    return [unsqueeze(Tensor(part)).data for part in np.split(sketches, model.config.sketches, axis=-1)]


def test_sketches_to_look_at():
    model = random_model(replace(TINY, sketches=3, channels=3))
    model.sketches.output.bias.data *= 30  # beyond black and white
    tokens = random_tokens(4, np.random.default_rng(0))
    painted = np.stack(sketched(model, tokens), axis=1)
    assert painted.shape == (4, 3, 8, 8, 3) and painted.min() < -1 and painted.max() > 1
    images = model.sketches.images(model.conditioning(tokens).sketches)
    np.testing.assert_allclose(images, np.clip(painted / 2 + 0.5, 0, 1), atol=1e-12)


@pytest.mark.parametrize("far", [False, True], ids=["near", "far"])
def test_sketches_part_where_a_caption_leaves_something_open(far):
    """A caption of two pictures, and two sketches, one of them the average of both, the other a little or far behind.
    Catches the average of the sketches' errors and a high temperature, which leave a blur; and errors of which a sketch
    far behind has no share, so that it never learns."""
    rng = np.random.default_rng(0)
    model, pictures = Sketches(2, 4, (8, 8, 1), rng), rng.integers(0, 2, (2, 8, 8, 1)).astype(float)
    both = squeeze(Tensor(2 * pictures - 1)).data
    blur = both.mean(axis=0, keepdims=True)
    other = 3 * rng.standard_normal(blur.shape) if far else 0.8 * blur + 0.01 * both[1:]
    sketches = Parameter(np.concatenate([blur, other], axis=-1))
    for _ in range(3000 if far else 400):
        error = F.sum(model.error(F.broadcast_to(sketches, (2, 4, 4, 8)), pictures))
        sketches.grad = None
        error.backward()
        sketches.data -= 3.0 * sketches.grad
    parts = np.split(sketches.data[0], 2, axis=-1)
    nearest = [min(np.mean((picture - sketch) ** 2) for sketch in parts) for picture in both]
    assert max(nearest) < 0.01  # each picture has become a sketch; of the blur it is about 0.5


def test_captions_are_dropped_image_by_image():
    """Catches a shard that is dropped or kept as a whole, and a share that nobody reads."""
    config, rng = replace(TINY, caption_dropout=0.5, dequantisation="uniform"), np.random.default_rng(0)
    model, dropped = random_model(config), []
    conditioning = model.conditioning
    model.conditioning = lambda tokens: dropped.append((tokens == 0).all(axis=1)) or conditioning(tokens)
    images, tokens = random_images(config, 64, rng), np.ones((64, 1), np.int64)
    for _ in range(10):
        model.loss(Shard(images, tokens, None, np.zeros(64, int), np.arange(64), 64), rng)
    shares = np.mean(dropped, axis=1)
    assert 0.2 < shares.min() and shares.max() < 0.8
    assert abs(shares.mean() - 0.5) < 4 * 0.5 / np.sqrt(64 * 10)  # four standard errors


def test_the_first_two_couplings_change_a_colour_of_the_checkerboard_each():
    """By what they see of the other colour alone.  Catches halves that are rows, and one half changed twice."""
    model, rng = random_model(TINY), np.random.default_rng(0)
    plain = rng.uniform(0.05, 0.95, (1, 8, 8, 1))
    x = Tensor(np.concatenate([plain, plain + 0.01 * np.eye(64).reshape(64, 8, 8, 1)]))  # and each pixel changed
    links, told = model.flow.links, model.conditioning(np.ones((65, 1), np.int64))
    first, second = [place for place, link in enumerate(links) if isinstance(link, Coupling)][:2]

    def after(count):
        return Composition(*links[:count]).forward(x, told)[0].data.reshape(65, 64)

    def reached(z):
        return z[1:] != z[0]  # (pixel, number)

    assert (reached(after(first)).sum(axis=0) == 1).all()
    colours = np.indices((8, 8)).sum(axis=0).ravel() % 2
    colour = colours[reached(after(first)).argmax(axis=0)]  # of the pixel that each number stands for
    changed = [after(place + 1)[0] != after(place)[0] for place in (first, second)]
    np.testing.assert_array_equal(changed[0], colour == colour[changed[0]][0])
    np.testing.assert_array_equal(changed[1], ~changed[0])
    z = reached(after(first + 1))
    seen = colours != colour[changed[0]][0]
    assert (z[~seen].sum(axis=1) == 1).all() and (z[seen][:, ~changed[0]].sum(axis=1) == 1).all()
    assert (z[seen][:, changed[0]].sum(axis=1) > 4).all()


@pytest.mark.parametrize("size", [4, 2])
def test_a_coupling_sees_the_sketches_where_its_pixels_are(size):
    """A mark in the second sketch of 8x8 reaches, before any convolution, that pixel alone which has it within.
    Catches sketches that are reshaped to the size of a coupling instead of squeezed."""
    config, rng = replace(TINY, depth=0), np.random.default_rng(0)
    network = CouplingNetwork(2, 4, size, 8, 0, config.features, sketch_channels(config, size), rng)
    network.leave.weight.data[...] = rng.standard_normal(network.leave.weight.shape)
    network.norm = lambda h, modulation: h
    marked = np.zeros((1, 8, 8, 1), np.float32)
    marked[0, 5, 2] = 1
    x, words = Tensor(np.zeros((1, size, size, 2), np.float32)), Tensor(np.zeros((1, config.features), np.float32))
    blank, mark = (squeeze(Tensor(image)) for image in (0 * marked, marked))
    told = (Conditioning(words, F.concat([blank, second], axis=-1)) for second in (blank, mark))
    plain, other = (network(x, condition).data for condition in told)
    changed = np.argwhere(np.abs(other - plain).max(axis=-1)[0] > 0)
    np.testing.assert_array_equal(changed, [[5 * size // 8, 2 * size // 8]])


def test_the_first_batch_comes_out_of_every_actnorm_with_mean_0_and_variance_1():
    rng = np.random.default_rng(0)
    config = replace(TINY, dequantisation="uniform")
    model = RealNVP(config, rng).astype(np.float64)
    images, tokens = random_images(config, 256, rng) ** 4, random_tokens(256, rng)
    model.prepare(images, tokens, np.random.default_rng(7))
    x = dequantise(images, uniform_noise(images.shape, np.random.default_rng(7)))
    z = model.flow.forward(Tensor(x), model.conditioning(tokens))[0].data
    coarse = z[:, :32].reshape(-1, 8)  # what leaves last has just gone through an ActNorm: 4 pixels of 8 channels
    np.testing.assert_allclose(coarse.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(coarse.std(axis=0), 1, atol=1e-3)


@pytest.mark.parametrize("wrong", [{"image_size": 10}, {"dequantisation": "none"}])
def test_a_config_that_cannot_work_is_refused_in_a_sentence(wrong):
    with pytest.raises(ValueError, match="(realnvp: |dequantisation).*; given"):
        RealNVP(replace(TINY, **wrong), np.random.default_rng(0))
