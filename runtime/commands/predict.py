"""`uda-runtime predict`: what is on some images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runtime.commands.options import BUNDLE, JSON, session_options
from runtime.console import write_json


@click.command()
@BUNDLE
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--task", help="Task to judge with; may be left out if the bundle has one.")
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True)
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
    """Say what is on IMAGES; one that cannot be judged does not keep the others from it."""
    from runtime.errors import ConfigError, DataError
    from runtime.frames.preprocess import read_image
    from runtime.sessions.session import Session

    if json_file is not None and json_file.resolve() in {image.resolve() for image in images}:
        raise ConfigError(f"'{json_file}' is one of the images; write the JSON elsewhere")
    results: list[dict[str, Any]] = []
    with Session.open(bundle, **settings) as session:
        if task is not None:
            session.switch(task)
        for path in images:
            try:
                frame = read_image(path, background=session.preprocess.background)
                best = session.predict(frame).top(top)
            except DataError as error:
                if len(images) == 1:
                    raise
                results.append({"image": str(path), "task": session.task, "error": str(error)})
                named = "" if f"'{path}'" in str(error) else f"{path}: "
                click.echo(f"{named}error: {error}", err=True)
                continue
            results.append({"image": str(path), "task": session.task, "top": best})
            click.echo(f"{path}: " + ", ".join(f"{label} {score:.1%}" for label, score in best))
    if json_file is not None:
        write_json(json_file, results)
    failed = sum("error" in result for result in results)
    if failed:
        raise DataError(f"{failed} of {len(images)} images could not be judged; see above")
