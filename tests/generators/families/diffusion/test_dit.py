"""The transformer as a denoiser.  What it shares with `DDPM` is tested there."""
import numpy as np
import pytest

from generators.families.diffusion.ddpm import DDPM
from generators.families.diffusion.dit import DiT, DiTConfig
from generators.family import OptimiserConfig
from generators.parts.attention import TransformerBlock
from generators.training import Trainer
from nn.tensor import Tensor
from tests.generators.toys import pool, tones
from tests.nn.gradcheck import gradcheck

TINY = DiTConfig(vocabulary=("dark", "bright"), image_size=8, patch=4, width=16, depth=2, heads=2, features=8)


def model(dtype=np.float64, **changes):
    """With random weights everywhere, also where training would start from zero."""
    rng = np.random.default_rng(0)
    made = DiT(DiTConfig(**{**vars(TINY), **changes}), rng).astype(dtype)
    for parameter in made.parameters():
        parameter.data += (0.2 * rng.standard_normal(parameter.shape)).astype(dtype)
    return made


def output(made, x, t=5, token=1):
    times, tokens = np.full(len(x), t), np.full((len(x), 1), token)
    return made.network(Tensor(x), times, made.text(tokens)).data


def test_a_new_network_says_nothing_and_its_blocks_change_nothing():
    """Catches: a gate that begins open, an output layer that begins with noise."""
    rng = np.random.default_rng(0)
    made = DiT(TINY, rng)
    x = rng.standard_normal((3, 8, 8, 1), dtype=np.float32)
    np.testing.assert_array_equal(output(made, x), 0)
    block = TransformerBlock(16, 2, 8, rng)
    h, condition = Tensor(rng.standard_normal((3, 4, 16), np.float32)), Tensor(rng.standard_normal((3, 8), np.float32))
    np.testing.assert_array_equal(block(h, condition).data, h.data)


def test_every_weight_counts_and_every_image_by_itself():
    """Catches: a time, a caption, a place or a layer that is left out; attention across images."""
    made, x = model(), np.random.default_rng(1).standard_normal((2, 8, 8, 1))
    said = made.network(Tensor(x), np.array([5, 9]), made.text(np.array([[1], [2]])))
    said.backward(np.random.default_rng(2).standard_normal(said.shape))
    idle = [name for name, p in made.named_parameters() if p.grad is None or not np.abs(p.grad).max() > 0]
    assert idle == []
    alone = [output(made, x[:1], 5, 1), output(made, x[1:], 9, 2)]
    np.testing.assert_allclose(said.data, np.concatenate(alone), atol=1e-12)
    assert np.abs(output(made, x, t=6) - output(made, x, t=5)).max() > 1e-3
    assert np.abs(output(made, x, token=2) - output(made, x, token=1)).max() > 1e-3


def test_every_patch_hears_of_every_other_and_only_its_vector_says_where_it_is():
    """Catches: layers that work on patches alone; places that are given to the wrong patches, or to none."""
    made, rng = model(), np.random.default_rng(3)
    x = rng.standard_normal((1, 8, 8, 1))
    touched = x.copy()
    touched[0, 7, 7, 0] += 1  # in the last patch
    assert (np.abs(output(made, touched) - output(made, x)) > 1e-6).all()

    def exchanged(image):  # the upper left patch and the lower right one
        image = image.copy()
        image[:, :4, :4], image[:, 4:, 4:] = image[:, 4:, 4:].copy(), image[:, :4, :4].copy()
        return image

    assert np.abs(output(made, exchanged(x)) - exchanged(output(made, x))).max() > 1e-2
    made.network.place.data[...] = 0
    np.testing.assert_allclose(output(made, exchanged(x)), exchanged(output(made, x)), atol=1e-12)


def test_gradients_of_a_block():
    """Catches: a gradient that is lost on the way through gates, norms or attention."""
    made, rng = model(), np.random.default_rng(4)
    block = made.network.blocks[0]
    gradcheck(block, (rng.standard_normal((2, 4, 16)), rng.standard_normal((2, 8))), rng)


@pytest.mark.parametrize(("changes", "words"), [({"patch": 3}, "of 3; given 8"), ({"patch": 0}, "patch must")])
def test_patches_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        DiT(DiTConfig(**{**vars(TINY), **changes}), np.random.default_rng(0))


def test_it_is_asked_for_as_any_diffusion_is_and_has_no_settings_of_another_network():
    """Catches: settings of the U-Net that are accepted and never read."""
    assert issubclass(DiT, DDPM)
    assert {"widths", "blocks", "squeezed"}.isdisjoint(vars(TINY))


def test_it_learns_to_obey():
    """Of dark and bright images each is painted under its own caption."""
    data = tones()
    config = DiTConfig(**{**vars(TINY), "vocabulary": data.vocabulary, "batch_size": 16, "shard_size": 16,
                          "optimiser": OptimiserConfig(rate=2e-2, warmup_steps=5)})  # fmt: skip
    trainer = Trainer(DiT(config, np.random.default_rng(0)), data, 0, 150, pool(1))
    for _ in range(150):
        trainer.step()
    with trainer.averaged_weights():
        painted = trainer.family.sample(["dark", "bright"] * 8, np.random.default_rng(0), steps=10)
    for tone in (0, 1):
        real = data.images[data.labels == tone].mean() / 255
        assert np.abs(painted[tone::2].mean(axis=(1, 2, 3)) - real).max() < 0.15  # the two are 0.6 apart
