"""What the documentation links to is there: pictures, files, names in them, and headings within pages."""
import re
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
PAGES = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md")), *sorted((HOME / "tests").rglob("*.md"))]


def headings(page: Path, level: str = "#+") -> list[str]:
    """The anchors that GitHub gives a page's headings: lower case, no punctuation, hyphens for spaces."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(rf"^{level} (.+)$", text, flags=re.M)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_every_link_leads_somewhere(page):
    """Catches: a picture that was described and never added, a file or a heading that was renamed."""
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (heading and heading not in headings(target)):
            lost.append(link)
    assert lost == []


def test_names_stand_in_the_files_that_they_link_to():
    """Catches: `module.Name` beside a file from which the class or function has moved."""
    lost, found = [], 0
    for page in PAGES:
        for name, path in re.findall(r"\[`\w+\.(\w+)`\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            if name != "py":
                found += 1
                code = (page.parent / path).read_text(encoding="utf-8")
                lost += [name] * (not re.search(rf"^(class|def) {name}\b", code, flags=re.M))
    assert found >= 8 and lost == []


def test_the_notebooks_table_of_contents_is_complete():
    """Catches: a section that is added to the longest page and cannot be found; one listed twice or out of order."""
    notebook = HOME / "docs/notebook.md"
    contents = notebook.read_text(encoding="utf-8").split("## Contents\n")[1].split("\n## ")[0]
    sections = headings(notebook, "###?")
    assert re.findall(r"\(#(.+)\)", contents) == sections[sections.index("contents") + 1 :]
