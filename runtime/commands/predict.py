"""`uda-runtime predict`: classify images."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import click

from runtime.commands.options import BUNDLE, JSON, session_options
from runtime.console import count_of, echo, write_json
from runtime.storage import disk
from runtime.text import printable


@click.command(short_help="Classify images.")
@BUNDLE
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@click.option(
    "--task", help="Task to use, see `uda-runtime info`; default: the only one of the bundle."
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of classes to show, most likely first.",
)
@JSON
@session_options
def predict(
    bundle: Path,
    images: tuple[Path, ...],
    task: str | None,
    top: int,
    json_file: Path | None,
    **settings: Any,
) -> None:
    """Classify IMAGES, which are files; an unreadable one does not stop the others."""
    from runtime.errors import ConfigError, DataError, StorageError, TaskError
    from runtime.frames.preprocess import read_image
    from runtime.sessions.session import Session

    same = os.path.realpath  # takes links in a circle
    if json_file is not None and same(json_file) in map(same, images):
        raise ConfigError(f"'{json_file}' is one of the images; write the JSON elsewhere")
    for path in images:
        with contextlib.suppress(StorageError):  # it is one of many, and none stops the others
            if disk.is_folder(path):
                raise DataError(
                    f"'{path}' is a folder, expected image files; name them, for example "
                    f"{_example(path)}"
                )
    results: list[dict[str, Any]] = []
    with Session.open(bundle, **settings) as session:
        if task is not None:
            session.switch(task)
        elif session.task is None:
            raise TaskError(
                f"no task is selected; available: {', '.join(session.tasks)}; name one, for "
                f"example --task {session.tasks[0]}"
            )
        for path in images:
            try:
                frame = read_image(path, background=session.preprocess.background)
                best = session.predict(frame).top(top)
            except DataError as error:
                if len(images) == 1:
                    raise
                results.append({"image": str(path), "task": session.task, "error": str(error)})
                named = "" if f"'{path}'" in str(error) else f"{path}: "
                echo(printable(f"{named}error: {error}"), err=True)
                continue
            results.append({"image": str(path), "task": session.task, "top": best})
            scores = ", ".join(f"{label} {score:.1%}" for label, score in best)
            echo(printable(f"{path}: {scores}"))
    if json_file is not None:
        write_json(json_file, results)
    failed = sum("error" in result for result in results)
    if failed:
        raise DataError(
            f"{failed} of {count_of(len(images), 'image')} could not be classified; see above"
        )


def _example(folder: Path) -> str:
    """Return a pattern that matches image files in a folder or below."""
    from runtime.frames import formats

    for depth in ("*", "*/*", "*/*/*"):
        for path in sorted(folder.glob(depth)):
            if path.suffix.lower() in formats.KNOWN and disk.is_file(path):
                return f"{folder / depth}{path.suffix}"
    return str(folder / "*.jpg")
