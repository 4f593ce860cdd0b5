"""Where a condition enters: the residual block and the flow's coupling network, beside their formulas."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.families.flow.conditioning import Conditioning, CouplingNetwork
from generators.parts.blocks import ResidualBlock, is_ink, modulated_norm, soft_clip
from nn import functional as F
from nn.tensor import Parameter, Tensor
from tests.nn.gradcheck import gradcheck
from tests.oracles import normalisation
from tests.oracles.numeric import assert_close


def randomised(module, rng):
    """In float64, with every parameter moved away from where it was initialised."""
    module = module.astype(np.float64)
    for parameter in module.parameters():
        parameter.data += 0.3 * rng.standard_normal(parameter.shape)
    return module


def modulated(norm, x, modulation):
    """What `norm` makes of x (N, H, W, C), step by step."""
    less, shift = np.split(modulation[:, None, None], 2, axis=-1)
    scaled = (1 + less) * x + shift
    return normalisation.silu(normalisation.group_norm(scaled, norm.gamma.data, norm.beta.data, norm.groups))


@pytest.mark.parametrize("channels", [16, 8, 24])
def test_a_condition_modulates_what_is_between_a_blocks_convolutions(channels):
    """Catches: a condition that is only added, or comes before the first convolution or behind the second norm."""
    rng = np.random.default_rng(channels)
    block = randomised(ResidualBlock(8, channels, 5, rng), rng)
    x, condition = rng.standard_normal((3, 4, 4, 8)), rng.standard_normal((3, 5))
    h = block.conv1(block.norm1(Tensor(x))).data
    modulation = condition @ block.condition.weight.data + block.condition.bias.data
    h = block.conv2(Tensor(modulated(block.norm2, h, modulation))).data
    expected = h + (x if block.skip is None else block.skip(Tensor(x)).data)
    assert_close(block(Tensor(x), Tensor(condition)).data, expected, 1e-10)


def test_a_caption_modulates_every_norm_of_a_coupling_network_by_its_own_numbers():
    """Catches: norms that share a modulation, get each other's, or get none."""
    rng = np.random.default_rng(0)
    network = randomised(CouplingNetwork(2, 4, 4, 16, 2, 5, 0, rng), rng)
    x, words = rng.standard_normal((3, 4, 4, 2)), rng.standard_normal((3, 5))
    said = words @ network.caption.weight.data + network.caption.bias.data  # (3, 3 norms x 2 x 16)
    h = network.enter(Tensor(x)).data + network.position.data
    for i, (norm, convolution) in enumerate(zip(network.norms, network.convolutions, strict=True)):
        h = h + convolution(Tensor(modulated(norm, h, said[:, 32 * i : 32 * (i + 1)]))).data
    expected = network.leave(Tensor(modulated(network.norm, h, said[:, 64:]))).data
    assert_close(network(Tensor(x), Conditioning(Tensor(words), None)).data, expected, 1e-10)


@pytest.mark.parametrize("channels", [4, 8, 16, 24, 128])
def test_no_group_of_a_modulated_norm_is_a_single_channel(channels):
    """Catches: groups of one channel, whose scale and shift are normalised away, so that the caption is not heard."""
    norm, rng = modulated_norm(channels).astype(np.float64), np.random.default_rng(0)
    x, scales = rng.standard_normal((1, 4, 4, channels)), rng.uniform(-0.5, 2, (1, channels))
    plain = F.group_norm_silu(x, norm.gamma, norm.beta, norm.groups).data
    scaled = norm(Tensor(x), Tensor(np.concatenate([scales, 0 * scales], axis=1))).data
    assert np.abs(scaled - plain).max(axis=(0, 1, 2)).min() > 1e-3


def test_whether_images_are_ink_is_asked_of_the_whole_set():
    """Catches: the first images taken for all, of a folder in the order of its classes, say."""
    images = np.zeros((1000, 2, 2, 1), np.uint8)
    images[100:] = 128
    assert is_ink(images[:100]) and not is_ink(images) and not is_ink(images[::-1])


@given(shape=st.lists(st.integers(0, 4), max_size=3), most=st.floats(0.5, 10), seed=st.integers(0, 99))
def test_a_soft_clip_is_its_formula(shape, most, seed):
    """Catches: another curve with the same ends, a gradient without what stands inside the tanh."""
    rng = np.random.default_rng(seed)
    x = 3 * rng.standard_normal(shape)
    gradcheck(lambda x: soft_clip(x, most), (Tensor(x, requires_grad=True),), rng)
    for dtype, tolerance in ((np.float64, 1e-14), (np.float32, 1e-6)):
        clipped = soft_clip(x.astype(dtype), most)
        assert clipped.dtype == dtype
        np.testing.assert_allclose(clipped.data, most * np.tanh(x / most), rtol=tolerance, atol=tolerance)


def test_a_soft_clip_knows_the_way_back():
    """Catches a clip: a scale beyond it would have no gradient, and stay there."""
    raw = Parameter(np.array([-30.0, -7.0, 0.0, 0.01, 7.0, 30.0]))
    bounded = soft_clip(raw, 5)
    F.sum(bounded).backward()
    assert (np.abs(bounded.data) <= 5).all() and (np.abs(raw.grad) > 0).all()
    np.testing.assert_allclose(bounded.data[2:4], raw.data[2:4], atol=1e-6)
