"""A course small enough to test the machinery with: a package `nn` of three functions, and what judges them."""

from __future__ import annotations

from pathlib import Path

from tests.exercises.catalogue import Course

LIBRARY = '''\
"""A library of three functions."""
import numpy as np


def double(x):
    """Twice x."""
    return 2 * x  # the answer


class Scale:
    @staticmethod
    def backward(ctx, grad):
        """What flows back through y = a x."""
        a = ctx
        return grad * a


def total(x):
    """The sum of double(x), over all axes."""
    # uses the one above
    result = np.sum(double(x))
    return float(result)
'''

TESTS = """\
import numpy as np
import pytest

import nn.toy as toy
from tests.exercises.trial import Trial


@pytest.mark.exercise(id="double")
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
def test_double(shape):
    x = np.random.default_rng(0).normal(size=shape)
    trial = Trial("double(x)", *(["on matrices"] if len(shape) == 2 else []), x=x)
    trial.expect(trial.run(toy.double, x), x + x)


@pytest.mark.exercise(id="scale-backward")
def test_scale():
    grad = np.random.default_rng(0).normal(size=(2, 3))
    trial = Trial("Scale.backward(ctx, grad)", a=3.0, grad=grad)
    trial.expect(trial.run(toy.Scale.backward, 3.0, grad), grad * 3)


@pytest.mark.exercise(id="total")
def test_total():
    x = np.arange(6.0)
    trial = Trial("total(x)", x=x)
    trial.expect(trial.run(toy.total, x), 30.0)
"""

CATALOGUE = '''\
# A comment.
[[exercise]]
id = "double"
chapter = "First things"
title = "Twice"
target = "nn.toy:double"
tests = "checks/test_toy.py"
hints = [
    "Add it to itself.",
    "x may have any shape.",
    """
return x + x
""",
]

[[exercise]]
id = "scale-backward"
title = "A vector-Jacobian product"
target = "nn.toy:Scale.backward"
tests = "checks/test_toy.py"
compiled = false
hints = ["a", "b", "c = \\"d\\""]

[[exercise]]
id = "total"
chapter = "Later things"
title = "A sum"
target = "nn.toy:total"
tests = "checks/test_toy.py"
hints = ["a", "b", "c"]
'''


def make(root: Path) -> Course:
    """Write the toy library, its tests and its catalogue into `root`."""
    for name, text in {
        "nn/__init__.py": "",
        "nn/toy.py": LIBRARY,
        "datasets/__init__.py": "",
        "generators/__init__.py": "",
        "checks/test_toy.py": TESTS,
        "tests/exercises/exercises.toml": CATALOGUE,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return Course.at(root)
