"""PyTorch as two processes of one thread each."""
import pytest

torch = pytest.importorskip("torch")

from bench import models  # noqa: E402
from bench.peers.pair import Pair  # noqa: E402

SETTINGS = {"width": 8, "latent": 4, "features": 8, "batch_size": 6}


def test_two_processes_train_one_model_and_paint_in_halves():
    """Catches: gradients of one half alone, a sum for a mean, a whole batch in each, pictures that are lost."""
    pair, seen = Pair(), []
    try:
        pair.build("vae", models.digits(), SETTINGS)
        gathered = pair.trainer.gathered

        def watched(parameters):
            mine = [weight.grad.clone() for weight in parameters]
            gathered(parameters)
            seen.append((mine, [weight.grad.clone() for weight in parameters]))

        pair.trainer.gathered = watched
        for _ in range(2):
            pair.step()
        mine, both = seen[0]
        of_mine, of_both = (torch.cat([part.reshape(-1) for part in parts]) for parts in (mine, both))
        assert (of_mine != of_both).any() and 0.3 < (of_both.norm() / of_mine.norm()).item() < 1.5
        assert pair.trainer.batch().images.shape[0] == 3
        assert pair.sample(5).shape == (5, 28, 28, 1)
    finally:
        pair.close()
