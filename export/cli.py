"""`uda-export`: onnx, trt, triton, verify. Commands import torch themselves: --help is quick."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from export.commands.options import (
    export_and_show,
    progress_bar,
    show_rows,
    source_options,
    task_options,
)
from export.commands.triton import triton
from export.commands.trt import trt
from runtime.console import UdaGroup


@click.group(cls=UdaGroup)
@click.version_option(package_name="uda-edge")
def main() -> None:
    """Turn task artifacts into what a device runs."""


@main.command(short_help="Write a bundle.")
@task_options
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the bundle to write."
)
@click.option(
    "--baked",
    is_flag=True,
    help="Also write OUT-<task>.onnx beside the bundle: plain ONNX, constant weights, class names "
    "in its metadata.",
)
@source_options
def onnx(out: Path, baked: bool, **selection: Any) -> None:
    """Write a bundle of weight-free graphs, the base once, and a patch per task.

    Every task is compared with PyTorch on real images first. If one disagrees, nothing is written.
    """
    rows = export_and_show(out, baked=baked, **selection)
    words = ["uda-runtime", "predict", str(out)]
    words += ["--task", rows[0].comparison.task] if len(rows) > 1 else []
    click.echo(f"\nnext       {shlex.join(words)} IMAGES...")


@main.command(short_help="Compare a bundle with PyTorch again.")
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


main.add_command(trt)
main.add_command(triton)

if __name__ == "__main__":
    main()
