"""Read the figures that a run wrote at every epoch."""

from __future__ import annotations

from pathlib import Path

from adapt.training.journal import METRICS
from adapt.training.record import EpochRow, check_row
from runtime.errors import FormatError
from runtime.storage.files import read_bytes
from runtime.storage.json_text import parse

MAX_BYTES = 1 << 28
"""Largest file that is read."""


def read_history(folder: Path) -> list[EpochRow]:
    """Return the rows of a run's epochs, see `adapt.training.record.epoch_row`.

    Args:
        folder: Folder that the run wrote to.

    Raises:
        FormatError: The file is missing or damaged.
    """
    path = folder / METRICS
    rows: list[EpochRow] = []
    for line in read_bytes(path, MAX_BYTES).splitlines():
        try:
            row = parse(line)
            if not isinstance(row, dict):
                raise ValueError(f"expected a mapping, found {type(row).__name__}")
            check_row(row, row.get("epoch", 0))
            if rows and row["epoch"] <= rows[-1]["epoch"]:
                raise ValueError(f"epoch {row['epoch']} follows epoch {rows[-1]['epoch']}")
        except ValueError as error:
            raise FormatError(f"'{path}' is damaged: {error}; train again to write it") from error
        rows.append(row)
    if not rows:
        raise FormatError(f"'{path}' is empty; train again to write it")
    return rows
