"""Show what tasks carry for monitoring, in the table and the JSON of `uda-runtime info`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from runtime.console import echo, table
from runtime.errors import FormatError, StorageError

if TYPE_CHECKING:
    from runtime.bundles.bundle import Bundle
    from runtime.bundles.entries import FileRef
    from runtime.monitoring.carried import Carried


def carried(opened: Bundle, damaged: Collection[FileRef]) -> dict[str, Carried | None]:
    """Return a summary of what each task carries for monitoring.

    Args:
        opened: Bundle to look at.
        damaged: Files that cannot be used.

    Returns:
        None for a task whose file is damaged.
    """
    from runtime.monitoring import carried as members

    found: dict[str, Carried | None] = {}
    for task in opened.manifest.tasks:
        found[task.id] = None
        if task.file not in damaged:
            try:
                optional, tensors, _ = opened.members(task)
                found[task.id] = members.read(optional, tensors, task.classes)
            except (FormatError, StorageError):  # `--check` prints it
                continue
    return found


def show_carried(found: Mapping[str, Carried | None]) -> None:
    """Print a table of what tasks carry, or that they carry nothing."""
    from runtime.monitoring.carried import HEADER, NOTHING, RATE

    if all(each == NOTHING for each in found.values()):
        echo("\nmonitored none")
        return
    missing = ["damaged", *[""] * (len(HEADER) - 1)]
    rows = [[task, *(missing if each is None else each.cells())] for task, each in found.items()]
    echo(f"\nmonitored with what tasks carry; drift thresholds are for {RATE}\n")
    echo(table(("task", *HEADER), rows))


def document(
    opened: Bundle, damaged: Collection[FileRef], found: Mapping[str, Carried | None]
) -> dict[str, Any]:
    """Return the bundle and its tasks as JSON for programs.

    Args:
        opened: Bundle to look at.
        damaged: Files that cannot be used.
        found: Result of `carried`.
    """
    from runtime.monitoring.whitening import MEMBER

    manifest = opened.manifest
    shown = ("id", "dataset", "source", "target", "classes", "method", "changed", "requires")
    return {
        "bundle": str(opened.path),
        "schema": manifest.schema,
        "base": asdict(manifest.base),
        "precision": manifest.precision,
        "base_bytes": manifest.tensors.bytes,
        "whitening": opened.optional_file(MEMBER) is not None,
        "damaged": sorted(ref.path for ref in damaged),
        "tasks": [
            {
                **{name: getattr(task, name) for name in shown},
                "bytes": task.file.bytes,
                "sha256": task.file.sha256,
                "monitoring": None if (own := found[task.id]) is None else own.document(),
            }
            for task in manifest.tasks
        ],
    }
