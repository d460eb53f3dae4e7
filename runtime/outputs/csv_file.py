"""Write results as rows of a CSV file, one at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from runtime.outputs.base import Output, Result
from runtime.outputs.lines import lines_to
from runtime.prediction import WATCHED

_PATHS = ("image", "saved")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters that make a cell a formula, which spreadsheets run, where they come first."""


class CsvFile(Output):
    """A CSV file in UTF-8 with a header; every row that was written is kept.

    An earlier file is overwritten by the first result. A path that a spreadsheet would take for a
    formula begins with `./`, which names the same file.
    """

    def __init__(self, path: Path, top: int = 1) -> None:
        """Open the file.

        Args:
            path: Path of the file, or `-` for the standard output.
            top: Number of most likely classes; the second and later ones have columns of their own.

        Raises:
            StorageError: The file cannot be written.
        """
        more = [f"{name}_{rank}" for rank in range(2, top + 1) for name in ("label", "score")]
        ends = (*WATCHED, "true_label", "saved", "error")
        self._columns = ["image", "frame", "seconds", "task", "label", "score", *more, *ends]
        self._top = top
        self._file, self._begun = lines_to(path), False

    def write(self, result: Result) -> None:
        """Write a row.

        Raises:
            StorageError: It cannot be written.
        """
        if not self._begun:
            self._write(self._columns)
            self._begun = True
        row = result.to_dict(self._top)
        for rank, (label, score) in enumerate(row.pop("top", []), 1):
            row |= {f"label_{rank}": label, f"score_{rank}": score}
        row |= {key: f"./{row[key]}" for key in _PATHS if row.get(key, "").startswith(_FORMULA)}
        self._write([row.get(column, "") for column in self._columns])

    def close(self) -> None:
        """Close the file. Safe to call more than once."""
        self._file.close()

    def _write(self, cells: Sequence[object]) -> None:
        line = io.StringIO()
        # Before Python 3.13 a carriage return is quoted only where it ends lines.
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        self._file.write(line.getvalue().removesuffix("\r\n") + "\n")
