"""What the commands of `uda-export` share: options, a bar, and the table of what was verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.console import table

if TYPE_CHECKING:
    from export.pipeline import Row
    from export.verification.images import Folders
    from export.verification.verify import Progress

F = TypeVar("F", bound=Callable[..., Any])


def source_options(command: F) -> F:
    """Add what says where artifacts, images and base weights are."""
    for option in reversed(
        [
            click.option(
                "--artifacts",
                type=click.Path(file_okay=False, path_type=Path),
                default="artifacts",
                show_default=True,
                help="Folder that `uda-adapt train` wrote.",
            ),
            click.option(
                "--images",
                multiple=True,
                metavar="[TASK=]PATH",
                help="Verify on the images in PATH, a folder or a list file (.txt), instead of the "
                "test images of training; repeatable. `a-c=PATH` is for task a-c alone, a PATH "
                "without a task for all others.",
            ),
            click.option(
                "--data",
                metavar="ROOT",
                type=click.Path(exists=True, file_okay=False, path_type=Path),
                help="Folder of the images of training, if they have moved since, and of what a "
                "list file names; the demo draws its own.",
            ),
            click.option(
                "--max-images",
                type=click.IntRange(min=1),
                default=2000,
                show_default=True,
                help="Verify on so many images per task, evenly spaced, if there are more.",
            ),
            click.option(
                "--pretrained",
                metavar="FILE",
                help="The base's weights, if they are not where training found them.",
            ),
        ]
    ):
        command = option(command)
    return command


def task_options(command: F) -> F:
    """Add what says which tasks are exported, and at which precision."""
    for option in reversed(
        [
            click.option(
                "--task",
                "tasks",
                multiple=True,
                required=True,
                metavar="SRC-TGT[=NAME]",
                help="Task; repeatable. `a-c=unimos` takes that variant of it; tasks of different "
                "methods on one base share a bundle.",
            ),
            click.option(
                "--dataset",
                metavar="NAME",
                help="Data set, where several have a task of that name.",
            ),
            click.option(
                "--method", metavar="NAME", help="Variant of tasks that name none: cmkd-rst."
            ),
            click.option(
                "--precision",
                type=click.Choice(["fp32", "fp16", "bf16"]),
                default="fp32",
                show_default=True,
                help="fp16 and bf16 can round a residual away, see the column `survives`, unless "
                "--grid of `uda-adapt train` was the same. bf16 weights are stored and multiplied "
                "as float32.",
            ),
            click.option(
                "--schema",
                type=click.Choice(["2", "3"]),
                default="3",
                show_default=True,
                help="Format of the bundle; 2 for devices whose uda-edge reads no newer one.",
            ),
        ]
    ):
        command = option(command)
    return command


def export_and_show(
    out: Path,
    *,
    baked: bool,
    tasks: tuple[str, ...],
    dataset: str | None,
    method: str | None,
    precision: Any,
    artifacts: Path,
    images: tuple[str, ...],
    data: Path | None,
    max_images: int,
    pretrained: str | None,
    schema: str,
) -> list[Row]:
    """Do what `uda-export onnx` does; the arguments are the options of that name.

    Raises:
        UdaError: As `export.pipeline.export_bundle`; then nothing was written.
    """
    from adapt.store import find

    chosen = [task.partition("=") for task in tasks]
    paths = [find(artifacts, task, dataset, own or method) for task, _, own in chosen]
    with progress_bar() as progress:
        from export.pipeline import export_bundle
        from export.verification.images import Folders

        folders = Folders.parse(images, data)
        rows = export_bundle(
            paths,
            out,
            precision=precision,
            baked=baked,
            images=folders,
            limit=max_images,
            pretrained=pretrained,
            progress=progress,
            schema=int(schema),
        )
    show_rows(rows, folders)
    click.echo(f"wrote {out} ({precision}, verified against PyTorch)")
    for row in rows if baked else ():
        click.echo(f"wrote {out.parent / f'{out.stem}-{row.comparison.task}.onnx'}")
    return rows


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show one bar for what is going on; nothing of it stays, and pipes see nothing."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    # Where there is nothing to erase, rich 15 would leave an empty line.
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("load", total=None)
        yield lambda what, done, total: bars.update(
            bar, description=what, completed=done, total=total
        )


def show_rows(rows: Sequence[Row], folders: Folders) -> None:
    """Print what was verified on, what that found, and what each precision keeps of residuals.

    Args:
        rows: Rows of the tasks.
        folders: Images that `--images` named.
    """
    for line in folders.inventory():
        click.echo(line)
    for row in rows:
        if row.images:
            click.echo(f"images of {row.comparison.task}: {row.images}")
    results = [row.comparison for row in rows]
    header = ("task", "images", "top-1 agreement", "largest logit difference", "PyTorch", "engine")
    cells = [
        [
            result.task,
            f"{result.images} of {result.available}",
            f"{result.agreement:.2%}",
            f"{result.max_difference:.1e} of {result.spread:.3g}",
            _percent(result.accuracy_torch),
            _percent(result.accuracy_engine),
        ]
        for result in results
    ]
    click.echo(table(header, cells) + "\n")
    kept = ("task", "method", "density", "patch", "survives fp32", "fp16", "bf16")
    cells = [
        [
            row.comparison.task,
            row.facts.variant,
            f"{row.facts.density:.3%}",
            f"{row.facts.patch_density:.3%}",
            *(f"{share:.1%}" for share in vars(row.facts.survival).values()),
        ]
        for row in rows
    ]
    click.echo(table(kept, cells) + "\n")


def _percent(value: float | None) -> str:
    return "no labels" if value is None else f"{value:.2f} %"
