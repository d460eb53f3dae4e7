"""What `--help` shows of every command."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from adapt.cli import main as adapt
from export.cli import main as export
from runtime.cli import main as runtime


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for key, command in group.commands.items():
        yield f"{name} {key}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {key}")


ALL = {
    **dict(commands(adapt, "uda-adapt")),
    **dict(commands(export, "uda-export")),
    **dict(commands(runtime, "uda-runtime")),
}


@pytest.mark.parametrize("name", ALL)
def test_the_summary_of_a_command_is_never_cut(name: str) -> None:
    assert 10 < len(ALL[name].get_short_help_str(limit=1000)) <= 45
