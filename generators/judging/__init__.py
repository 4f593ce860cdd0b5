"""How good the pictures are: read `classifier` (the judge), `metrics` (the figures), then `evaluate` (the protocol)."""
