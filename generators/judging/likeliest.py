"""A generator is a classifier, too: which caption makes an image likeliest?

A model that paints images from captions says, in one way or another, how probable an image is under a caption.  By
Bayes' rule, of captions that are equally likely before the image is seen,

    p(c | x) = p(x | c) / sum_c' p(x | c')

so only the differences between captions count, and a family's `weigh` gives log p(x | c) up to a constant, with the
same noise for each caption: a flow exactly, a VAE and diffusion by the bounds that they are trained by.
"""

from collections.abc import Sequence

import numpy as np

from generators.family import Family


def probabilities(model: Family, image: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """p(caption | image (H, W, C)) of each of these captions: float64 (len(captions),)."""
    logs = model.weigh(image, captions)
    shares = np.exp(logs - logs.max())
    return shares / shares.sum()
