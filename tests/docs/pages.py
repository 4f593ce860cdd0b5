"""The documentation as tests read it: the pages, and what stands in their code blocks."""
import re
from pathlib import Path

HOME = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of that language on a page (a path from the project's root); "" is the language of commands."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (HOME / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    return [code for given, code in found if given == language]
