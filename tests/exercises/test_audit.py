"""The audit and the mutants, on the toy library: a sound exercise is called sound, and every kind of fault is found."""

import pytest

from tests.exercises import audit, mutants, toy
from tests.exercises.catalogue import Course
from tests.exercises.surgery import cut


@pytest.fixture
def course(tmp_path):
    return toy.make(tmp_path)


def change(course: Course, file: str, old: str, new: str) -> Course:
    path = course.root / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return Course.at(course.root)


def test_a_sound_course(course, capsys):
    assert audit.run(course, list(course.exercises)) == 0
    assert "3 exercises, 15 judgements, 0 faults" in capsys.readouterr().out


@pytest.mark.parametrize(
    "file, old, new, fault",
    [
        ("tests/exercises/exercises.toml", '["a", "b", "c"]', '["a", "b"]', "three hints"),
        ("tests/exercises/exercises.toml", "nn.toy:total", "nn.toy:totals", "no definition of totals"),
        ("nn/toy.py", '    """Twice x."""\n', "", "no docstring"),
        ("nn/toy.py", "return 2 * x", "return 3 * x", "the solution: failed"),
        ("checks/test_toy.py", "x + x)", "x * 0)", "zeros: passed"),
        ("checks/test_toy.py", "x + x)", "toy.total(x) * 0 + x + x)", "every later exercise blanked: failed"),
        ("checks/test_toy.py", 'id="total"', 'id="totals"', "that proves nothing"),
    ],
)
def test_faults_are_found(course, capsys, file, old, new, fault):
    course = change(course, file, old, new)
    assert audit.run(course, list(course.exercises)) == 1
    assert fault in capsys.readouterr().out


def test_mutants_are_wrong_in_many_ways(course):
    made = mutants.of(
        cut(
            b'''\
def f(x, n):
    """Doc."""
    y = x.sum(axis=0, keepdims=True) - 2 * n
    if n > 3:
        y = -y
    for i in range(n):
        y[i] += x[i, 1] / n
    return np.maximum(y, x)
''',
            "f",
        ),
        limit=100,
    )
    bodies = [m.body for m in made]
    assert len(set(bodies)) == len(bodies) > 25
    pieces = ["axis=1", "keepdims=False", "+ 2 * n", "2 * n - ", "3 * n", "n >= 3", "y = y", "range(n - 1)", "x[i, 2]"]
    for piece in [*pieces, "n / x[i, 1]", "return -", "np.minimum", "y[i] -= "]:
        assert any(piece in body for body in bodies), piece
    assert len(mutants.of(cut(b"def f(a, b):\n    return (a + b) * (a - b) / (a * b)\n", "f"), limit=10)) == 10
