"""The game of painter and critic in a table, with exact expectations: Gaussians on a grid, a score for each place.

Data: N(0.7, 1) under one caption and its mirror image under the other.  The painter is a Gaussian; the critic's scores
stand on the grid, with the exact gradient penalty, and under the other caption they are the mirror image.
"""
import numpy as np

GRID = np.linspace(-4.5, 4.5, 49)
DATA = (0.7, 1.0)  # mean and width


def gauss(mean, width):
    """The probability of each place of the grid."""
    p = np.exp(-0.5 * ((GRID - mean) / width) ** 2)
    return p / p.sum()


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def best_critic(painted, lies, gamma=0.05, scores=None):
    """The scores with the least L_D of `generators/parts/critic.py`, by Newton's method: L_D is convex in them.

    painted  the painter's probabilities (49,);  lies  the weight of the contest with false captions
    """
    p, places, h = gauss(*DATA), np.arange(len(GRID)), GRID[1] - GRID[0]
    scores = np.zeros(len(GRID)) if scores is None else scores
    pairs = p[:, None] * painted[None, :]  # (real, painted)
    edges = 0.5 * gamma * ((p + painted)[1:] + (p + painted)[:-1]) / h**2  # of the penalty, between two places
    penalty = np.diag(np.append(edges, 0) + np.append(0, edges)) - np.diag(edges, 1) - np.diag(edges, -1)
    for _ in range(50):
        lead = sigmoid(scores[None, :] - scores[:, None])
        pull, bend = pairs * lead, pairs * lead * (1 - lead)
        gradient = pull.sum(axis=0) - pull.sum(axis=1) + penalty @ scores
        curvature = np.diag(bend.sum(axis=0) + bend.sum(axis=1)) - bend - bend.T + penalty
        lead = sigmoid(scores[::-1] - scores)  # of the false caption over the true one
        pull, bend = lies * p * lead, lies * p * lead * (1 - lead)
        gradient += pull[::-1] - pull
        curvature[places, places] += bend + bend[::-1]
        curvature[places, places[::-1]] -= bend + bend[::-1]
        change = np.linalg.solve(curvature + 1e-9 * np.eye(len(GRID)), gradient)  # a constant more changes nothing
        scores = scores - change
        if np.abs(change).max() < 1e-8:
            return scores - scores.mean()
    raise ArithmeticError("the critic did not settle")


def play(lies, rounds=40, rate=1.0):
    """(mean, width) of the painter where it settles: it starts from the data, and the critic is always at its best."""
    p, (mean, width), scores = gauss(*DATA), DATA, None
    for _ in range(rounds):
        painted = gauss(mean, width)
        scores = best_critic(painted, lies, scores=scores)
        loss = (np.logaddexp(0, scores[:, None] - scores[None, :]) * p[:, None]).sum(axis=0)  # of painting each place
        z, loss = (GRID - mean) / width, loss - (painted * loss).sum()
        mean -= rate * (painted * loss * z / width).sum()
        width *= np.exp(-rate * (painted * loss * (z * z - 1)).sum())
    return mean, width
