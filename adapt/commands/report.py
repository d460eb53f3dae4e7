"""`uda-adapt report`: write one page about finished runs."""

from __future__ import annotations

from pathlib import Path

import click

from adapt.artifacts import store
from adapt.commands.options import (
    artifacts_option,
    device_option,
    pretrained_option,
    threads_option,
    use_threads,
)
from adapt.commands.pages import NAME, PagePath, no_images_option
from adapt.progress import each_warning_once, progress_bar
from runtime.console import UserPath, count_of, echo


@click.command(short_help="Write a page about finished runs.")
@click.argument("paths", nargs=-1, metavar="[ARTIFACTS]...", type=UserPath())
@artifacts_option("Folder of the artifacts to report on, where none are named.")
@click.option(
    "--out",
    type=PagePath(),
    default=NAME,
    show_default=True,
    metavar="FILE.html",
    help="Page to write.",
)
@click.option("--title", help="Title of the page; default: the tasks.")
@no_images_option
@click.option(
    "--data",
    metavar="ROOT",
    type=UserPath(exists=True, file_okay=False),
    help="Folder of the images, if they are not where training found them.",
)
@pretrained_option
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
    mistakes, settings and commands. Predictions that an earlier evaluation kept are reused. The
    page names what is missing, such as images that are gone.
    """
    from adapt.settings.architectures import check_weights

    files = store.artifact_files(paths or [artifacts])
    if pretrained:
        check_weights(pretrained, "--pretrained FILE")
    # Torch takes seconds to import: all that can be refused without it has been.
    from adapt.compute.device import select
    from adapt.report.finished import write_finished
    from runtime.errors import FormatError

    select(device)
    use_threads(threads)
    with progress_bar() as on_progress, each_warning_once():
        found = write_finished(
            out, files, title=title, images=not no_images, root=data, device=device,
            pretrained=pretrained, on_progress=on_progress,
        )  # fmt: skip
    for task in found.tasks:
        if task.missing:
            echo(f"{task.task.dataset} {task.task.id}: {task.missing}", err=True)
    what = f"{count_of(found.runs, 'artifact')} of {count_of(len(found.tasks), 'task')}"
    echo(f"report     {out}: {what}")
    if found.damaged:
        raise FormatError(
            f"{len(found.damaged)} of {len(files)} artifacts cannot be read, the first: "
            f"{found.damaged[0]}"
        )
