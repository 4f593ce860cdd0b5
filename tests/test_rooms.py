"""The house's plan: a room imports only from floors below it, and no files import each other, not even by a detour."""
import ast
import collections
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
MAY_IMPORT = {
    "disk": {"disk"},
    "nn": {"disk", "nn"},
    "datasets": {"disk", "datasets"},
    "generators": {"disk", "nn", "datasets", "generators"},
    "bench": {"disk", "nn", "datasets", "generators", "bench"},
}
PATHS = [path.relative_to(HOME) for room in MAY_IMPORT for path in sorted((HOME / room).rglob("*.py"))]
FILES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in PATHS}


def imports(name: str) -> set[str]:
    """The project's modules that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse((HOME / FILES[name]).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & FILES.keys()) or {node.module}
    return (found & FILES.keys()) - {name}


GRAPH = {name: imports(name) for name in FILES}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_from_floors_below(room):
    up = {(name, other) for name, others in GRAPH.items() if name.split(".")[0] == room
          for other in others if other.split(".")[0] not in MAY_IMPORT[room]}  # fmt: skip
    assert not up


def test_no_folder_is_crowded():
    """At most ten files stand in one folder of generators: what one can look over."""
    counts = collections.Counter(path.parent for path in PATHS if path.parts[0] == "generators")
    assert {str(folder): count for folder, count in counts.items() if count > 10} == {}


def test_no_files_import_each_other():
    """Catches also an import inside a function, which hides a circle from Python and not from a reader."""
    for start in GRAPH:
        below, rest = set(), [start]
        while rest:
            rest += (new := GRAPH[rest.pop()] - below)
            below |= new
        assert start not in below, f"{start} imports itself by way of {sorted(GRAPH[start] & below)}"
    assert GRAPH["generators.apps.commands"] >= {"generators.errors", "generators.runs"}  # the graph is not empty


def test_parts_know_no_family_and_families_each_other_only_on_purpose():
    """Catches: a flow that fetches its guidance from diffusion's room.  A VAE with a critic is a VAE."""
    allowed = {("generators.families.vaegan", "generators.families.vae")}
    room = lambda name: name.split(".")[2] if name.startswith("generators.families.") else name  # noqa: E731
    across = {(name, other) for name in GRAPH for other in GRAPH[name]
              if other.startswith("generators.families.") and room(name) != room(other)
              and name.startswith(("generators.parts", "generators.families"))}  # fmt: skip
    assert across == allowed
