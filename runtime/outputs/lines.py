"""Lines of text that go to a file, or to the standard output."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from runtime.console import STDOUT, echo
from runtime.storage.lines import LineFile


class Lines(Protocol):
    """Takes lines, each of which ends with a line break."""

    def write(self, text: str) -> None:
        """Write a line, or nothing of it."""

    def close(self) -> None:
        """Keep what was written. Safe to call more than once."""


def lines_to(path: Path) -> Lines:
    """Return where to write lines.

    Args:
        path: Path of a file, or `-` for the standard output.

    Raises:
        StorageError: The file cannot be written.
    """
    return _Printed() if path == STDOUT else LineFile(path)


class _Printed:
    """The standard output."""

    def write(self, text: str) -> None:
        echo(text.removesuffix("\n"))

    def close(self) -> None:
        """Do nothing: it belongs to the program."""
