"""Wrong solutions made by machine, from the syntax tree of the right ones: every exercise must see through them.

A mutant differs from the solution in one place: a sign, an axis, an operand, a term, a constant.  Which of all the
possible ones are taken is settled by their order, so that the same library gives the same mutants.
"""

from __future__ import annotations

import ast
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.exercises import mistakes, wrapped
from tests.exercises.catalogue import Course, Exercise
from tests.exercises.report import paint
from tests.exercises.surgery import Cut, dedented_body
from tests.exercises.variants import Variant, verdicts
from tests.exercises.workspace import library_cut


@dataclass(frozen=True)
class Mutant:
    kind: str
    about: str  # what was changed into what
    body: str


_OTHER = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Add, ast.Pow: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_NAMES = {
    "maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max", "sum": "mean", "mean": "sum", "sin": "cos",
    "cos": "sin", "log1p": "log", "expm1": "exp", "softplus": "sigmoid", "floor": "ceil",
}  # fmt: skip
_SYMMETRIC = {"swapaxes", "maximum", "min", "max", "minimum", "zip", "isinstance", "logaddexp", "multiply", "add"}
_IDENTITIES = {"exp", "log", "sqrt", "tanh", "abs", "square", "relu", "softplus"}


def of(original: Cut, limit: int = 10) -> list[Mutant]:
    """At most `limit` mutants of the function, of as many kinds as there are."""
    kinds: dict[str, list[Mutant]] = {}
    seen = {dedented_body(original.node)}
    for kind, about, node in _all(original.node):
        body = dedented_body(node)
        if body not in seen:
            seen.add(body)
            kinds.setdefault(kind, []).append(Mutant(kind, about, body))
    chosen: list[Mutant] = []
    while len(chosen) < limit and any(kinds.values()):
        for mutants in kinds.values():
            if mutants and len(chosen) < limit:
                chosen.append(mutants.pop(0))
    return chosen


def _all(function: ast.AST) -> Iterator[tuple[str, str, ast.AST]]:
    """Every mutated copy of the function: (kind, what was changed, the copy)."""
    body = function.body
    skip = 1 if ast.get_docstring(function) is not None else 0
    places = _nodes(body[skip:])
    for number, node in enumerate(places):
        for kind, change in _changes(node):
            mutated = copy.deepcopy(function)
            twin = _nodes(mutated.body[skip:])[number]
            before = ast.unparse(twin)
            new = change(twin)
            if new is not twin:
                _replace(mutated, twin, new)
            ast.fix_missing_locations(mutated)
            yield kind, f"{_short(before)}  ->  {_short(ast.unparse(new))}", mutated


def _nodes(statements: list[ast.stmt]) -> list[ast.AST]:
    """Every node in there, but for annotations, and for what is only there to raise a message."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = list(reversed(statements))
    while todo:
        node = todo.pop()
        found.append(node)
        for name, value in reversed(list(ast.iter_fields(node))):
            if name in ("annotation", "returns") or isinstance(node, ast.Raise) or getattr(node, "arg", "") == "strict":
                continue
            children = value if isinstance(value, list) else [value]
            todo.extend(child for child in reversed(children) if isinstance(child, ast.AST))
    return found


def _changes(node: ast.AST):
    """(kind, change) for all that can be done to this node; a change gets a copy and returns what to put there."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, (ast.Add, ast.Sub)):
            yield "sign", _set(op=_OTHER[type(node.op)]())
        elif type(node.op) in _OTHER:
            yield "operator", _set(op=_OTHER[type(node.op)]())
        if isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult, ast.Pow)):
            yield "swap", lambda n: ast.BinOp(n.right, n.op, n.left)
        if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div)):
            yield "drop", lambda n: n.left
            if isinstance(node.op, (ast.Add, ast.Mult)):
                yield "drop", lambda n: n.right
    elif isinstance(node, ast.AugAssign):
        if type(node.op) in _OTHER:
            yield "sign", _set(op=_OTHER[type(node.op)]())
        yield "overwrite", lambda n: ast.Assign([n.target], n.value)
        yield "delete", lambda n: ast.Pass()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield "sign", lambda n: n.operand
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in _OTHER:
        yield "compare", _set(ops=[_OTHER[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp):
        yield "compare", _set(op=_OTHER[type(node.op)]())
    elif isinstance(node, ast.Return) and node.value is not None and not _is_number(node.value):
        yield "sign", lambda n: ast.Return(_negative(n.value))
    elif isinstance(node, ast.keyword):
        yield from _keyword_changes(node)
    elif isinstance(node, ast.Call):
        yield from _call_changes(node)
    elif isinstance(node, ast.Slice):
        if node.step is not None:
            yield "slice", _set(step=None)
        if node.lower is not None:
            yield "slice", _set(lower=None)
        if node.upper is not None:
            yield "slice", _set(upper=None)
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield "branch", _set(test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "delete", lambda n: ast.Pass()
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name):
        yield "index", lambda n: ast.Subscript(n.value, ast.BinOp(n.slice, ast.Sub(), ast.Constant(1)), n.ctx)
    elif _is_number(node):
        yield "constant", lambda n: ast.Constant(n.value + 1)
        if node.value not in (0, 1):
            yield "constant", lambda n: ast.Constant(n.value / 2 if isinstance(n.value, float) else n.value - 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", lambda n: ast.Constant(not n.value)


def _keyword_changes(node: ast.keyword):
    if node.arg in ("axis", "axes") and _is_number(node.value):
        for other in {0: (1,), 1: (0,), -1: (0,), 2: (1,), 3: (2,)}.get(node.value.value, ()):
            yield "axis", lambda n, other=other: ast.keyword(n.arg, ast.Constant(other))
    elif node.arg in ("axis", "axes") and isinstance(node.value, ast.Tuple) and node.value.elts:
        yield "axis", lambda n: ast.keyword(n.arg, ast.Tuple(n.value.elts[1:], ast.Load()))
        yield "axis", lambda n: ast.keyword(n.arg, ast.Tuple(n.value.elts[:-1], ast.Load()))


def _call_changes(node: ast.Call):
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in _NAMES:
        yield "function", lambda n: _renamed(n, _NAMES[name])
    if name in _IDENTITIES and node.args:
        yield "drop", lambda n: n.args[0]
    if name == "range":
        end = len(node.args) - 1 if len(node.args) < 3 else 1
        yield "range", lambda n: _shortened(n, end)
        if len(node.args) == 1:
            yield "range", lambda n: ast.Call(n.func, [ast.Constant(1), *n.args], [])
    elif len(node.args) >= 2 and name not in _SYMMETRIC and not any(isinstance(a, ast.Starred) for a in node.args[:2]):
        yield "swap", lambda n: ast.Call(n.func, [n.args[1], n.args[0], *n.args[2:]], n.keywords)


def _set(**fields):
    def change(node):
        for name, value in fields.items():
            setattr(node, name, copy.deepcopy(value))
        return node

    return change


def _negative(node: ast.AST) -> ast.AST:
    if isinstance(node, ast.Tuple):
        return ast.Tuple([ast.UnaryOp(ast.USub(), node.elts[0]), *node.elts[1:]], ast.Load())
    return ast.UnaryOp(ast.USub(), node)


def _renamed(node: ast.Call, name: str) -> ast.Call:
    if isinstance(node.func, ast.Attribute):
        node.func.attr = name
    else:
        node.func = ast.Name(name, ast.Load())
    return node


def _shortened(node: ast.Call, end: int) -> ast.Call:
    node.args[end] = ast.BinOp(node.args[end], ast.Sub(), ast.Constant(1))
    return node


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    class Swap(ast.NodeTransformer):
        def visit(self, node):
            return new if node is old else super().generic_visit(node)

    Swap().visit(tree)


def _short(code: str) -> str:
    code = " ".join(code.split())
    return code if len(code) <= 60 else code[:57] + "..."


def report(course: Course, exercises: list[Exercise], jobs: int) -> list[str]:
    """Judge all mutants and all hand-made mistakes, print the figures, and return what falls short of the bar."""
    began = time.monotonic()
    variants, about = [], {}
    for exercise in exercises:
        original = library_cut(course, exercise)
        for mutant in of(original):
            variants.append(Variant(exercise, f"{mutant.kind}: {mutant.about}", ((exercise, mutant.body),)))
        for kind, body in wrapped.of(exercise, original):
            variants.append(Variant(exercise, kind, ((exercise, body),)))
    known = {exercise.id for exercise in exercises}
    for mistake in mistakes.ALL:
        if mistake.exercise in known:
            variant = mistakes.variant(course, mistake)
            variants.append(variant)
            about[id(variant)] = mistake
    survivors, unnamed, by_hand = [], [], 0
    for variant, verdict in verdicts(course, variants, jobs):
        killed = verdict["status"] in ("failed", "timeout", "crashed")
        if not killed:
            survivors.append((variant, verdict))
        mistake = about.get(id(variant))
        if mistake:
            by_hand += 1
            causes = " ".join((verdict.get("lesson") or {}).get("causes", ()))
            if not killed or mistake.cause not in causes:
                unnamed.append(f"{variant.exercise.id}: {variant.name}: not {mistake.cause!r} but {causes!r}")
    unexplained = []
    for variant, verdict in survivors:
        reason = mistakes.HARMLESS.get((variant.exercise.id, variant.name), "")
        if not reason:
            unexplained.append(f"{variant.exercise.id}: {variant.name} survives ({verdict['status']}), unexplained")
        print(paint("survivor", "yellow"), f"{variant.exercise.id}: {variant.name}", f"({reason or 'no reason known'})")
    for line in unnamed:
        print(paint("cause not named", "yellow"), line)
    killed, total = len(variants) - len(survivors), len(variants)
    named = by_hand - len(unnamed)
    print(f"mutants: {total}, killed {killed} ({killed / max(total, 1):.1%}), {time.monotonic() - began:.0f} s")
    print(f"mistakes made by hand: {by_hand}, likely cause named in {named} ({named / max(by_hand, 1):.0%})")
    whole = len(exercises) == len(course.exercises)  # the bars are for all together
    if whole and killed < 0.97 * total:
        unexplained.append("fewer than 97% of the mutants are killed")
    if whole and named < 0.8 * by_hand:
        unexplained.append("the cause of fewer than 80% of the mistakes is named")
    return unexplained
