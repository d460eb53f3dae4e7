"""Import the library of a backend, or say how to install it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from runtime.errors import BackendError, raise_interrupt


def import_library(name: str, backend: str, hint: str) -> Any:
    """Import and return a library, which `import runtime` does not need.

    Args:
        name: Name of the module.
        backend: Name of the backend that needs it.
        hint: How to install it.

    Raises:
        BackendError: It is not installed, or it is broken.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise_interrupt(error)
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise BackendError(
                f"backend '{backend}' needs {name}, which is not installed; {hint}"
            ) from error
        raise BackendError(f"cannot import {name}: {error}; install it again") from error
