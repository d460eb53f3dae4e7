"""No room of a package imports, by any way around, one that imports it.

A room is a subpackage or a loose module. Imports inside functions and for type checkers count.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules(package: str) -> dict[str, Path]:
    paths = sorted((ROOT / package).rglob("*.py"))
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("package", ["adapt", "export"])
def test_rooms_do_not_import_each_other_in_a_circle(package: str) -> None:
    found = modules(package)
    graph: dict[str, set[str]] = {room(name): set() for name in found}
    for name, path in found.items():
        used = {room(other) for other in imports(path) if other in found and room(other) != package}
        graph[room(name)] |= used - {room(name)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
