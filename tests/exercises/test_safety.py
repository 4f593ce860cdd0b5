"""What was written is never lost, whatever breaks is one sentence, and no verdict is to be had by accident."""

import os
import re
import resource
import subprocess
import sys

import pytest

from tests.exercises import toy
from tests.exercises import workspace as desk
from tests.exercises.cli import main
from tests.exercises.judge import REPOSITORY, Judge
from tests.exercises.report import verdict_lines

OWN = "y = x  # mine\nreturn x + y"


@pytest.fixture
def course(tmp_path):
    return toy.make(tmp_path)


@pytest.fixture
def run(course, capsys):
    def command(*arguments):
        status = main(list(arguments), course)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return status, captured.out + captured.err

    return command


def write(course, id, body):
    desk.put(course.workspace, course.get(id), body)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    with Judge(toy.make(tmp_path_factory.mktemp("toy")), preload=True) as judge:
        yield judge


@pytest.fixture
def judged(course, judge):
    """`check`, by a judge that is there already."""
    judge.course = course

    def check(id):
        verdict = judge.verdict(course.get(id), course.workspace)
        status = {"passed": 0, "refused": 2, "error": 2}.get(verdict["status"], 1)
        return status, "\n".join(verdict_lines(course.get(id), verdict))

    return check


def source(course):
    return (course.workspace / "nn/toy.py").read_text()


def backups(course):
    return "".join(path.read_text() for path in (course.workspace / "backups").rglob("*.py"))


@pytest.mark.parametrize("damage", ["missing", "garbled", "in conflict"])
def test_without_its_progress_file_written_code_stays(course, run, damage):
    run("start", "double")
    write(course, "double", OWN)
    run("start", "total")
    path = course.workspace / "progress.txt"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"\x00\xff" * 9 if damage == "garbled" else b"<<<<<<< ours\n=======\n>>>>>>> theirs\n")
    status, text = run("start", "double")
    assert status == 0 and "it stays" in text and "y = x  # mine" in source(course)
    assert "np.sum(double(x))" in source(course), "the blank of the other is solved again"
    assert run("check", "double")[0] == 0


def test_where_the_library_has_changed_too_the_file_is_kept(course, run):
    run("start", "double")
    write(course, "double", OWN)
    (course.workspace / "progress.txt").unlink()
    library = course.root / "nn/toy.py"
    library.write_text("# newer\n" + library.read_text())
    status, text = run("start", "double")
    assert status == 0 and "names none" in text and "y = x  # mine" in backups(course)


def test_a_closed_output_is_no_traceback(course, run, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it under `>&-`
    assert main(["list"], course) == 0


def test_code_that_was_written_before_its_start_stays(course, run):
    run("start", "double")
    write(course, "total", "return 2.0 * sum(x)")
    assert "it stays" in run("start", "total")[1] and "2.0 * sum" in source(course)


def test_notes_in_a_blank_are_kept(course, run):
    run("start", "double")
    write(course, "double", "# perhaps x + x?\n" + course.get("double").stub)
    assert "is kept in" in run("start", "total")[1] and "perhaps x + x?" in backups(course)


def test_the_librarys_code_with_comments_of_ones_own_is_kept(course, run):
    run("start", "total")
    write(course, "double", "return 2 * x  # my words")
    assert "is kept in" in run("start", "double")[1] and "my words" in backups(course)


def test_a_file_that_is_not_python_stops_no_other_exercise(course, run):
    second = course.root / "nn/other.py"
    second.write_text(toy.LIBRARY)
    catalogue = course.root / "tests/exercises/exercises.toml"
    catalogue.write_text(catalogue.read_text().replace("nn.toy:total", "nn.other:total"))
    course = type(course).at(course.root)
    assert main(["start", "double"], course) == 0
    write(course, "double", OWN)
    path = course.workspace / "nn/toy.py"
    path.write_text(source(course) + "def broken(:\n")
    assert main(["start", "total"], course) == 0
    assert "y = x  # mine" in source(course)
    assert main(["next"], course) == 2 and main(["diff", "double", "--give-up"], course) == 2


def test_a_file_that_is_not_python_is_named(course, run):
    run("start", "double")
    path = course.workspace / "nn/toy.py"
    path.write_text(source(course) + "def broken(:\n")
    for command in (["next"], ["start", "total"], ["diff", "double", "--give-up"]):
        status, text = run(*command)
        assert status == 2 and "workspace/nn/toy.py, line" in text


def test_a_file_that_is_gone_comes_back_blank(course, run):
    run("start", "double")
    write(course, "double", OWN)
    run("check")
    (course.workspace / "nn/toy.py").unlink()
    status, text = run("check")
    assert status == 2 and "There is no file" in text
    assert "blank again: double" in run("start", "total")[1]
    assert "not started" in run("check", "double")[1] or "begin with" in run("check", "double")[1]


@pytest.mark.parametrize(
    "body, status, expected",
    [
        ("import pytest\npytest.skip('hard')", 1, "skipped the test"),
        ("import pytest\npytest.exit('enough')", 1, ""),
        ("import os\nos._exit(0)", 1, "ended before"),
        ("import sys\nsys.exit(0)", 1, "left the program"),
        ("return open('nn/toy.py').read()", 1, "No such file"),
        ("from tests.oracles import numeric\nreturn x + x", 2, "imports from `tests`"),
        ("import importlib\nreturn importlib.import_module('tests.exercises.solutions') and x + x", 1, "no module"),
        ("import numpy\nnumpy.isclose = lambda a, *b, **c: a == a\nreturn x", 1, "expected"),
        ("raise type('Odd', (Exception,), {'__str__': lambda s: 1 / 0})()", 1, "cannot be shown"),
        ("import sys\nsys.stdout.close()\nreturn 3 * x", 1, "expected"),
        ("raise ValueError('a' * 10**6)", 1, "ValueError: aaa"),
        ("print('a' * 10**6)\nreturn 3 * x", 1, "expected"),
        ("return x + x if input() else x", 1, "nobody answers input()"),
        ("breakpoint()\nreturn 3 * x", 1, "`check --replay` does"),
        ("return len(bytearray(1 << 36)) * x", 1, "MemoryError"),
        ("return [2.0 * v for v in x] if x.ndim else 2 * x", 1, "list"),
        ("class Liar:\n    __array__ = lambda s, *a, **k: x + x\nreturn Liar()", 1, "Liar"),
    ],
    ids=range(17),
)
def test_no_way_to_be_wrong_is_a_pass_or_a_traceback(course, run, judged, body, status, expected):
    run("start", "double")
    write(course, "double", body)
    answer, text = judged("double")
    assert answer == status and expected in text and len(text) < 9000, text


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("import numpy as np", "import numpy as np\nimport sys; sys.exit(3)", "left the program"),
        (
            "import numpy as np",
            "import numpy as np\nimport pytest; pytest.skip('', allow_module_level=True)",
            "skipped",
        ),
        ('"""A library', '# caf\udce9\n"""A library', "line 1: a byte (0xe9) that is not UTF-8"),
        ("class Scale:", "double = np.negative\n\n\nclass Scale:", "is a ufunc, not a function"),
        ("    @staticmethod\n", "", "above `def backward` stands nothing; it was @staticmethod"),
    ],
    ids=["exit", "skip", "latin-1", "ufunc", "staticmethod"],
)
def test_what_surrounds_the_function_may_be_wrong(course, run, judged, old, new, expected):
    id = "scale-backward" if "staticmethod" in old else "double"
    run("start", id)
    write(course, id, "return grad * ctx" if id == "scale-backward" else OWN)
    path = course.workspace / "nn/toy.py"
    path.write_bytes(source(course).replace(old, new, 1).encode("utf-8", "surrogateescape"))
    status, text = judged(id)
    assert status in (1, 2) and expected in text, text


def command(course, *words, **options):
    code = (
        "import sys; from pathlib import Path; from tests.exercises.cli import main;"
        "from tests.exercises.catalogue import Course;"
        f"sys.exit(main({list(words)!r}, Course.at(Path({str(course.root)!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, **options
    )
    return done.returncode, done.stdout + done.stderr


def test_a_breakpoint_can_be_answered_where_one_test_is_replayed(course, run):
    run("start", "double")
    write(course, "double", "breakpoint()\nreturn 3 * x")
    run("check")
    status, text = command(course, "check", "--replay", input="p 'x is', x\nc\n")
    assert status == 1 and "('x is', " in text and "Namespace" not in text


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS") or sys.platform == "darwin", reason="no limit of memory here")
def test_a_limit_of_memory_from_outside_holds(course, run):
    run("start", "double")
    write(course, "double", OWN)
    status, text = command(
        course, "check", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    )
    assert status == 0, text


def test_ctrl_c_ends_a_check_and_what_it_runs(course, run):
    run("start", "double")
    write(
        course,
        "double",
        f"import os\nopen({str(course.root / 'pid')!r}, 'w').write(str(os.getpid()))\nwhile True: pass",
    )
    code = f"""
import os, signal, sys, threading, time
from pathlib import Path
from tests.exercises.catalogue import Course
from tests.exercises.cli import main

def stop():
    pid = Path({str(course.root / "pid")!r})
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.1)
    os.kill(0, signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=stop, daemon=True).start()
sys.exit(main(["check"], Course.at(Path({str(course.root)!r}))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, start_new_session=True, timeout=60)
    assert done.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int((course.root / "pid").read_text()), 0)


def test_backups_of_one_second_do_not_replace_each_other(course, run):
    run("start", "double")
    for number in range(3):
        write(course, "double", f"return {number}")
        run("reset", "double")
    assert all(f"return {number}\n" in backups(course) for number in range(3))
    assert re.search(r"raise NotImplementedError", source(course))
