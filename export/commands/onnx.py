"""`uda-export onnx`: write a bundle that was compared with PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.commands.options import source_options, task_options
from export.commands.show import compare_and_show
from runtime.backends import BACKENDS
from runtime.console import UserPath, echo
from runtime.text import shell_command

if TYPE_CHECKING:
    from export import TaskReport


@click.command(short_help="Write a bundle.")
@task_options
@click.option("--out", type=UserPath(), required=True, help="Folder of the bundle to write.")
@click.option(
    "--baked",
    is_flag=True,
    help="Also write OUT-<task>.onnx beside the bundle: plain ONNX, constant weights, class names "
    "in its metadata.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice([name for name, entry in BACKENDS.items() if not entry.built]),
    help="Backend that must agree with PyTorch as well, beside ort; repeatable.",
)
@source_options
def onnx(out: Path, baked: bool, **selection: Any) -> None:
    """Write a bundle of weight-free graphs, the base once, and a patch per task.

    Every task is compared with PyTorch on real images first. If one disagrees, nothing is written.
    """
    from runtime.bundles.bundle import Bundle
    from runtime.commands.info import routing_text

    rows = export_and_show(out, baked=baked, **selection)
    echo(f"\nrouting    {routing_text(Bundle.open(out))}")
    words = ["uda-runtime", "predict", str(out)]
    words += ["--task", rows[0].comparison.task] if len(rows) > 1 else []
    echo(f"\nnext       {shell_command(words)} IMAGES...")


def export_and_show(
    out: Path,
    *,
    baked: bool,
    tasks: tuple[str, ...],
    dataset: str | None,
    method: str | None,
    precision: str,
    artifacts: Path,
    schema: str,
    **selection: Any,
) -> list[TaskReport]:
    """Write a bundle and print the comparison; the arguments are the options of that name.

    Raises:
        UdaError: As `export.export_bundle`; then nothing was written.
    """
    from adapt.artifacts.store import find

    chosen = [task.partition("=") for task in tasks]
    paths = [find(artifacts, task, dataset, own or method) for task, _, own in chosen]
    if gone := _replaced(out, {task for task, _, _ in chosen}):
        echo(
            f"replaces {out}, which also holds {gone}; name every task with --task to keep them",
            err=True,
        )

    def compare(**options: Any) -> list[TaskReport]:
        from export import export_bundle

        return export_bundle(paths, out, baked=baked, schema=int(schema), **options)

    rows = compare_and_show(compare, precision=precision, **selection)
    echo(f"wrote {out} ({precision}, verified against PyTorch)")
    for row in rows if baked else ():
        echo(f"wrote {out.parent / f'{out.stem}-{row.comparison.task}.onnx'}")
    return rows


def _replaced(out: Path, exported: set[str]) -> str:
    """Return the tasks that an existing bundle holds beside those exported; empty if none."""
    from adapt.data.base import some
    from runtime.bundles import manifest
    from runtime.errors import UdaError

    try:
        held = [entry.id for entry in manifest.read(out).tasks]
    except UdaError:  # no bundle, or none that can be read: writing it says what is wrong
        return ""
    gone = [task for task in held if task not in exported]
    return some(gone) if gone else ""
