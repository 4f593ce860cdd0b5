"""The audit and the mutants, on the toy library: a sound exercise is called sound, and every kind of fault is found."""

from pathlib import Path

import pytest

from tests.exercises import audit, mistakes, mutants, toy
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
    assert audit.run(course, list(course.exercises), jobs=1) == 0
    assert "3 exercises, 15 judgements, 0 faults" in capsys.readouterr().out


CATALOGUE, LIBRARY, TESTS = "tests/exercises/exercises.toml", "nn/toy.py", "checks/test_toy.py"
FAULTS = {
    "on paper, and in the tests": [
        (CATALOGUE, '["a", "b", "c"]', '["a", "b"]', "total: there should be three hints"),
        (CATALOGUE, "nn.toy:Scale.backward", "nn.toy:Scale.backwards", "no definition of backwards"),
        (LIBRARY, '    """Twice x."""\n', "", "double: nn.toy:double has no docstring"),
        (TESTS, "x + x)", "x * 0)", "double: zeros: passed"),
        (TESTS, 'id="total"', 'id="totals"', "that proves nothing"),
    ],
    "in what is judged": [
        (LIBRARY, "return grad * a", "return grad + a", "scale-backward: the solution: failed"),
        (TESTS, "x + x)", "toy.total(x) * 0 + x + x)", "with every later exercise blanked: failed"),
    ],
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_found(course, capsys, kind):
    for file, old, new, _ in FAULTS[kind]:
        course = change(course, file, old, new)
    assert audit.run(course, list(course.exercises), jobs=1) == 1
    told = capsys.readouterr().out
    for *_, fault in FAULTS[kind]:
        assert fault in told, told


def test_every_mistake_can_still_be_made():
    """Catches a solution rewritten without its mistakes, which would go untried."""
    ours = Course.at(Path(__file__).parents[2])
    for mistake in mistakes.ALL:
        mistakes.variant(ours, mistake)


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
