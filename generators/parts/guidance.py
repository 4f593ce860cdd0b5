"""Classifier-free guidance: follow the caption more strictly than the data do (Ho and Salimans 2022).

A network that now and then gets no caption in training (`drop_captions`) also learns what images look like whatever the
caption.  Of its two answers, without and with the caption, the difference is what the caption changes; `guide` takes
that change w times.  Diffusion guides its guesses so, a flow the scales and shifts of its couplings (`bijectors.ask`).
"""

from typing import TypeVar

import numpy as np

Answer = TypeVar("Answer")  # of a network: an array, or a tensor


def drop_captions(tokens: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Replace each caption by the empty one with this probability, independently (Ho and Salimans 2022, algorithm 1).

    tokens (N, L), in which 0 is padding, so that zeros are the empty caption.
    """
    dropped = rng.random(len(tokens)) < probability
    return np.where(dropped[:, None], 0, tokens)


def guide(unconditional: Answer, conditional: Answer, weight: float) -> Answer:
    """e_u + w (e_c - e_u) (Ho and Salimans 2022, eq. 6, with their w plus 1), of arrays or tensors of one shape.

    For w > 1 it goes beyond the answer with the caption, so that the picture shows the caption more plainly than the
    average one would.  Grouped so, w = 0 and w = 1 are exact.
    """
    return (1 - weight) * unconditional + weight * conditional
