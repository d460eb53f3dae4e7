"""Check what engines are given against the inputs of their graphs."""

from __future__ import annotations

from typing import Any

from runtime.backends.base import Inputs
from runtime.errors import BackendError


def check_name(names: frozenset[str], name: str) -> None:
    """Check that a graph has an input.

    Raises:
        BackendError: The graph has no such input.
    """
    if name not in names:
        raise BackendError(f"the graph has no input '{name}'; export the bundle again")


def check_given(names: frozenset[str], bound: dict[str, Any], inputs: Inputs) -> None:
    """Check that no input is missing: the binding would quietly use what an earlier run left there.

    Raises:
        BackendError: An input is missing.
    """
    missing = names - bound.keys() - inputs.keys()
    if missing:
        raise BackendError(f"the graph wants '{min(missing)}'; export the bundle again")
