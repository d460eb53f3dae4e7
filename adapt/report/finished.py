"""Write the report of finished runs from their artifacts alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapt.report.runs import ReportedRun, by_task
from adapt.report.tasks import ReportedTask, evaluated, without_evaluation
from adapt.report.write import Table, write
from runtime.console import ProgressCallback
from runtime.errors import FormatError
from runtime.models import TaskInfo

_OTHER_IMAGES = (
    "these artifacts were tested on other images than those of this task above, for example with "
    "another seed of a holdout"
)


@dataclass(frozen=True)
class PageContent:
    """The tasks and artifacts of a page that was written."""

    tasks: Sequence[ReportedTask]
    damaged: Sequence[str]
    """Reason for each artifact that could not be read."""

    @property
    def runs(self) -> int:
        """Number of artifacts on the page."""
        return sum(len(task.runs) for task in self.tasks)


def write_finished(
    path: Path,
    files: Sequence[Path],
    *,
    title: str | None = None,
    tables: Sequence[Table] = (),
    images: bool = True,
    evaluate: bool = True,
    root: Path | None = None,
    device: str = "cpu",
    pretrained: str | None = None,
    on_progress: ProgressCallback = lambda what, done, total: None,
) -> PageContent:
    """Write one page about artifacts; damaged ones are named on it.

    Args:
        path: File to write, whole or not at all.
        files: Artifacts, of any tasks; `adapt.artifacts.store.artifact_files` finds those of
            folders.
        title: Title of the page; None names the tasks.
        tables: Tables that stand above the comparison, such as that of a sweep.
        images: Whether to show pictures, rather than names of files.
        evaluate: Whether to evaluate the artifacts and their baselines, where no earlier evaluation
            is kept. Else the page has what training wrote: accuracies, recalls and curves.
        root: Folder of the data set; None takes the one that the artifacts name.
        device: Device to compute on.
        pretrained: Weights of the bases, if they have moved since training.
        on_progress: Progress callback.

    Raises:
        FormatError: No artifact can be read.
        StorageError: The page cannot be written.
        Interrupted: Ctrl-C came; what was predicted is kept.
    """
    runs, damaged = _read(files)
    tasks = [
        evaluated(group, root=root, device=device, pretrained=pretrained, on_progress=on_progress)
        if evaluate
        else without_evaluation(group)
        for group in by_task(runs)
    ]
    seen = set[TaskInfo]()
    for number, task in enumerate(tasks):
        if task.task in seen:
            tasks[number] = replace(task, notes=[_OTHER_IMAGES, *task.notes])
        seen.add(task.task)
    write(path, tasks, title=title, tables=tables, notes=damaged, images=images)
    return PageContent(tasks, damaged)


def _read(files: Sequence[Path]) -> tuple[list[ReportedRun], list[str]]:
    """Return the runs that can be read, and why others cannot.

    Raises:
        FormatError: None of them can be read.
    """
    runs, damaged = list[ReportedRun](), list[str]()
    for file in files:
        try:
            runs.append(ReportedRun.read(file))
        except FormatError as error:
            if len(files) == 1:
                raise
            damaged.append(str(error))
    if not runs:
        raise FormatError(f"none of {len(files)} artifacts can be read, the first: {damaged[0]}")
    return runs, damaged
