"""Start a fresh Python interpreter that imports from where this one does."""

from __future__ import annotations

import os
import sys

_START = "import sys; sys.path[:] = sys.argv.pop(1).split({!r}); from {} import main; main()"


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that calls a module's `main` in a fresh interpreter.

    It has this program's module path, but neither its working folder in that path nor the
    variables that configure Python.

    Args:
        module: Name of the module.
        arguments: Arguments that `main` finds in `sys.argv`.
    """
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    start = _START.format(os.pathsep, module)
    return [sys.executable, "-I", "-c", start, paths, *arguments]
