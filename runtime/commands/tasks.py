"""`uda-runtime install`, `remove` and `rollback`: change the tasks of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from runtime.console import UserPath, echo

_BUNDLE = click.option(
    "--bundle",
    required=True,
    type=UserPath(),
    help="Bundle to change; running sessions see the change at their next refresh.",
)


@click.command(short_help="Add a task to a bundle.")
@click.argument("task_file", type=UserPath())
@_BUNDLE
def install(task_file: Path, bundle: Path) -> None:
    """Add the task of TASK_FILE to a bundle, or replace the task of the same id.

    TASK_FILE is a file from the folder `tasks` of another bundle of the same base. The replaced
    version is kept, and `uda-runtime rollback` restores it.
    """
    from runtime.bundles import install as changing
    from runtime.bundles.bundle import Bundle

    entry = changing.install(bundle, task_file)
    kept = any(former.id == entry.id for former in Bundle.open(bundle).manifest.former)
    echo(
        f"installed  {entry.id}: {entry.source} -> {entry.target}, {entry.file.sha256[:12]}"
        + (", a former version is kept" if kept else "")
    )


@click.command(short_help="Remove a task from a bundle.")
@click.argument("task")
@_BUNDLE
def remove(task: str, bundle: Path) -> None:
    """Remove TASK from a bundle; `uda-runtime rollback` restores it."""
    from runtime.bundles import install as changing

    entry = changing.remove(bundle, task)
    echo(f"removed    {entry.id}: {entry.source} -> {entry.target}, kept for a rollback")


@click.command(short_help="Restore a task's former version.")
@click.argument("task")
@_BUNDLE
def rollback(task: str, bundle: Path) -> None:
    """Restore the version of TASK that the last install or remove replaced."""
    from runtime.bundles import install as changing

    entry = changing.rollback(bundle, task)
    echo(f"restored   {entry.id}: {entry.source} -> {entry.target}, {entry.file.sha256[:12]}")
