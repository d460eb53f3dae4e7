"""Import TensorRT or TensorRT-RTX, check its version and collect its messages.

Both have one API, and so have TensorRT 10.3 to 11.4 as far as it is used here. `trt` stands for
whichever is installed; it is imported when it is first used, so that `import runtime` needs none.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from runtime.errors import BackendError, raise_interrupt

if TYPE_CHECKING:
    import tensorrt as trt
else:

    class _Library:
        """The library's names, taken from whichever is installed."""

        def __getattr__(self, name: str) -> Any:
            return getattr(library().module, name)

    trt = _Library()

__all__ = ["Library", "Messages", "collected_messages", "library", "started", "trt"]

_Started = TypeVar("_Started")

_log = logging.getLogger(__name__)
_NAMES = {"tensorrt": ((10, 3), (12,)), "tensorrt_rtx": ((1, 7), (2,))}
"""Modules in the order of preference: the first version each may have, and the first that not."""
_BAD = {("tensorrt", "10.2.0"): "its convolutions can give wrong results"}
"""Releases that are refused. 11.3.0 is not among them: there, engines built with the flag REFIT may
lose the bias of a matrix product, and no engine is built with it here."""
_UNFIT = ("sm75",)
"""Targets for which TensorRT-RTX refuses float32 products of matrices, and every head has one."""
_INSTALL = (
    "on a Jetson, use JetPack's own (in a venv made with --system-site-packages); elsewhere run "
    "pip install '.[tensorrt]', or '.[tensorrt-rtx]' for TensorRT-RTX"
)
_KEPT = 200


@dataclass(frozen=True)
class Library:
    """The library in use."""

    name: str
    """`tensorrt` or `tensorrt_rtx`: neither opens the engines of the other."""
    version: str
    module: Any

    @property
    def targets(self) -> tuple[str, ...]:
        """GPU generations it builds for without having one, as `sm86`; none if it cannot.

        Left out is what TensorRT-RTX lists and builds no head for.
        """
        known = getattr(self.module, "ComputeCapability", None)
        names = () if known is None else known.__members__
        found = (name.lower() for name in names if name.startswith("SM"))
        return tuple(name for name in found if name not in _UNFIT)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@functools.cache
def library() -> Library:
    """Import and return TensorRT, or else TensorRT-RTX.

    Raises:
        BackendError: There is neither, or the one that is there is broken or unfit.
    """
    for name in _NAMES:
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            raise_interrupt(error)
            if error.name != name:
                raise BackendError(f"cannot import {name}: {error}; {_INSTALL}") from error
            continue
        except Exception as error:  # a shared library of it is missing, or is another version's
            raise_interrupt(error)
            raise BackendError(f"cannot import {name}: {error}; install it again") from error
        found = Library(name, str(module.__version__), module)
        check_version(found.name, found.version)
        return found
    raise BackendError(
        f"backend 'trt' needs {' or '.join(_NAMES)}, which is not installed; {_INSTALL}"
    )


def check_version(name: str, version: str) -> None:
    """Check that a release is one that this code was written for.

    Args:
        name: `tensorrt` or `tensorrt_rtx`.
        version: Version as the library reports it, such as `10.16.1.11`.

    Raises:
        BackendError: It is not; the message has the reason.
    """
    numbers = tuple(int(part) for part in re.findall(r"[0-9]+", version)[:3])
    first, behind = _NAMES[name]
    known = f"{'.'.join(map(str, first))} and later, below {'.'.join(map(str, behind))}"
    for (bad_name, bad), reason in _BAD.items():
        if name == bad_name and ".".join(map(str, numbers)) == bad:
            raise BackendError(f"{name} {version} is not used: {reason}; install {known}")
    if not first <= numbers < behind:
        raise BackendError(
            f"{name} {version} is not supported, expected {known}; install one of these"
        )


@dataclass(eq=False)
class Messages:
    """Messages of the library during an action."""

    problems: list[str] = field(default_factory=list)
    """Errors, in the order in which they came."""
    nodes: list[str] = field(default_factory=list)
    """Nodes of the graph that its parser refused, each with the reason."""

    def failure(self, what: str, hint: str) -> BackendError:
        """Return one error that says what failed, why as far as the library says, and what to do.

        Args:
            what: Failed action, such as `build an engine for sm86`.
            hint: Action for the user.
        """
        reasons = self.nodes or list(dict.fromkeys(self.problems)) or ["it gave no reason"]
        reason = " | ".join(_line(text) for text in reasons[:2])
        return BackendError(f"{library()} cannot {what}: {reason}; {hint}")


_mine = threading.local()
_all: list[Messages] = []
"""Messages that are being collected, of all threads."""


@contextmanager
def collected_messages() -> Iterator[Messages]:
    """Collect what the library says while the block runs.

    The library takes one logger per process, whatever is opened or built with it. What it says in a
    thread of its own, as builders do, goes to the block that began last.
    """
    messages, outer = Messages(), getattr(_mine, "messages", None)
    _mine.messages = messages
    _all.append(messages)
    try:
        yield messages
    finally:
        _mine.messages = outer
        _all.remove(messages)


@functools.cache
def logger() -> trt.ILogger:
    """Return the logger that everything is made with: it lives as long as the process."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            levels = trt.ILogger.Severity
            if severity in (levels.ERROR, levels.INTERNAL_ERROR):
                messages = getattr(_mine, "messages", None) or next(reversed(_all), None)
                if messages is None:
                    _log.error("%s: %s", library().name, msg)
                elif len(messages.problems) < _KEPT:
                    messages.problems.append(msg)
            else:
                _log.debug("%s: %s", library().name, msg)

    return Log()


def started(kind: Callable[[trt.ILogger], _Started]) -> _Started:
    """Return a `trt.Builder` or a `trt.Runtime`.

    Raises:
        BackendError: The library does not start, for want of a driver or a GPU, say.
    """
    with collected_messages() as messages:
        try:
            return kind(logger())
        except TypeError as error:  # all that the bindings make of it when the library gives none
            raise messages.failure("start", "check the driver and the installation") from error


def _line(text: str) -> str:
    """Return a message of the library as one line without the places in its source."""
    text = re.sub(r"\s*\(?In [\w:~]+ at /\S+", "", text)
    text = re.sub(r"^\[?\w+\.cpp:?:?\w*:?:?\d*\]?:?\s*", "", text)
    return " ".join(text.split())[:400]
