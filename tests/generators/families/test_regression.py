"""The average of what fits a caption; all else is tested with the other families."""
import numpy as np

from generators.families.regression import Regression, RegressionConfig
from generators.family import Shard


def test_its_loss_is_the_mean_squared_error_of_its_share_of_the_batch():
    """Catches a sum where a mean belongs, which a rate would have to know of."""
    config = RegressionConfig(vocabulary=("a", "b"), image_size=8, width=8, features=8)
    made, rng = Regression(config, np.random.default_rng(0)), np.random.default_rng(1)
    images, tokens = rng.random((3, 8, 8, 1), np.float32), np.array([[1], [2], [1]])
    loss, _ = made.loss(Shard(images, tokens, None, np.zeros(3, np.int64), np.arange(3), 12), rng)
    errors = (made.paint(tokens).data - (images * 2 - 1)) ** 2
    np.testing.assert_allclose(loss.item(), errors.mean() * 3 / 12, rtol=1e-5)
