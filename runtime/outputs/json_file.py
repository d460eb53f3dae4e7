"""Write results as one JSON list, whole or not at all."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from runtime.console import STDOUT, as_json, echo
from runtime.outputs.base import Output, Result
from runtime.storage.files import storage_errors
from runtime.storage.writing import replacing


class _NoResults(Exception):
    """Makes `replacing` keep the earlier file."""


class JsonFile(Output):
    """A JSON file that is written when it is closed, with the results so far, if there are some.

    It holds them in memory until then: an endless source wants `JsonlFile`.
    """

    def __init__(self, path: Path, top: int = 1) -> None:
        """Check that the file can be written.

        Args:
            path: Path of the file, or `-` for the standard output.
            top: Number of most likely classes.

        Raises:
            StorageError: The file cannot be written, or is something else, such as a device.
        """
        self._path, self._top = path, top
        self._rows: list[dict[str, Any]] = []
        self._closed, self._open = False, ExitStack()
        self._temporary = path
        if path != STDOUT:
            self._temporary = self._open.enter_context(replacing(path))

    def write(self, result: Result) -> None:
        """Keep a result for the file."""
        self._rows.append(result.to_dict(self._top))

    def close(self) -> None:
        """Write the file. Safe to call more than once.

        Raises:
            StorageError: The file cannot be written.
        """
        closed, self._closed = self._closed, True
        if closed:
            return
        with suppress(_NoResults), self._open, storage_errors(self._path):
            if not self._rows:
                raise _NoResults
            if self._path == STDOUT:
                echo(as_json(self._rows).removesuffix("\n"))
            else:
                self._temporary.write_bytes(as_json(self._rows).encode())
