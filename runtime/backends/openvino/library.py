"""Import OpenVINO without its telemetry."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from runtime.backends.imports import import_library
from runtime.mutex import Mutex

_TELEMETRY = "openvino_telemetry"
_importing, _starting = Mutex(), Mutex()
"""Sessions may be opened in several threads."""


def openvino() -> Any:
    """Import and return OpenVINO, its telemetry off unless the application imported it before.

    Raises:
        BackendError: It is not installed, or broken.
    """
    with _importing, _without_telemetry():
        return import_library("openvino", "openvino", "run: pip install '.[openvino]'")


def core() -> Any:
    """Return the one core of this process, which lives as long as it does.

    Each core gives the thread that makes it a stack for signals, and takes back the stack before
    it when it ends. Two that end in the order in which they began leave one that is freed already:
    the next signal, such as Ctrl-C, would kill the process.

    Raises:
        BackendError: OpenVINO is not installed, or broken.
    """
    with _starting:  # threads that came at once would each make one, `cache` or not
        return _core()


@cache
def _core() -> Any:
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
