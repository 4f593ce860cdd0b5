"""The suite; a package, so that the exercise checker runs as `python -m tests.exercises` and oracles are importable."""
