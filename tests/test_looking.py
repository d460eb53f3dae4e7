"""Paths are looked at by one module, which tells what is missing from what is denied."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHODS = {"exists", "is_file", "is_dir", "is_symlink", "resolve"}
"""Of `Path`, which raise a bare PermissionError, or a RuntimeError for links in a circle."""
FUNCTIONS = {"exists", "isfile", "isdir"}
"""Of `os.path`, which answer that nothing is there."""
OTHERS = {"disk", "loader", "Path(__file__)"}
"""The module, YAML's loader, and our own folders."""
ENTRIES = "runtime/inventory/walk.py"
"""Asks entries of `os.scandir`, which know the answer, and has a reason for each that is denied."""


def asked(source: str) -> list[str]:
    """Return the calls in a module that ask the system about a path."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    found = []
    for call in calls:
        if isinstance(call.func, ast.Attribute):
            of, name = ast.unparse(call.func.value), call.func.attr
            if name in FUNCTIONS if of == "os.path" else name in METHODS and of not in OTHERS:
                found.append(f"{of}.{name}, line {call.lineno}")
    return found


@pytest.mark.parametrize("package", ["runtime", "adapt", "export"])
def test_paths_are_looked_at_by_one_module(package):
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 10
    found = {name: asked((ROOT / name).read_text()) for name in files if name != ENTRIES}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_a_call_of_each_kind_is_found():
    assert len(asked("path.exists()\nos.path.isfile(path)\n(a / b).is_dir()\ndisk.exists(p)")) == 3
