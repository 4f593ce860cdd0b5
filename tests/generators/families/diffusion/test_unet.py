"""The U-Net's bridges.  That every part of it is used: `tests/generators/families/test_weights.py`."""
import numpy as np

from generators.families.diffusion.unet import Level
from nn.tensor import Tensor
from tests.generators.toys import shaken
from tests.oracles.numeric import assert_close


def test_the_way_down_is_added_to_what_comes_back_from_below():
    """Catches a level that knows only what its coarser neighbour kept, or that takes the image past its first block."""
    rng = np.random.default_rng(0)
    level = shaken(Level(8, lambda h, condition: h * 0.5, 16, 4, 1, rng)).astype(np.float64)
    x, condition = Tensor(rng.standard_normal((2, 4, 4, 8))), Tensor(rng.standard_normal((2, 4)))
    whole, before = level(x, condition).data, level.before(x, condition)
    level.enlarge.weight.data[...] = level.enlarge.bias.data[...] = 0
    alone = level(x, condition).data
    assert_close(alone, level.after[0](before, condition).data, 1e-10)
    assert np.abs(whole - alone).max() > 1e-2
