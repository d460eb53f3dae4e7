"""Bind an object to the process that opened it, as engines and threads do not survive a fork."""

from __future__ import annotations

import ctypes
import os
from typing import NoReturn, SupportsIndex

from runtime.errors import BackendError


class ProcessBound:
    """An object of one process, which can be neither copied nor pickled."""

    _kind = "object"
    """Name of the object in messages."""

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def _forked(self) -> bool:
        """Whether this process was forked from the one that opened the object."""
        return os.getpid() != self._process

    def _check_process(self) -> None:
        """Check that the object may be used in this process.

        Raises:
            BackendError: The process was forked from the one that opened the object.
        """
        if self._forked:
            raise BackendError(
                f"this {self._kind} was opened before its process was forked, and engines and "
                f"threads do not survive a fork; open a {self._kind} in each process"
            )

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise BackendError(
            f"a {self._kind} can be neither copied nor pickled, as its engines and memory belong "
            "to this process; pass the path of the bundle, and open it where it is used"
        )


def leak(value: object) -> None:
    """Never release an object, since its end would wait for threads that a forked process lacks.

    The memory is shared with the parent until one of them writes to it.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
