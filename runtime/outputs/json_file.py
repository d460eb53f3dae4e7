"""Write results as one JSON list, whole or not at all."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

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
            path: Path of the file.
            top: Number of most likely classes.

        Raises:
            StorageError: The file cannot be written, or is something else, such as a device.
        """
        self._path, self._top = path, top
        self._rows: list[dict[str, Any]] = []
        self._open = ExitStack()
        self._temporary: Path | None = self._open.enter_context(replacing(path))

    def write(self, result: Result) -> None:
        """Keep a result for the file."""
        self._rows.append(result.to_dict(self._top))

    def close(self) -> None:
        """Write the file. Safe to call more than once.

        Raises:
            StorageError: The file cannot be written.
        """
        temporary, self._temporary = self._temporary, None
        if temporary is None:
            return
        with suppress(_NoResults), self._open, storage_errors(self._path):
            if not self._rows:
                raise _NoResults
            text = json.dumps(self._rows, indent=2, allow_nan=False) + "\n"
            temporary.write_bytes(text.encode())
