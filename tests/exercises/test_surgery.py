"""Surgery: the cut is byte-exact, finds nested targets, and leaves nothing of the answer behind."""

import ast

import pytest

from tests.exercises.surgery import SurgeryError, cut, dedented_body

SOURCE = b'''\
"""A module."""
import numpy as np  # caf\xc3\xa9


class Outer:
    class Inner:
        @staticmethod
        def backward(ctx, grad: dict[str, int] = {"a:b": 1}) -> "x: y":  # (N, D)
            """What it computes.

            y = x
            """
            # the answer is: grad times two
            text = """kept
  as it is"""

            return grad * 2  # there
            # and this belongs to it

        # this does not

    def method(self):
        def helper(v):
            return v
        return helper(1)


def bare(x): return x + 1


def documented(x):
    """Only \xc3\xa9."""; return x


def empty(x):
    """Nothing else."""


if True:
    def guarded(
        a,
        b=lambda: 3,
    ):
        return a
after = 1
'''
NAMES = ["Outer.Inner.backward", "Outer.method", "Outer.method.helper", "bare", "documented", "empty", "guarded"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [b"\n", b""])
def test_stub_and_graft_give_back_every_byte(name, newline, last):
    source = SOURCE.removesuffix(b"\n").replace(b"\n", newline) + last.replace(b"\n", newline)
    original = cut(source, name)
    stub = original.with_body(original.layout("# write me\nraise NotImplementedError('x')"))
    ast.parse(stub)
    assert cut(stub, name).text == "# write me\nraise NotImplementedError('x')"
    assert b"\n" not in stub.replace(newline, b"") or newline == b"\n"
    assert cut(stub, name).with_body(original.body) == source


def test_everything_but_the_body_stays_and_nothing_of_the_body_does():
    original = cut(SOURCE, "Outer.Inner.backward")
    stub = original.with_body(original.layout("pass")).decode()
    assert '# (N, D)\n            """What it computes.' in stub
    assert "@staticmethod" in stub and "# this does not" in stub and "café" in stub
    assert "answer" not in stub and "belongs" not in stub and "kept" not in stub
    assert stub.startswith(original.before.decode()) and stub.endswith(original.after.decode())


def test_text_of_a_body_moves_between_indentations():
    original = cut(SOURCE, "Outer.Inner.backward")
    assert 'text = """kept\n  as it is"""' in original.text  # a string's own lines are not shifted
    other = cut(SOURCE, "guarded")
    moved = other.with_body(other.layout(original.text))
    assert dedented_body(cut(moved, "guarded").node) == dedented_body(original.node)


def test_fingerprint_sees_code_and_nothing_else():
    original = cut(SOURCE, "bare")
    same = original.with_body(original.layout("# why\n\nreturn (x + 1)"))
    other = original.with_body(original.layout("return x + 2"))
    assert cut(same, "bare").fingerprint() == original.fingerprint() != cut(other, "bare").fingerprint()


@pytest.mark.parametrize("name", ["missing", "Outer.missing", "Outer", "bare.x"])
def test_a_target_that_is_not_there_is_named(name):
    with pytest.raises(SurgeryError, match=name.rsplit(".", 1)[-1]):
        cut(SOURCE, name)


def test_a_file_that_is_not_python_says_where():
    with pytest.raises(SurgeryError, match="line 2"):
        cut(b"x = 1\ndef f(:\n    pass\n", "f")
