"""Examples, README and CONTRIBUTING use the public API alone, so that everything else may move."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("runtime", "adapt", "export")


def blocks(page: str) -> dict[str, str]:
    """Return the fenced Python of a page."""
    found = re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
    return {f"{page} block {number}": text for number, text in enumerate(found)}


SOURCES = {p.name: p.read_text() for p in sorted((REPOSITORY / "examples").glob("*.py"))}
SOURCES |= blocks("README.md")


def private_names(text: str) -> list[str]:
    """Return what a source uses of our packages beyond their `__all__`."""
    public = {name: set(importlib.import_module(name).__all__) for name in PACKAGES}
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = {f"{node.value.id}.{node.attr}"}
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package in PACKAGES and rest and rest not in public[package]:
                found.append(name)
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_what_users_copy_uses_public_names_alone(name: str) -> None:
    assert private_names(SOURCES[name]) == []


def test_every_package_is_shown_in_the_readme() -> None:
    text = "\n".join(blocks("README.md").values())
    assert all(re.search(rf"^import {name}$", text, re.MULTILINE) for name in PACKAGES)


@pytest.mark.parametrize(
    "text",
    [
        "from runtime.frames.preprocess import read_image",
        "from adapt import training",
        "import export.pipeline",
        "import runtime; runtime.sessions.Session",
    ],
)
def test_a_private_name_is_found(text: str) -> None:
    assert private_names(text)
