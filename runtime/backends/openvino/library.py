"""Import OpenVINO without its telemetry."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

from runtime.errors import BackendError, raise_interrupt
from runtime.mutex import Mutex

_TELEMETRY = "openvino_telemetry"
_importing = Mutex()
"""Sessions may be opened in several threads."""


def openvino() -> Any:
    """Import and return OpenVINO, its telemetry off unless the application imported it before.

    Raises:
        BackendError: It is not installed, or broken.
    """
    try:
        with _importing, _without_telemetry():
            return import_module("openvino")  # here: `import runtime` does not need it
    except ImportError as error:
        raise_interrupt(error)
        if not isinstance(error, ModuleNotFoundError):
            raise BackendError(f"cannot import openvino: {error}; install it again") from error
        raise BackendError(
            "backend 'openvino' needs openvino, which is not installed; "
            "run: pip install '.[openvino]'"
        ) from error


@cache
def core() -> Any:
    """Return the one core of this process, which lives as long as it does.

    Each core gives the thread that makes it a stack for signals, and takes back the stack before
    it when it ends. Two that end in the order in which they began leave one that is freed already:
    the next signal, such as Ctrl-C, would kill the process.

    Raises:
        BackendError: OpenVINO is not installed, or broken.
    """
    return openvino().Core()


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide the package that would write an id to the disk and call its vendor at each import.

    OpenVINO does without it where it is missing; no variable of the environment turns it off.
    """
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # importing it fails
    try:
        yield
    finally:
        sys.modules.pop(_TELEMETRY, None)
