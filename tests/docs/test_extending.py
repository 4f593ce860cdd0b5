"""docs/extending.md, typed in as it stands into a copy of the project, and its commands run there."""
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.docs.pages import HOME

PAGE = (HOME / "docs/extending.md").read_text(encoding="utf-8")
SECTIONS = {title: text for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)}
FENCED = re.compile(r"(?:^`(\S+)`:\n\n)?^```(\w*)\n(.*?)^```$", flags=re.M | re.S)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project's packages and tests, to be written to."""
    copy = tmp_path_factory.mktemp("extending")
    for path in HOME.glob("*"):
        if path.name in ("setup.cfg", "conftest.py"):
            shutil.copy(path, copy)
        elif (path / "__init__.py").exists():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def type_in(copy, section):
    """Write what the section shows; returns its commands."""
    commands = []
    for name, language, code in FENCED.findall(SECTIONS[section]):
        if not language:
            commands += code.splitlines()
            continue
        path = copy / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if language == "diff":
            lines = code.splitlines(keepends=True)
            old, new = ("".join(line[1:] for line in lines if line[0] in marks) for marks in (" -", " +"))
            assert text.count(old) == 1, f"{name} does not have, once:\n{old}"
            text = text.replace(old, new)
        else:
            text += code
        path.write_text(text, encoding="utf-8")
    return commands


def run(copy, command):
    """A command of the page, in the copy; returns (exit status, what it printed)."""
    python = shlex.quote(sys.executable)
    words = f'python() {{ {python} "$@"; }}; inkling() {{ {python} -m generators "$@"; }}; {command}'
    environment = {**os.environ, "PYTHONPATH": str(copy), "XDG_CACHE_HOME": str(copy / "cache")}
    done = subprocess.run(words, shell=True, cwd=copy, env=environment, text=True, capture_output=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("section", SECTIONS)
def test_what_the_page_adds_works(copy, section):
    """Catches: an example that no longer fits the code around it, is incomplete, or is wrong."""
    for command in type_in(copy, section):
        status, printed = run(copy, command)
        assert status == 0, f"{command}\n{printed}"
