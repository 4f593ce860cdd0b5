"""How good the pictures are: read `classifier` (the judge), `metrics` (the figures), then `evaluate` (the protocol).

`likeliest` lets a generator judge: which caption makes an image likeliest?
"""
