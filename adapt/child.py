"""Call a function that returns arrays in a fresh interpreter.

This works from a script without a `__main__` guard, beside torch's threads and on every platform,
which a forked or spawned pool does not; and if the function crashes, this process does not.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime import interpreter

_MEMORY = 2 << 30
"""Most bytes of memory for a call; a damaged or compressed file may ask for more than there are."""


class ChildError(Exception):
    """The function failed; the message is the last line on its stderr, or how it ended."""


def call(function: str, arguments: tuple[str | int, ...], out: Path) -> tuple[NDArray[Any], ...]:
    """Return the arrays that a function returns.

    Args:
        function: Function as `module:function`.
        arguments: Arguments of the function.
        out: File to exchange the arrays through, ending in `.npz`.

    Raises:
        ChildError: The function failed.
    """
    child = subprocess.run(
        interpreter.command(__name__, function, json.dumps(arguments), str(out)),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if child.returncode < 0:
        raise ChildError(f"it crashed with {signal.Signals(-child.returncode).name}")
    if child.returncode:
        said = child.stderr.strip().splitlines() or [f"exit status {child.returncode}"]
        raise ChildError(said[-1])
    with np.load(out) as arrays:
        return tuple(arrays[name] for name in arrays.files)


def main() -> None:
    """Call the function named on the command line, and write the arrays that it returns."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on Windows; limited before
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    function, arguments, out = sys.argv[1:]
    module, name = function.split(":")
    arrays = getattr(importlib.import_module(module), name)(*json.loads(arguments))
    np.savez(out, *arrays)
