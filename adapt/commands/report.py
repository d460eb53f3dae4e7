"""`uda-adapt report`: write one page about finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapt.artifacts import store
from adapt.commands.options import artifacts_option, device_option, threads_option, use_threads
from adapt.commands.pages import NAME, PagePath, no_images_option
from adapt.commands.progress import progress_bar
from runtime.console import UserPath, count_of, echo

if TYPE_CHECKING:
    from adapt.report.runs import Run


@click.command(short_help="Write a page about finished runs.")
@click.argument("paths", nargs=-1, metavar="[ARTIFACTS]...", type=UserPath())
@artifacts_option("Folder of the artifacts to report on where none are named.")
@click.option(
    "--out",
    type=PagePath(),
    default=NAME,
    show_default=True,
    metavar="FILE.html",
    help="Page to write.",
)
@click.option("--title", help="Title of the page; by default the tasks.")
@no_images_option
@click.option(
    "--data",
    metavar="ROOT",
    type=UserPath(exists=True, file_okay=False),
    help="Folder of the images, if they are not where training found them.",
)
@click.option(
    "--pretrained",
    metavar="FILE",
    help="Weights of the base model, if they are not where training found them.",
)
@device_option
@threads_option
def report(
    paths: tuple[Path, ...],
    artifacts: Path,
    out: Path,
    title: str | None,
    no_images: bool,
    data: Path | None,
    pretrained: str | None,
    device: str,
    threads: int | None,
) -> None:
    """Write one HTML page about artifacts, which needs no other file and no network.

    ARTIFACTS are artifacts, or folders with artifacts below them. The page compares them with
    zero-shot CLIP and a linear probe, and shows images of both domains, curves, confusion,
    mistakes, settings and commands. Predictions that an earlier evaluation kept are reused. What is
    missing, such as images that are gone, is said on the page.
    """
    from adapt.settings.architectures import check_weights

    files = store.artifact_files(paths or [artifacts])
    if pretrained:
        check_weights(pretrained, "--pretrained PATH")
    # Torch takes seconds to import: all that can be refused without it has been.
    from adapt.compute.device import select
    from adapt.report.runs import by_task
    from adapt.report.tasks import evaluated
    from adapt.report.write import write
    from runtime.errors import FormatError

    select(device)
    use_threads(threads)
    runs, damaged = _read(files)
    with progress_bar() as on_progress:
        tasks = [
            evaluated(
                group, root=data, device=device, pretrained=pretrained, on_progress=on_progress
            )
            for group in by_task(runs)
        ]
    for task in tasks:
        for note in task.notes:
            echo(f"{task.task.dataset} {task.task.id}: {note}", err=True)
    write(out, tasks, title=title, notes=damaged, images=not no_images)
    echo(f"report     {out}: {count_of(len(runs), 'artifact')} of {count_of(len(tasks), 'task')}")
    if damaged:
        raise FormatError(
            f"{len(damaged)} of {len(files)} artifacts cannot be read, the first: {damaged[0]}"
        )


def _read(files: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs that can be read, and why others cannot.

    Raises:
        FormatError: None of them can be read.
    """
    from adapt.report.runs import Run
    from runtime.errors import FormatError

    runs, damaged = list[Run](), list[str]()
    for file in files:
        try:
            runs.append(Run.read(file))
        except FormatError as error:
            if len(files) == 1:
                raise
            damaged.append(str(error))
    if not runs:
        raise FormatError(f"none of {len(files)} artifacts can be read, the first: {damaged[0]}")
    return runs, damaged
