"""The whole flow on a toy library: start, check, hint, diff, reset, next, with every kind of verdict."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.exercises import toy
from tests.exercises import workspace as desk
from tests.exercises.catalogue import Course, ExerciseError
from tests.exercises.cli import main
from tests.exercises.judge import REPOSITORY, Judge


@pytest.fixture
def course(tmp_path):
    return toy.make(tmp_path)


@pytest.fixture
def run(course, capsys):
    def command(*arguments):
        status = main(list(arguments), course)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return command


def write(course: Course, id: str, body: str) -> None:
    desk.put(course.workspace, course.get(id), body)


def test_from_start_to_the_last_one(course, run):
    status, text = run("list")
    assert status == 0 and "0 of 3 passed" in text and "First things" in text and "Later things" in text
    status, text = run("start")
    assert status == 0 and "nn/toy.py:5" in text
    blanked = (course.workspace / "nn/toy.py").read_text()
    assert '"""Twice x."""' in blanked and "the answer" not in blanked and "return grad * a" in blanked
    assert "not started" in run("check")[1]
    write(course, "double", "return x + x")
    status, text = run("check")
    assert status == 0 and "passed" in text and "workspace/nn/toy.py" in text
    assert "scale-backward" in run("next")[1]
    assert "return x + x" in (course.workspace / "nn/toy.py").read_text(), "earlier exercises keep the learner's code"
    assert "np.sum(double(x))" in (course.workspace / "nn/toy.py").read_text(), "later ones stay solved"
    write(course, "scale-backward", "return ctx * grad")
    assert run("check")[0] == 0
    run("next")
    write(course, "total", "return sum(v + v for v in x)")
    status, text = run("check")
    assert status == 0 and "the last one" in text
    assert "3 of 3 passed" in run("list")[1]
    write(course, "double", "return 2 * x + 0")
    assert re.search(r"double .* changed since it passed", run("list")[1])
    assert "\033" not in text, "colour is for terminals"


def test_a_wrong_answer_is_explained(course, run):
    run("start", "double")
    write(course, "double", "print('I was here')\nreturn -2 * x")
    status, text = run("check")
    assert status == 1
    for part in ("double(x)", "x: float64 ()", "yours", "expected", "the sign is flipped", "I was here", "0 of 3"):
        assert part in text
    assert "Traceback" not in text and "assert" not in text
    write(course, "double", "return 2 * x if x.ndim < 2 else 3 * x")
    status, text = run("check")
    assert "wrong only on matrices" in text and "2 of 3 tests pass" in text and "x: float64 (2, 3) = [[" in text
    replayed = run("check", "--replay")
    assert replayed[0] == 1 and "1.5" in replayed[1] and "0 of 1" in replayed[1]


@pytest.mark.parametrize(
    "body, expected",
    [
        ("return [undefined]", ["NameError", "line 7", "return [undefined]"]),
        ("x += x\nreturn x", ["the input x", "changed in place"]),
        ("return None", ["None", "is a return missing"]),
        ("return 'twice'", ["str"]),
        ("import os\nos.abort()", ["died of signal", "SIGABRT"]),
        ("raise NotImplementedError('later')\nreturn 1", ["NotImplementedError", "still reached"]),
    ],
)
def test_other_ways_to_be_wrong(course, run, body, expected):
    run("start", "double")
    write(course, "double", body)
    status, text = run("check")
    assert status == 1
    for part in expected:
        assert part in text, text
    assert "Traceback" not in text


def test_an_endless_loop_is_a_time_out(course):
    main(["start", "double"], course)
    write(course, "double", "while True:\n    pass")
    began = time.monotonic()
    with Judge(course) as judge:
        verdict = judge.verdict(course.get("double"), course.workspace, timeout=2)
    assert verdict["status"] == "timeout" and time.monotonic() - began < 15


def test_a_file_that_does_not_parse_says_where(course, run):
    run("start", "double")
    path = course.workspace / "nn/toy.py"
    path.write_text(path.read_text().replace("import numpy as np", "import numpy as"))
    status, text = run("check")
    assert status == 1 and "line 2" in text and "Traceback" not in text
    status, text = run("reset")
    assert status == 0 and "backups" in text and "import numpy as np" in path.read_text()


def test_only_the_workspace_is_judged(course, run, tmp_path):
    run("start", "double")
    write(course, "double", "return x + x")
    path = course.workspace / "nn/toy.py"
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(toy.LIBRARY)
    source = path.read_text()
    path.write_text(source + f"\nimport sys; sys.path.insert(0, {str(tmp_path)!r}); from elsewhere import double\n")
    status, text = run("check")
    assert status == 2 and "that is not your code" in text and "elsewhere.py" in text
    path.unlink()
    path.symlink_to(course.root / "nn/toy.py")  # the solved one
    status, text = run("check")
    assert status == 2 and "not your code" in text
    path.unlink()
    (course.workspace / "nn/__init__.py").unlink()
    status, text = run("check")
    assert status == 2 and "There is no file" in text


def test_no_tests_is_an_error_and_not_a_pass(course, run):
    tests = course.root / "checks/test_toy.py"
    tests.write_text(tests.read_text().replace('exercise(id="double")', 'exercise(id="doubles")'))
    run("start", "double")
    write(course, "double", "return x + x")
    status, text = run("check")
    assert status == 2 and "No test was found" in text


def test_hints_come_one_by_one(run):
    run("start", "double")
    assert [run("hint")[1].count("hint ") for _ in range(4)] == [1, 2, 3, 3]
    assert "return x + x" in run("hint")[1]


def test_diff_only_after_passing_or_giving_up(course, run):
    run("start", "double")
    status, text = run("diff")
    assert status == 2 and "--give-up" in text
    assert "return 2 * x  # the answer" in run("diff", "--give-up")[1]
    write(course, "double", "return x + x")
    run("check")
    status, text = run("diff")
    assert status == 0 and "return x + x" in text and "return 2 * x" in text


def test_reset_keeps_a_backup(course, run):
    run("start", "double")
    write(course, "double", "return x + x")
    run("check")
    status, text = run("reset")
    backup = course.workspace.parent / re.search(r"\S*backups\S*", text)[0]
    assert "return x + x" in backup.read_text()
    assert "not started" in run("check")[1] and "0 of 3 passed" in run("list")[1]


def test_a_blank_left_behind_is_solved_and_written_code_is_kept(course, run):
    run("start", "double")
    status, text = run("start", "total")
    assert "double was still blank" in text
    assert (course.workspace / "nn/toy.py").read_text().count("NotImplementedError") == 1
    write(course, "total", "return 2.0 * sum(x)")
    run("start", "double")
    assert "return 2.0 * sum(x)" in (course.workspace / "nn/toy.py").read_text()
    run("start", "total")
    assert "return 2.0 * sum(x)" in (course.workspace / "nn/toy.py").read_text(), "starting again does not blank"
    assert run("check")[0] == 0


def test_a_newer_library_takes_the_learners_functions_along(course, run):
    run("start", "double")
    write(course, "double", "y = x\nreturn x + y")
    library = course.root / "nn/toy.py"
    newer = library.read_text().replace("return float(result)", "return result + 0.0")
    library.write_text("# a newer version\n" + newer)
    status, text = run("start", "scale-backward")
    source = (course.workspace / "nn/toy.py").read_text()
    assert "has changed" in text and "# a newer version" in source and "y = x\n    return x + y" in source
    assert "return result + 0.0" in source and source.count("raise NotImplementedError") == 1


def test_an_unknown_exercise_and_nothing_started(run):
    status, text = run("start", "doubel")
    assert status == 2 and "did you mean double?" in text
    assert run("check")[0] == 2 and run("hint")[0] == 2
    assert run("check", "total")[0] == 0


def test_watch_checks_on_every_save_and_stays_where_it_is(course, run):
    run("start", "double")
    code = (
        "import sys; from pathlib import Path; from tests.exercises.cli import main;"
        "from tests.exercises.catalogue import Course;"
        f"sys.exit(main(['watch'], Course.at(Path({str(course.root)!r}))))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        # or the tests would fail where they run in the background: there Ctrl-C is ignored, and children inherit it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:

        def until(text):
            for line in process.stdout:
                if text in line:
                    return True

        assert until("not started")
        write(course, "double", "return 3 * x")
        assert until("not yet")
        write(course, "double", "return 2 * x")
        assert until("passed")
        assert until("watching")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert desk.Progress.read(course.workspace / "progress.txt").current == "double"


def test_two_saves_within_one_second_are_told_apart(course):
    main(["start", "double"], course)
    exercise = course.get("double")
    with Judge(course) as judge:
        for body, status in (("return 1 * x", "failed"), ("return 2 * x", "passed"), ("return 3 * x", "failed")):
            write(course, "double", body)
            os.utime(course.workspace / "nn/toy.py", (10**9, 10**9))
            assert judge.verdict(exercise, course.workspace)["status"] == status


def test_the_same_id_twice_is_refused(tmp_path):
    toy.make(tmp_path)
    path = tmp_path / "tests/exercises/exercises.toml"
    path.write_text(path.read_text().replace('id = "total"', 'id = "double"'))
    with pytest.raises(ExerciseError, match="double"):
        Course.at(tmp_path)
