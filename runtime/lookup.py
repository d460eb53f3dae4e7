"""Import an object by its module and name, so that a registry names it without importing it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def imported(path: str) -> Any:
    """Import and return the object `module:name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
