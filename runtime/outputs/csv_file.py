"""Write results as rows of a CSV file, one at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
        ends = ("true_label", "saved", "error")
        self._columns = ["image", "frame", "seconds", *csv_columns(top), *ends]
        self._top = top
        self._file, self._begun = lines_to(path), False

    def write(self, result: Result) -> None:
        """Write a row.

        Raises:
            StorageError: It cannot be written.
        """
        if not self._begun:
            self._file.write(csv_line(self._columns))
            self._begun = True
        self._file.write(csv_row(result.to_dict(self._top), self._columns))

    def close(self) -> None:
        """Close the file. Safe to call more than once."""
        self._file.close()


def csv_columns(top: int) -> list[str]:
    """Return the columns of a prediction: the first label, and those of the others.

    Args:
        top: Number of most likely classes.
    """
    more = [f"{name}_{rank}" for rank in range(2, top + 1) for name in ("label", "score")]
    return ["task", "label", "score", *more, *WATCHED]


def csv_row(row: dict[str, Any], columns: Sequence[str]) -> str:
    """Return a result's dictionary as a line.

    A path that a spreadsheet would take for a formula begins with `./`, which names the same file.

    Args:
        row: What `to_dict` of a result returns; what is not a column is left out.
        columns: Names of the columns, in order.
    """
    cells = dict(row)
    for rank, (label, score) in enumerate(row.get("top", []), 1):
        cells |= {f"label_{rank}": label, f"score_{rank}": score}
    cells |= {key: f"./{row[key]}" for key in _PATHS if row.get(key, "").startswith(_FORMULA)}
    return csv_line([cells.get(column, "") for column in columns])


def csv_line(cells: Sequence[object]) -> str:
    """Return a line of a CSV file, with a line break at its end."""
    line = io.StringIO()
    # Before Python 3.13 a carriage return is quoted only where it ends lines.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"
