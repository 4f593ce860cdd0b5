"""Cut the body of a function out of a source file and put another in; everything around it stays, byte for byte.

The syntax tree says where the function is; the cut itself is made in the bytes of the file, so that comments, blank
lines, line endings and the order of everything else survive:

    @staticmethod
    def backward(ctx, grad):        | before: up to the end of the signature's line,
        "What it computes."         |         or of the docstring's
        # (N, D)                    : body:   comments included, since they would tell the answer
        return grad * ctx.saved[0]  :
                                    | after
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import tokenize
from dataclasses import dataclass

Def = ast.FunctionDef | ast.AsyncFunctionDef


class SurgeryError(ValueError):
    """The function is not in the file, or the file is not Python."""


@dataclass(frozen=True)
class Cut:
    """A source file in three parts, around the body of one function."""

    before: bytes
    body: bytes  # with the line break that opens it and without the one that ends it
    after: bytes
    indent: str  # of the body's statements
    newline: str
    node: Def

    def with_body(self, body: bytes) -> bytes:
        """The whole file again, with this body in place of the old one."""
        return self.before + body + self.after

    def layout(self, text: str) -> bytes:
        """`text`, statements that begin in column 0, as a body of this function."""
        lines = _shifted(text.strip("\n").rstrip(), self.indent)
        return (self.newline + self.newline.join(lines)).encode()

    @property
    def text(self) -> str:
        """The body as statements that begin in column 0, comments included."""
        held = _string_lines(self.node)
        lines = enumerate(_lines(self.body.decode()), start=len(self.before.splitlines()))
        return "\n".join(x if i in held else x.removeprefix(self.indent) for i, x in lines).strip("\n").strip()

    def fingerprint(self) -> str:
        """A hash of what the body does: comments, layout and docstring do not change it."""
        statements = self.node.body[_has_docstring(self.node) :]
        return hashlib.sha256("\n".join(ast.dump(s) for s in statements).encode()).hexdigest()[:12]


def cut(source: bytes, name: str) -> Cut:
    """Cut `source` around the body of the function with the dotted name `name`, as in `Conv2d.backward`."""
    try:
        source.decode()
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise SurgeryError(_syntax_message(error)) from error
    node = find(tree, name)
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + column

    if _has_docstring(node):
        doc = node.body[0]
        begin = offset(doc.end_lineno, doc.end_col_offset)
    else:
        begin = _signature_end(source, node, offset)
    begin = _past_comment(source, begin)
    end = _line_end(source, max(begin, offset(node.body[-1].end_lineno, node.body[-1].end_col_offset)))
    end = _past_comment_lines(source, end, node.col_offset)

    statements = node.body[_has_docstring(node) :]
    own_line = [s for s in statements if not source[starts[s.lineno - 1] : offset(s.lineno, s.col_offset)].strip()]
    if own_line:
        first = own_line[0]
        indent = source[starts[first.lineno - 1] : offset(first.lineno, first.col_offset)].decode()
    else:
        definition = lines[node.lineno - 1]
        indent = definition[: len(definition) - len(definition.lstrip())].decode() + "    "
    newline = "\r\n" if b"\r\n" in source else "\n"
    return Cut(source[:begin], source[begin:end], source[end:], indent, newline, node)


def find(tree: ast.AST, name: str) -> Def:
    """The definition that the dotted name means: classes and functions may be nested, or stand inside an if or try."""
    scope: ast.AST = tree
    for part in name.split("."):
        found = [n for n in _definitions(scope) if n.name == part]
        if not found:
            inside = "" if scope is tree else f" inside {scope.name}"
            raise SurgeryError(f"no definition of {part}{inside} (looking for {name})")
        scope = found[-1]  # Python too keeps the last of several
    if not isinstance(scope, Def):
        raise SurgeryError(f"{name} is a class, not a function")
    return scope


def dedented_body(node: Def) -> str:
    """The body of a definition as normalised code, without docstring and comments."""
    statements = node.body[_has_docstring(node) :] or [ast.Pass()]
    return ast.unparse(ast.Module(body=statements, type_ignores=[]))


def _definitions(scope: ast.AST):
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, Def | ast.ClassDef):
            yield child
        elif not isinstance(child, ast.expr | ast.Lambda):
            yield from _definitions(child)


def _has_docstring(node: Def) -> bool:
    first = node.body[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _signature_end(source: bytes, node: Def, offset) -> int:
    """Just past the colon that ends the signature: the first one outside all brackets."""
    depth = 0
    begin = offset(node.lineno, node.col_offset)
    text = source[begin:].decode()
    text_lines = io.StringIO(text, newline="").readlines()
    for token in tokenize.generate_tokens(iter(text_lines).__next__):
        if token.type != tokenize.OP:
            continue
        depth += token.string in "([{"
        depth -= token.string in ")]}"
        if token.string == ":" and depth == 0:
            row, column = token.end
            return begin + len("".join([*text_lines[: row - 1], text_lines[row - 1][:column]]).encode())
    raise SurgeryError(f"the signature of {node.name} does not end")


def _lines(text: str) -> list[str]:
    return re.split("\r\n|\r|\n", text)


def _line_end(source: bytes, position: int) -> int:
    found = re.compile(rb"[\r\n]").search(source, position)
    return found.start() if found else len(source)


def _past_comment(source: bytes, position: int) -> int:
    """The end of this line, if nothing but a comment stands on the rest of it."""
    end = _line_end(source, position)
    rest = source[position:end].strip()
    return end if not rest or rest.startswith(b"#") else position


def _past_comment_lines(source: bytes, position: int, column: int) -> int:
    """Past comments below the last statement that are indented deeper than the `def`: they belong to the body."""
    end = position
    for line in source[position:].splitlines(keepends=True)[1:]:
        position = source.index(line, position + 1)
        stripped = line.strip()
        if stripped and not (stripped.startswith(b"#") and len(line) - len(line.lstrip()) > column):
            break
        if stripped:
            end = _line_end(source, position)
    return end


def _string_lines(node: Def) -> set[int]:
    """The numbers of the lines that begin inside a string of several lines; their indentation is part of a value."""
    held: set[int] = set()
    for child in ast.walk(node):
        is_text = isinstance(child, ast.Constant) and isinstance(child.value, str | bytes)
        if is_text or isinstance(child, ast.JoinedStr):
            held.update(range(child.lineno + 1, child.end_lineno + 1))
    return held


def _shifted(text: str, indent: str) -> list[str]:
    """The lines of `text` with `indent` before each, but for blank ones and those that begin inside a string."""
    lines = _lines(text)
    function = ast.parse("\n".join(["def f():", *("    " + line for line in lines)])).body[0]
    held = {number - 1 for number in _string_lines(function)}
    return [line if number in held or not line.strip() else indent + line for number, line in enumerate(lines, start=1)]


def _syntax_message(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        line = error.object[: error.start].count(b"\n") + 1
        return f"line {line}: a byte ({error.object[error.start]:#x}) that is not UTF-8; save the file as UTF-8"
    if isinstance(error, SyntaxError) and error.lineno:
        shown = (error.text or "").rstrip()[:300]
        return f"line {error.lineno}: {error.msg}" + (f"\n    {shown}" if shown else "")
    return str(error)
