"""Write results as lines of JSON, one at a time."""

from __future__ import annotations

import json
from pathlib import Path

from runtime.outputs.base import Output, Result
from runtime.outputs.lines import lines_to


class JsonlFile(Output):
    """A file with a JSON object per line; every line that was written is kept.

    An earlier file is overwritten by the first result.
    """

    def __init__(self, path: Path, top: int = 1) -> None:
        """Open the file.

        Args:
            path: Path of the file, or `-` for the standard output.
            top: Number of most likely classes.

        Raises:
            StorageError: The file cannot be written.
        """
        self._file, self._top = lines_to(path), top

    def write(self, result: Result) -> None:
        """Write a line.

        Raises:
            StorageError: It cannot be written.
        """
        self._file.write(json.dumps(result.to_dict(self._top), allow_nan=False) + "\n")

    def close(self) -> None:
        """Close the file. Safe to call more than once."""
        self._file.close()
