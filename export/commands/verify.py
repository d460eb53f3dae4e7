"""`uda-export verify`: compare a bundle with PyTorch again."""

from __future__ import annotations

from pathlib import Path

import click

from export.commands.options import source_options
from export.commands.show import progress_bar, show_rows


@click.command(short_help="Compare a bundle with PyTorch again.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--task", "tasks", multiple=True, metavar="SRC-TGT", help="Task; all if not given.")
@source_options
def verify(
    bundle: Path,
    tasks: tuple[str, ...],
    artifacts: Path,
    images: tuple[str, ...],
    data: Path | None,
    max_images: int,
    pretrained: str | None,
) -> None:
    """Compare a bundle with PyTorch again, on real images."""
    with progress_bar() as progress:
        from export.pipeline import verify_bundle
        from export.verification.images import Folders

        folders = Folders.parse(images, data)

        rows = verify_bundle(
            bundle,
            tasks,
            artifacts,
            images=folders,
            limit=max_images,
            pretrained=pretrained,
            progress=progress,
        )
    show_rows(rows, folders)
