"""`uda-export verify`: compare a bundle with PyTorch again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.commands.options import source_options
from export.commands.show import compare_and_show
from runtime.commands.options import session_options
from runtime.console import UserPath, count_of, echo

if TYPE_CHECKING:
    from export import TaskReport

_OF_SESSIONS = ("backend", "device", "threads", "engines", "strategy", "verify")
"""Names of what `session_options` adds."""


@click.command(short_help="Compare a bundle with PyTorch again.")
@click.argument("bundle", type=UserPath())
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="SRC-TGT",
    help="Task to compare; repeatable; default: all.",
)
@source_options
@session_options
def verify(bundle: Path, **options: Any) -> None:
    """Compare a bundle with PyTorch again, on real images, as a session runs it."""
    session = {name: options.pop(name) for name in _OF_SESSIONS}

    def compare(**selection: Any) -> list[TaskReport]:
        from export import verify_bundle

        return verify_bundle(bundle, session=session, **selection)

    rows = compare_and_show(compare, **options)
    echo(f"verified   {bundle}: {count_of(len(rows), 'task')} compared, none differs")
