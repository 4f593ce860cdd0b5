"""The examples in the docstrings of nn do what they say."""
import doctest
import importlib
import pkgutil

import pytest

import nn
from nn import differences, modules, optim, tensor
from nn import functional as F

NAMES = sorted(module.name for module in pkgutil.walk_packages(nn.__path__, "nn."))
TAUGHT = [
    nn.Tensor, nn.Tensor.backward, nn.no_grad, nn.Function, tensor.unbroadcast, modules.Module, modules.Linear,
    modules.Conv2d, F.linear, F.conv2d, F.split, F.log_softmax, F.cross_entropy, optim.AdamW,
    differences.numerical_derivative,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_examples_do_what_they_say(name):
    """Catches: an example that a change of an op, its errors or its printed form has left behind."""
    assert not doctest.testmod(importlib.import_module(name)).failed


@pytest.mark.parametrize("taught", TAUGHT, ids=lambda taught: taught.__qualname__)
def test_what_a_reader_meets_first_has_an_example(taught):
    """Catches: examples that are lost, or that doctest no longer finds, so that the test above tests nothing."""
    assert doctest.DocTestParser().get_examples(taught.__doc__)
    found = doctest.DocTestFinder().find(importlib.import_module(taught.__module__))
    assert any(test.name.endswith(f".{taught.__qualname__}") and test.examples for test in found)
