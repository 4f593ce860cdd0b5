"""The twin's optimiser against ours: the same weights after the same gradients."""
import numpy as np
import pytest

from generators.family import OptimiserConfig
from nn.muon import Muon
from nn.optim import EMA
from nn.parallel import FlatParameters
from nn.tensor import Parameter

torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")

from bench.peers import muon as peer  # noqa: E402
from tests.parity.test_models import SMALL, TwinTrainer, small  # noqa: E402


def test_updates_agree():
    """Catches: a twin that is spared a part of the update, so that it is timed for less work."""
    rng = np.random.default_rng(0)
    kernel, matrix, bias = (rng.standard_normal(shape).astype(np.float32) for shape in [(3, 3, 4, 6), (7, 5), (9,)])
    ours = [Parameter(array.copy()) for array in (kernel, matrix, bias)]
    theirs = [torch.nn.Parameter(torch.tensor(array)) for array in (kernel.transpose(3, 2, 0, 1), matrix.T, bias)]
    config = OptimiserConfig(momentum=0.8, betas=(0.5, 0.9), weight_decay=0.1)
    flat = FlatParameters(ours)
    mine = Muon(flat.values, flat.matrices, EMA(flat.values, 0.9), config.momentum, config.betas, config.weight_decay)
    other = peer.Muon(theirs, config)
    for rate, size in ((0.1, 0), (0.1, 1), (0.05, 1), (0.2, 1)):  # behind a layer that begins at zero it begins at zero
        gradients = [size * rng.standard_normal(p.shape).astype(np.float32) for p in ours]
        for view, gradient in zip(flat.views(flat.gradient), gradients, strict=True):
            view[...] = gradient
        for p, gradient in zip(theirs, (gradients[0].transpose(3, 2, 0, 1), gradients[1].T, gradients[2]), strict=True):
            p.grad = torch.tensor(gradient)
        mine.step(flat.gradient, rate)
        other.step(rate)
    back = [theirs[0].detach().numpy().transpose(2, 3, 1, 0), theirs[1].detach().numpy().T, theirs[2].detach().numpy()]
    for p, expected in zip(ours, back, strict=True):
        np.testing.assert_allclose(p.data, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_weights_are_matrices(name):
    """Catches: a weight that is a matrix on one side and a vector on the other."""
    model, _, _, dataset = small(name)
    trainer = TwinTrainer(model, dataset, 0, 10, "eager")
    for phase, optimiser in zip(model.phases(0), trainer.optimisers, strict=True):
        matrices = FlatParameters(phase.parameters).matrices if phase.optimiser.muon else []
        mine = sorted(rows * columns for _, rows, columns in matrices)
        assert mine == sorted(p.numel() for p in optimiser.matrices)
