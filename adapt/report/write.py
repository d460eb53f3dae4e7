"""Write the report of runs: one page of any number of artifacts and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.report import curves, pages, samples
from adapt.report.album import Album
from adapt.report.tasks import ReportedTask
from adapt.report.views import TaskView, task_view
from runtime.console import count_of


@dataclass(frozen=True)
class Table:
    """A table that stands above the comparison, such as that of a sweep."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def write(
    path: Path,
    tasks: Sequence[ReportedTask],
    *,
    title: str | None = None,
    tables: Sequence[Table] = (),
    notes: Sequence[str] = (),
    images: bool = True,
    template: str = "report.html",
    **values: Any,
) -> None:
    """Write the page of some tasks.

    Args:
        path: File to write, whole or not at all.
        tasks: Tasks, from `adapt.report.tasks`.
        title: Title of the page; None names the tasks.
        tables: Tables that stand above the comparison.
        notes: Lines at the top, such as what could not be read.
        images: Whether to show pictures, rather than names of files.
        template: Template of the page.
        values: Further values that the template uses.

    Raises:
        StorageError: The file cannot be written.
    """
    album = Album(images)
    views = [task_view(task, number, album) for number, task in enumerate(tasks, 1)]
    runs = sum(len(view.sections) for view in views)
    lead = f"{count_of(len(views), 'task')}, {count_of(runs, 'artifact')}."
    if not images:
        lead += " Images are left out, as --no-images asks."
    elif album.left_out:
        lead += (
            f" It shows {album.shown:,} pictures; {album.left_out:,} more are left out, to keep "
            "the page small."
        )
    page = pages.render(
        template,
        title=title or ", ".join(dict.fromkeys(_name(task) for task in tasks)),
        lead=lead,
        notes=notes,
        tables=tables,
        tasks=views,
        measured=_measured(views),
        chart=curves.AREA,
        open_classes=samples.OPEN_CLASSES,
        **pages.common(),
        **values,
    )
    pages.save(path, page)


def _name(task: ReportedTask) -> str:
    return f"{task.task.dataset} {task.task.id}"


def _measured(views: Sequence[TaskView]) -> str:
    """Return when the accuracies were measured, for people."""
    counts: dict[str, int] = {}
    for row in (row for view in views for row in view.rows):
        counts[row.measured] = counts.get(row.measured, 0) + 1
    if len(counts) < 2:
        return "".join(f"Measured {when}." for when in counts)
    return f"Measured: {', '.join(f'{number} {when}' for when, number in counts.items())}."
