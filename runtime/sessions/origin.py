"""Bind an object to the process that opened it: engines and threads do not come along in a fork."""

from __future__ import annotations

import ctypes
import os
from typing import NoReturn, SupportsIndex

from runtime.errors import BackendError


class OneProcess:
    """An object of one process, which can be neither copied nor sent to another process."""

    _kind = "object"
    """Name of the object in messages."""

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def _forked(self) -> bool:
        """Whether this is a process that was forked from the one that opened the object."""
        return os.getpid() != self._process

    def _check_process(self) -> None:
        """Check that the object may be used in this process.

        Raises:
            BackendError: The process was forked from the one that opened the object.
        """
        if self._forked:
            raise BackendError(
                f"this {self._kind} was opened before its process was forked, and its engines and "
                f"threads do not come along; open a {self._kind} in every process"
            )

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise BackendError(
            f"a {self._kind} can be neither copied nor pickled, as its engines and memory belong "
            "to this process; pass the path of the bundle, and open it where it is used"
        )


def keep_for_ever(value: object) -> None:
    """Let an object never be released: a library's threads, for which its end would wait, are gone.

    For a forked process: the memory is the other one's until somebody writes to it.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
