"""What `--help` shows of every command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from adapt.cli import main as adapt
from export.cli import main as export
from runtime.cli import main as runtime
from runtime.console import UserPath


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


def test_a_path_that_may_not_be_read_is_no_wrong_usage() -> None:
    kinds = [p.type for command in ALL.values() for p in command.params]
    paths = [kind for kind in kinds if isinstance(kind, click.Path)]
    assert len(paths) > 20 and not any(kind.readable for kind in paths)


def wrong_paths(kind: UserPath, folder: Path) -> dict[str, str]:
    """Return paths that an argument refuses, with what is said of each."""
    (folder / "file").touch()
    wrong = {str(folder / "nowhere"): "does not exist"} if kind.exists else {}
    if not kind.file_okay:
        wrong[str(folder / "file")] = "is a file, expected a folder"
    if not kind.dir_okay:
        wrong[str(folder)] = "is a folder, expected a file"
    return wrong


@pytest.mark.parametrize("name", ALL)
def test_a_path_that_cannot_be_used_is_one_line_and_no_wrong_usage(
    name: str, tmp_path: Path
) -> None:
    program, *words = name.split()
    for param in ALL[name].params:
        if not isinstance(param.type, UserPath):
            continue
        option = [param.opts[0]] if isinstance(param, click.Option) else []
        for path, text in wrong_paths(param.type, tmp_path).items():
            done = CliRunner().invoke(GROUPS[program], [*words, *option, path])
            assert done.exit_code == 1
            what = option[0] if option else "the path"
            assert done.stderr == f"error: '{path}' {text}; check {what}\n"


GROUPS = {
    "uda-adapt": adapt,
    "uda-export": export,
    "uda-runtime": runtime,
    **{name: command for name, command in ALL.items() if isinstance(command, click.Group)},
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_shows_all_summaries_whole_on_80_columns(name: str) -> None:
    group = GROUPS[name]
    context = click.Context(group, info_name=name, terminal_width=80)
    shown = {tuple(line.split(maxsplit=1)) for line in group.get_help(context).splitlines() if line}
    for key, command in group.commands.items():
        assert (key, command.get_short_help_str(limit=1000)) in shown


def options(command: click.Command) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option) and not one.hidden]


@pytest.mark.parametrize("name", ALL)
def test_every_option_says_what_it_is(name: str) -> None:
    assert [one.opts[0] for one in options(ALL[name]) if not one.help] == []


@pytest.mark.parametrize("name", [name for name in ALL if options(ALL[name])])
def test_a_value_without_a_space_before_it_is_explained(name: str) -> None:
    program, *words = name.split()
    for option in options(ALL[name]):
        wrong = [*words, f"{option.opts[0]}/tmp/\x1b[2J x"]
        result = CliRunner().invoke(GROUPS[program], wrong)
        assert result.exit_code == 2 and "\x1b" not in result.stderr
        hint = f"'{option.opts[0]}/tmp/\\x1b[2J x'; a space is missing after {option.opts[0]}\n"
        assert (hint in result.stderr) != option.is_flag
