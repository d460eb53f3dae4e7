"""`uda-runtime predict`: classify images and videos."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.commands.options import BUNDLE, output_options, session_options
from runtime.console import STDOUT, echo
from runtime.models import AUTO, REJECT
from runtime.text import printable

if TYPE_CHECKING:
    from runtime.outputs.base import Output
    from runtime.outputs.tally import Tally
    from runtime.sessions.session import Session
    from runtime.sources.select import Selection


@click.command(short_help="Classify images and videos.")
@BUNDLE
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--task",
    help="Task to use, see `uda-runtime info`, or `auto` to choose one for each image and for the "
    "scenes of a video; default: the only one of the bundle.",
)
@click.option("--recursive", is_flag=True, help="Also search subfolders.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of classes to show, most likely first.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    help="Number of images to classify at once.",
)
@click.option(
    "--reject",
    type=click.FloatRange(0, 1, max_open=True),
    default=REJECT,
    show_default=True,
    help="Share of a task's own images that may be taken for unknown, if it has statistics.",
)
@output_options
@session_options
def predict(
    bundle: Path,
    images: tuple[str, ...],
    task: str | None,
    recursive: bool,
    top: int,
    batch: int,
    targets: dict[str, Path],
    **settings: Any,
) -> None:
    """Classify IMAGES, and print the accuracy where their folders are named after classes.

    IMAGES are image files, videos, folders, patterns in quotes such as 'shop/**/*.jpg', and list
    files (.txt): one path per line, relative to the list's folder, optionally with a label. An
    unreadable image does not stop the others. A file that is named twice is classified once. Ctrl-C
    and SIGTERM end it early; what was classified until then is written.
    """
    from runtime.outputs.targets import check_targets
    from runtime.sessions.session import Session
    from runtime.signals import terminable
    from runtime.sources.select import select

    with terminable(), Session.open(bundle, **settings) as session:
        auto = task == AUTO
        tasks = session.tasks if auto else (_choose(session, task),)
        top = min(top, *(session.bundle.entry(each).classes for each in tasks))
        selection = select(images, recursive)
        read = [*(given.name for given in selection.inputs), *selection.lists]
        check_targets(targets, read, bundle)
        run(session, selection, targets, top, batch, auto=auto)


def _choose(session: Session, task: str | None) -> str:
    """Switch to a task, or check that the bundle has only one, and return its id.

    Raises:
        TaskError: The bundle has no such task, or several and none was named.
    """
    from runtime.errors import TaskError

    if task is not None:
        session.switch(task)
    if session.task is None:
        raise TaskError(
            f"no task is selected; available: {', '.join(session.tasks)}; name one, for "
            f"example --task {session.tasks[0]}"
        )
    return session.task


def run(
    session: Session,
    selection: Selection,
    targets: dict[str, Path],
    top: int,
    batch: int,
    *,
    auto: bool = False,
) -> None:
    """Classify a selection, write its outputs, and print a summary.

    Args:
        session: Session that classifies, by its current task unless `auto`.
        selection: Images and videos.
        targets: Files to write, by output.
        top: Number of classes to show.
        batch: Largest number of images to classify at once.
        auto: Whether to choose the task of each image, and of the scenes of a video.

    Raises:
        UdaError: An image could not be classified, or nothing more can; what was is written.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; what was classified is written.
    """
    from runtime import outputs
    from runtime.classify import classify
    from runtime.outputs.accuracy import Accuracy
    from runtime.outputs.tally import Tally
    from runtime.outputs.terminal import Terminal
    from runtime.sources import open_inputs

    for note in selection.notes:
        echo(printable(note), err=True)
    printed = STDOUT in targets.values()  # then all else goes to stderr
    if selection.summary:
        echo(f"found     {printable(selection.summary)}\n", err=printed)
    files = [path for path in targets.values() if path != STDOUT]
    accuracy, tally = Accuracy(), Tally(files)
    if auto:  # all images are laid on one background; the first task's is as good as another's
        session.switch(session.tasks[0])
    background = session.preprocess.background
    started = time.monotonic()
    with tally.explained(), ExitStack() as stack:  # outputs are finished when they are closed
        source = stack.enter_context(open_inputs(selection.inputs, background))
        sinks: list[Output] = []
        for name in outputs.OUTPUTS:
            if name in targets:
                sinks.append(outputs.load(name, targets[name], top))
                stack.callback(sinks[-1].close)
        terminal = Terminal(top, source, predictions=not printed)
        stack.callback(terminal.close)
        sinks += [terminal, accuracy, tally]
        for result in classify(session, source, batch, auto=auto):
            for sink in sinks:
                sink.write(result)
    for note in source.notes:
        echo(printable(note), err=True)
    report, seconds = accuracy.report(), time.monotonic() - started
    if tally.good and (selection.summary or report):
        lines = [*_counts(tally, seconds), *(f"wrote     {printable(path)}" for path in files)]
        if not printed:
            echo()
        echo("\n".join(filter(None, [*lines, report])), err=printed)
    tally.check()


def _counts(tally: Tally, seconds: float) -> list[str]:
    """Return lines of how many frames were classified, by which tasks, and how many are unknown."""
    lines = [f"done      {tally.classified} in {seconds:.1f} s"]
    if tally.tasks:
        named = ", ".join(f"{task} {count:,}" for task, count in tally.tasks.most_common())
        lines.append(f"tasks     {printable(named)}")
    if tally.unknown:
        lines.append(f"unknown   {tally.unknown:,} of {tally.classified}")
    return lines
