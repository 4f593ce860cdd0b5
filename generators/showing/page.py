"""One HTML page with everything in it: pictures, films, charts and tables, for a browser without a network.

    page = Page("Inkling", "Four ways to make an image from a sentence.")
    page.section("Samples", "Each digit was asked for in words.")
    page.picture(gif_bytes(frames), "A walk through the latent space.")
    page.table(["family", "FID"], [["vae", "12.3"], ["ddpm", "1.9"]])
    page.picture(line_chart({"loss": (steps, losses)}, x_label="step").encode(), "The loss.")
    page.markdown(text, folder)
    page.write("out/demo/index.html")

All text is escaped; of markup it knows `code` between backticks and [a link](page.html). A gray picture is shown as
ink: black on the page by day, and where the reader's screen is dark, white on the page, as in the data.
"""

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from disk import files
from generators.showing.pictures import PictureError, png_bytes

TEMPLATE, STYLE = (Path(__file__).with_suffix(end).read_text(encoding="utf-8") for end in (".html", ".css"))


class Page:
    """A page that grows from top to bottom; whatever is added after a `section` belongs to it."""

    def __init__(self, title: str, lead: str = "", language: str = "en"):
        self.title, self.lead, self.language = title, lead, language
        self._sections: list[tuple[str, list[str]]] = [("", [])]

    def section(self, title: str, text: str = "") -> None:
        """Begin a section; `text` is prose, its paragraphs parted by blank lines."""
        self._sections.append((title, []))
        self.text(text)

    def text(self, text: str) -> None:
        """More prose."""
        paragraphs = re.split(r"\n\s*\n", text.strip())
        self._sections[-1][1].extend(_tag("p", " ".join(paragraph.split())) for paragraph in paragraphs)

    def picture(self, picture: Image.Image | bytes, caption: str = "") -> None:
        """A picture, or the bytes of a PNG, GIF or SVG, as large as it is where there is room."""
        content = picture if isinstance(picture, bytes) else png_bytes(picture)
        if content.startswith(b"<svg"):
            return self._figure("", content.decode(), caption)
        try:
            with Image.open(io.BytesIO(content), formats=("PNG", "GIF")) as opened:
                width, kind = opened.width, opened.format
                red, green, blue = np.moveaxis(np.asarray(opened.convert("RGB")), -1, 0)
                gray = np.array_equal(red, green) and np.array_equal(green, blue)
        except OSError:
            raise PictureError("a page's picture must be a Pillow image or the bytes of a PNG, GIF or SVG") from None
        mark, data = ' class="ink"' if gray else "", base64.b64encode(content).decode("ascii")
        size = f'width="{width}" alt="{escape(caption, quote=True)}"'
        self._figure("picture", f'<img{mark} {size} src="data:image/{kind.lower()};base64,{data}">', caption)

    def table(self, header: Sequence[str], rows: Sequence[Sequence]) -> None:
        """A table; cells are made text by `str`, and a column of figures stands to the right."""
        texts = [[str(cell) for cell in row] for row in rows]
        columns = zip(*texts, strict=True) if texts else [("",)] * len(header)
        figures = [all(re.match(r"[-+−~<>≤≥]?\d|[—–-]$", cell) for cell in column) for column in columns]

        def line(tag: str, cells: Sequence[str]) -> str:
            marks = [' class="number"' if figure else "" for figure in figures]
            return "".join(f"<{tag}{mark}>{_inline(cell)}</{tag}>" for mark, cell in zip(marks, cells, strict=True))

        body = "".join(f"<tr>{line('td', row)}</tr>" for row in texts)
        table = f"<table><thead><tr>{line('th', list(header))}</tr></thead><tbody>{body}</tbody></table>"
        self._figure("wide", table)

    def markdown(self, text: str, folder: Path) -> None:
        """Sections, pictures from the folder (PNG, GIF or SVG), tables and paragraphs, a blank line after each."""
        for block in re.split(r"\n{2,}", text.strip()):
            if block.startswith("## "):
                self.section(block.removeprefix("## "))
            elif picture := re.fullmatch(r"!\[(.*)\]\((.+)\)", block):
                self.picture((folder / picture[2]).read_bytes(), picture[1])
            elif block.startswith("| "):
                head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines())
                self.table(head, rows)
            else:
                self.text(block)

    def html(self) -> str:
        """The page as text."""
        body, links = [], []
        for number, (title, parts) in enumerate(self._sections):
            if title:
                links.append(f'<a href="#s{number}">{_inline(title)}</a>')
                body.append(f'<section id="s{number}"><h2>{_inline(title)}</h2>{"".join(parts)}</section>')
            else:
                body.append("".join(parts))
        contents = f"<nav>{' '.join(links)}</nav>" if len(links) > 2 else ""
        return TEMPLATE.format(
            title=escape(self.title), style=STYLE, lead=_tag("p", self.lead, "lead"), contents=contents,
            body="\n".join(body), language=self.language,
        )  # fmt: skip

    def write(self, path: str | Path) -> None:
        """Write the page, whole or not at all."""
        files.write(path, self.html().encode("utf-8"))

    def _figure(self, classes: str, content: str, caption: str = "") -> None:
        inner = f'<div class="{classes}">{content}</div>' if classes else content
        self._sections[-1][1].append(f"<figure>{inner}{_tag('figcaption', caption)}</figure>")


def _inline(text: str) -> str:
    """Escaped text, with code and links."""
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\[([^]]+)\]\(([\w./-]+)\)", r'<a href="\2">\1</a>', coded)


def _tag(tag: str, text: str, classes: str = "") -> str:
    """An element with escaped text, or nothing for no text."""
    mark = f' class="{classes}"' if classes else ""
    return f"<{tag}{mark}>{_inline(text)}</{tag}>" if text else ""
