"""Options of the commands that write a page, and the function that writes one after a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapt.commands.options import F
from runtime.console import UserPath, echo

if TYPE_CHECKING:
    from adapt.data import DomainPair
    from adapt.evaluation.compare import Line

NAME = "report.html"
"""Name of a page, where none is given."""
_BESIDE = "beside the artifact"
"""Stands for an option without a value; no file that ends in .html has this name."""


class PagePath(UserPath):
    """Path of a page, which must end in .html so that a browser opens it as one."""

    def __init__(self, hint: str = "") -> None:
        """Make the type.

        Args:
            hint: Further advice where the ending is another.
        """
        super().__init__(dir_okay=False)
        self._hint = hint

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or refuse the value."""
        path = super().convert(value, param, ctx)
        name = str(value)
        if name != _BESIDE and not name.lower().endswith((".html", ".htm")):
            option = param.opts[0] if param else "the page"
            raise click.UsageError(
                f"{option} must end in .html, found '{name}'; pass {option} "
                f"{name.rstrip('/')}.html{self._hint}",
                ctx,
            )
        return path


def page_option(where: str, hint: str = "") -> Callable[[F], F]:
    """Return the option `--report [FILE.html]`.

    Args:
        where: Place of the page where no file is named, for the help.
        hint: Further advice where the ending is another.
    """
    return click.option(
        "--report",
        "page",
        type=PagePath(hint),
        metavar="[FILE.html]",
        is_flag=False,
        flag_value=_BESIDE,
        help=f"Write a report page: images, curves, confusion, mistakes. Without FILE.html it is "
        f"written {where}.",
    )


no_images_option = click.option(
    "--no-images",
    is_flag=True,
    help="Show file names instead of pictures, for example where these show people.",
)


def write_page(
    page: Path,
    folder: Path,
    pair: DomainPair,
    files: Mapping[str, Path],
    lines: Sequence[Line],
    images: bool,
) -> None:
    """Write the page of a task that was just evaluated, and say where it is.

    Args:
        page: Value of the option.
        folder: Folder of the page where the option names no file.
        pair: Images of the task.
        files: Artifacts that get a section, by variant.
        lines: Comparison of these and the baselines.
        images: Whether to show pictures.

    Raises:
        StorageError: The page cannot be written.
    """
    from adapt.report.tasks import from_comparison
    from adapt.report.write import write

    page = folder / NAME if page == Path(_BESIDE) else page
    write(page, [from_comparison(pair, files, lines)], images=images)
    echo(f"report     {page}")
