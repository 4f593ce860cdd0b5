"""The normalizing flow: read `bijectors` (the layers), `conditioning` (what captions say to them), then `realnvp`.

`flowgan` adds a critic.
"""
