"""Captions dropped in training, and what guidance makes of two answers."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from generators.parts.guidance import drop_captions, guide


def test_captions_are_dropped_one_by_one():
    """Catches one draw for the whole batch, a word dropped instead of a caption, and the inverse probability."""
    tokens = np.random.default_rng(1).integers(1, 6, (2000, 3))
    kept = tokens.copy()
    dropped = drop_captions(tokens, 0.25, np.random.default_rng(2))
    np.testing.assert_array_equal(tokens, kept)
    gone = (dropped == 0).all(axis=1)
    np.testing.assert_array_equal(dropped[~gone], tokens[~gone])
    assert 0.2 < gone.mean() < 0.3
    np.testing.assert_array_equal(drop_captions(tokens, 0.0, np.random.default_rng(2)), tokens)
    assert not drop_captions(tokens, 1.0, np.random.default_rng(2)).any()


@given(st.integers(0, 10**6))
def test_guidance_is_exact_at_zero_and_one_and_goes_beyond(seed):
    """Catches: e_u + w (e_c - e_u) computed as it stands, which is not e_c for w = 1; float64 out of float32."""
    unconditional, conditional = np.random.default_rng(seed).standard_normal((2, 3, 4), np.float32)
    np.testing.assert_array_equal(guide(unconditional, conditional, 0.0), unconditional)
    np.testing.assert_array_equal(guide(unconditional, conditional, 1.0), conditional)
    beyond = guide(unconditional, conditional, 3.0)
    np.testing.assert_allclose(beyond, conditional + 2 * (conditional - unconditional), rtol=0, atol=1e-5)
    assert beyond.dtype == np.float32
