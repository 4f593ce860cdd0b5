"""Dropout: numbers set to zero at random, so that a network does not rely on any one of them."""

import numpy as np

from nn.ops.elementwise import mul
from nn.tensor import Tensor


def dropout(x, p: float, rng: np.random.Generator) -> Tensor:
    """y = x m / (1 - p) with m = 0 with probability p (0 <= p < 1), else 1, so that E[y] = x.

    Source: Srivastava et al. 2014, in the "inverted" form, which leaves nothing to do at test time.
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout() needs a probability with 0 <= p < 1; given {p}")
    # float32 whatever the dtype of x, so that both precisions drop the same numbers
    kept = rng.random(x.shape, dtype=np.float32) >= p
    return mul(x, (kept / (1 - p)).astype(x.dtype if x.dtype.kind == "f" else np.float32))
