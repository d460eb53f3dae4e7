"""Error classes for everything that a user can cause.

UdaError
├── ConfigError     a setting is unknown, of the wrong type or out of range
├── DataError       an image, a frame, a class folder or a data set is unusable
├── BaseModelError  base weights are missing, or are not the ones that are needed
├── FormatError     a file of ours is truncated, altered, hostile or of another version
├── StorageError    the disk is full, not writable, or access is denied
├── TaskError       a task is unknown, ambiguous or not selected
├── BackendError    an engine or a device cannot be used here
├── TrainingError   training cannot go on (a loss is not finite)
│   └── Interrupted someone asked it to stop; it can be resumed
└── VerifyError     an exported engine disagrees with PyTorch

A message says what was found, what was needed and what to do: lower case, no full stop, names in
quotes. Command lines print it as one line and exit with 1.
"""

from __future__ import annotations

import re

from runtime.text import printable

_LINES = re.compile(r"[ \t]*[\r\n]+[ \t]*")


def raise_interrupt(error: BaseException) -> None:
    """Raise the interrupt that a library's import turned into an error of its own, if one is."""
    cause = error.__cause__
    if cause is not None and not isinstance(cause, Exception):
        raise cause from None


def raised_by(error: Exception, library: str) -> bool:
    """Return whether an exception comes from a library that our code called.

    What a signal's handler raises meanwhile does not come from the library, and neither does a
    MemoryError.

    Args:
        error: Exception that is being handled.
        library: Name of the library's package.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    # What compiled code raises comes from the function of ours that called it.
    where = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    if isinstance(error, (MemoryError, UdaError)):
        return False
    return where.partition(".")[0] in (library, "runtime")


class UdaError(Exception):
    """The root of every error a user can cause.

    A message is one line, in which control characters are escaped.
    """

    def __init__(self, message: object = "") -> None:
        """Store a message.

        Args:
            message: Text of the message; line breaks become spaces.
        """
        super().__init__(printable(_LINES.sub(" ", str(message).strip())))


class ConfigError(UdaError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(UdaError):
    """An image, a frame, a class folder or a data set is unusable."""


class BaseModelError(UdaError):
    """Base weights are missing, or are not the ones that are needed."""


class FormatError(UdaError):
    """A file of ours is truncated, altered, hostile or of another version."""


class StorageError(UdaError):
    """The disk is full, not writable, or access is denied."""


class TaskError(UdaError):
    """A task is unknown, ambiguous or not selected."""


class BackendError(UdaError):
    """An engine or a device cannot be used here."""


class TrainingError(UdaError):
    """Training cannot go on."""


class Interrupted(TrainingError):
    """Someone asked training to stop; everything is saved, and it can be resumed."""


class VerifyError(UdaError):
    """An exported engine disagrees with PyTorch."""
