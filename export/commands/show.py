"""Show progress and the results of verification on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.progress import progress_bar
from runtime.console import echo, table

if TYPE_CHECKING:
    from export import ImagePaths, TaskReport


def compare_and_show(
    compare: Callable[..., list[TaskReport]],
    *,
    images: tuple[str, ...],
    data: Path | None,
    **options: Any,
) -> list[TaskReport]:
    """Compare tasks with PyTorch under a progress bar; print and return the results.

    Args:
        compare: Function that compares, given `images`, `on_progress` and `options`.
        images: Values of `--images`.
        data: Value of `--data`.
        options: Other options of the function.

    Raises:
        UdaError: As `compare`, or `--images` cannot be read.
    """
    with progress_bar() as on_progress:
        from export import ImagePaths

        used = ImagePaths.parse(images, data)
        rows = compare(images=used, on_progress=on_progress, **options)
    _show(rows, used)
    return rows


def _show(rows: Sequence[TaskReport], images: ImagePaths) -> None:
    """Print the images that were used, the comparisons, and how much of each residual survives."""
    for line in images.inventory():
        echo(line)
    for row in rows:
        if row.images:
            echo(f"images of {row.comparison.task}: {row.images}")
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
    echo(table(header, cells) + "\n")
    residuals = ("task", "method", "density", "patch", "survives fp32", "fp16", "bf16")
    cells = [
        [
            row.comparison.task,
            row.record.variant,
            f"{row.record.density:.3%}",
            f"{row.record.patch_density:.3%}",
            *(f"{share:.1%}" for share in vars(row.record.survival).values()),
        ]
        for row in rows
    ]
    echo(table(residuals, cells) + "\n")


def _percent(value: float | None) -> str:
    return "no labels" if value is None else f"{value:.2f} %"
