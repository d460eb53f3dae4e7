"""Write observations to files that several runs add lines to: JSON lines and CSV.

A full disk, a folder that vanishes and a read-only drive do not stop predictions: lines wait and
are written when there is room again; if there are too many, the oldest are lost and counted.
"""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from pathlib import Path
from typing import Any

from runtime.console import STDOUT, echo
from runtime.errors import StorageError
from runtime.outputs.csv_file import csv_columns, csv_line, csv_row
from runtime.storage.appended import AppendedFile
from runtime.streams import takes_more
from runtime.text import printable
from runtime.watch.observation import Observation
from runtime.watch.sinks.backlog import Backlog
from runtime.watch.sinks.base import Sink, Watched
from runtime.watch.sinks.trouble import Trouble

ROOM = 5000
"""Lines that wait while they cannot be written: minutes of a camera, in about 2 MB."""
_PATIENCE = 0.2
"""Seconds to wait for the reader of the standard output; `close` waits as well."""


class _Lines(Sink):
    """Lines that go to a file, or to the standard output, in a thread of its own."""

    def __init__(self, path: Path, name: str, start: str, *, header: bool) -> None:
        """Choose the file; `start` opens it.

        Args:
            path: Path of the file, or `-` for the standard output.
            name: Name of the option, for messages.
            start: What such files begin with.
            header: Whether that is a line of its own.
        """
        self._name, self._path = name, path
        self._printed_first = start if header else ""
        self._file = None if path == STDOUT else AppendedFile(path, start, header=header)
        self._cut = 0
        self._trouble = Trouble(name, "line")
        self._backlog: Backlog[str] = Backlog(
            self._deliver, self._trouble, ROOM, finish=self._finish
        )

    @property
    def lost(self) -> int:
        """Number of lines that were not written."""
        return self._trouble.lost

    def start(self, watched: Watched) -> None:
        """Open the file; an earlier one is gone on with.

        Raises:
            StorageError: It cannot be written.
            ConfigError: It is a file of another kind, or has other columns.
        """
        if self._file is not None:
            self._file.open()
            self._say_cut()
        self._backlog.start()

    def take(self, observation: Observation) -> None:
        """Write a line soon."""
        self._backlog.put(self._line(observation))

    def close(self) -> None:
        """Write what waits, and end. Safe to call more than once."""
        self._backlog.close()

    @abstractmethod
    def _line(self, observation: Observation) -> str:
        """Return an observation as a line with a line break at its end."""

    def _deliver(self, line: str) -> None:
        if self._file is None:
            if not takes_more(sys.stdout, _PATIENCE):
                raise StorageError("nobody reads the standard output; read it or write to a file")
            echo(f"{self._printed_first}{line}".removesuffix("\n"))
            self._printed_first = ""
        else:
            self._file.write(line)
            self._say_cut()

    def _finish(self) -> None:
        if self._file is not None:
            self._file.close()

    def _say_cut(self) -> None:
        cut = 0 if self._file is None else self._file.cut
        if cut > self._cut:
            echo(
                f"{self._name}: removed an unfinished line of {cut - self._cut:,} bytes at the end "
                f"of '{printable(self._path)}'",
                err=True,
            )
            self._cut = cut


class JsonLines(_Lines):
    """A file with a JSON object per frame."""

    def __init__(self, path: Path, top: int = 1) -> None:
        """Choose the file.

        Args:
            path: Path of the file, or `-` for the standard output.
            top: Number of most likely classes.
        """
        super().__init__(path, "--jsonl", '{"source": "', header=False)
        self._top = top

    def _line(self, observation: Observation) -> str:
        return json.dumps(observation.to_dict(self._top)) + "\n"


class Csv(_Lines):
    """A CSV file with a header and a row per frame."""

    def __init__(self, path: Path, top: int = 1) -> None:
        """Choose the file.

        Args:
            path: Path of the file, or `-` for the standard output.
            top: Number of most likely classes; the second and later ones have columns of their own.
        """
        ends = ("smoothed_label", "smoothed_score", "smoothed_frames", "drift", "error")
        begin = ("source", "frame", "time", "image")
        self._columns = [*begin, *csv_columns(top), "ms", "waited_ms", *ends]
        self._top = top
        super().__init__(path, "--csv", csv_line(self._columns), header=True)

    def _line(self, observation: Observation) -> str:
        return csv_row(_flat(observation.to_dict(self._top)), self._columns)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    smoothed: dict[str, Any] = row.pop("smoothed", {})
    return row | {f"smoothed_{key}": value for key, value in smoothed.items()}
