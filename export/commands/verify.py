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
    with progress_bar() as on_progress:
        from export import ImagePaths, verify_bundle

        verified_on = ImagePaths.parse(images, data)
        rows = verify_bundle(
            bundle,
            artifacts,
            tasks=tasks,
            images=verified_on,
            max_images=max_images,
            pretrained=pretrained,
            on_progress=on_progress,
        )
    show_rows(rows, verified_on)
