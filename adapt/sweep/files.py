"""Write the tables of a sweep: `table.md` for people, `table.json` for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapt.sweep.run import Outcome
from adapt.sweep.table import Table
from runtime.console import write_json
from runtime.storage.writing import write_bytes


def write_tables(
    folder: Path,
    title: str,
    tables: Sequence[Table],
    notes: Iterable[str],
    document: Mapping[str, Any],
    outcomes: Iterable[Outcome],
) -> None:
    """Write the tables of a sweep into its folder.

    Args:
        folder: Folder of the sweep.
        title: Title of the tables.
        tables: Tables to write.
        notes: Explanations that stand below the tables in `table.md`.
        document: Other members of `table.json`, which also has `tables` and the runs that `failed`.
        outcomes: Outcomes of the runs.

    Raises:
        StorageError: A file cannot be written.
    """
    parts = [f"# {title}\n", *(table.markdown() for table in tables)]
    parts.append("".join(f"- {note}\n" for note in notes))
    write_bytes(folder / "table.md", "\n".join(parts).encode(errors="backslashreplace"))
    failed = [{"run": str(o.job), "error": o.error} for o in outcomes if o.error]
    made = {"tables": [asdict(table) for table in tables], "failed": failed}
    write_json(folder / "table.json", {**document, **made})
