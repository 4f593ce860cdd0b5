"""Judges the exercise on the painter's half of the game, where the game is known: Gaussians, and scores in a table."""

from statistics import NormalDist

import numpy as np
import pytest

from generators.parts import critic
from nn import functional as F
from nn.tensor import Parameter, Tensor
from tests.exercises.trial import Trial
from tests.oracles.elementary import each, sigmoid, softplus
from tests.oracles.game import DATA, GRID, best_critic, gauss, play


def normal_numbers(count):
    """As evenly as numbers can be normal."""
    return np.array([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])


WHICH = [(i, j) for i in range(9) for j in range(8) if (i + 2 * j) % 5]  # pairs of a real and a painted picture
REAL, PAINTED = (normal_numbers(n)[list(chosen)] for n, chosen in zip((9, 8), zip(*WHICH, strict=True), strict=True))


class Table:
    """The best critic of tests/oracles/game.py, of pictures of one pixel: straight between the places of the grid."""

    def __init__(self, mean, width, lies, size=1.0):
        self.scores, self.seen = best_critic(gauss(mean, width), lies) * size, []

    def look(self, images):
        self.seen.append(images.data.dtype)
        place = (F.reshape(images, (-1, 1)) - Tensor(np.float32(GRID))) * float(1 / (GRID[1] - GRID[0]))  # (N, 49)
        return F.relu(1.0 - F.relu(place) - F.relu(-place))

    def score(self, features, tokens):
        """Under caption 2 the mirror image of caption 1."""
        table = Tensor(np.float32(np.stack([self.scores, self.scores[::-1]], axis=1)))
        chosen = Tensor(np.float32(np.arange(1, 3) == np.asarray(tokens)))  # (N, 2)
        return F.sum(F.matmul(features, table) * chosen, axis=1)

    def of(self, x):
        """(D, its slope) at x, an array, under caption 1."""
        place = np.clip(np.searchsorted(GRID, x) - 1, 0, len(GRID) - 2)
        return np.interp(x, GRID, self.scores), (np.diff(self.scores) / np.diff(GRID))[place]


SETTLED = play(lies=1.0)
AT_REST = ["where no caption lies and the painter paints as the data are: the game is at rest"]
MOVED = ["where captions lie and the painter paints as the data are: it is pushed off them"]
ELSEWHERE = ["where captions lie and the game is at rest off the data"]
EXTREME = ["at extreme values"]


@pytest.mark.exercise(id="fixed-point")
@pytest.mark.parametrize(
    "painter, lies, size, tags",
    [
        ((0.1, 0.6), 0.0, 1.0, []), (DATA, 0.0, 1.0, AT_REST), (DATA, 1.0, 1.0, MOVED), (SETTLED, 1.0, 1.0, ELSEWHERE),
        ((0.1, 0.6), 0.0, 2000.0, EXTREME),
    ],
    ids=["anywhere", "at_rest", "moved", "settled", "extreme"],
)  # fmt: skip
def test_painter_loss(painter, lies, size, tags):
    """Pairs under caption 1 and, as their mirror images, under caption 2."""
    table = Table(*painter, lies, size)
    mean, width = (Parameter(np.full((1, 1, 1, 1), value, np.float32)) for value in painter)
    sign = np.repeat([1.0, -1.0], len(WHICH)).astype(np.float32).reshape(-1, 1, 1, 1)
    real = sign * np.float32(DATA[0] + DATA[1] * np.tile(REAL, 2)).reshape(-1, 1, 1, 1)
    tokens = np.where(sign > 0, 1, 2).reshape(-1, 1)
    fake = (mean + width * Tensor(np.float32(np.tile(PAINTED, 2)).reshape(-1, 1, 1, 1))) * Tensor(sign)
    trial = Trial("painter_loss(critic, real, fake, tokens)", *tags, real=real, fake=fake.data, tokens=tokens)
    loss = trial.run(critic.painter_loss, table, real, fake, tokens)
    trial.require(bool(table.seen), "the critic was not asked", "critic.score(critic.look(images), tokens)")
    trial.require(set(table.seen) == {np.dtype(np.float32)}, f"the critic looks at {table.seen}", "float64 came in")

    x, y = DATA[0] + DATA[1] * REAL, painter[0] + painter[1] * PAINTED
    (on_real, _), (on_fake, slope) = table.of(x), table.of(y)
    lead = on_real - on_fake  # under either caption
    right = 2 * each(softplus, lead).sum()
    of_one = right / 2 + each(softplus, table.of(-x)[0] - table.of(-y)[0]).sum()
    instead = {
        "the sum over the pairs is wanted, not the mean": right / len(real),
        "real and fake are exchanged: this is what the discriminator wants": 2 * each(softplus, -lead).sum(),
        "minus the discriminator's loss: its gradient fades just when the painter loses":
            -2 * each(softplus, -lead).sum(),
        "this does not look at the real one; here they are compared": 2 * each(softplus, -on_fake).sum(),
        "the first pair only": softplus(lead[0]),
        "the captions are not told to the critic": len(real) * np.log(2),
        "one caption for the whole batch; each pair has its own": of_one,
    }  # fmt: skip
    instead = {cause: value for cause, value in instead.items() if not np.allclose(value, right, rtol=1e-3)}
    trial.expect(loss, right, "the loss", rtol=5e-4, atol=1e-4, dtype=np.float32, instead=instead)

    flows = getattr(loss, "requires_grad", False)
    trial.require(flows, "no gradient flows back to fake", "what it is to learn from; only real needs none")
    loss.backward()
    by_fake = -2 * each(sigmoid, lead) * slope
    for name, parameter, parts in (("mean", mean, by_fake), ("width", width, by_fake * PAINTED)):
        trial.require(parameter.grad is not None, f"no gradient reaches the painter's {name}", "through D(fake, c)")
        near = {"rtol": 2e-3, "atol": 1e-3 * np.abs(parts).sum()}
        trial.expect(parameter.grad.ravel(), [parts.sum()], f"the gradient of the painter's {name}", **near)


def test_the_game_is_where_its_tags_say():
    """What the exercise says of the game, asked of the oracle: none pushes at rest, lies do, until it settles."""

    def push(painter, lies):
        table, z = Table(*painter, lies), normal_numbers(40)
        on_real, (on_fake, slope) = table.of(DATA[0] + DATA[1] * z)[0], table.of(painter[0] + painter[1] * z)
        by_fake = -each(sigmoid, on_real[:, None] - on_fake) * slope
        return by_fake.mean(), (by_fake * z).mean()

    assert np.abs(push(DATA, 0.0)).max() < 1e-9
    up, narrower = push(DATA, 1.0)
    assert up < -0.1 and narrower > 0.1
    assert np.abs(push(SETTLED, 1.0)).max() < 0.01
