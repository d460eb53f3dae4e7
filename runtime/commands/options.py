"""Arguments and options shared by several commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import click

from runtime.backends import BACKENDS
from runtime.backends import DEFAULT as DEFAULT_BACKEND
from runtime.console import UserPath
from runtime.outputs import OUTPUTS
from runtime.strategies import DEFAULT as DEFAULT_STRATEGY
from runtime.strategies import STRATEGIES

F = TypeVar("F", bound=Callable[..., Any])

_BUILT = sorted(name for name, entry in BACKENDS.items() if entry.built)


def _summaries(table: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {entry.summary}" for name, entry in sorted(table.items()))


BUNDLE = click.argument("bundle", type=UserPath())
JSON = click.option(
    "--json",
    "json_file",
    type=UserPath(dir_okay=False),
    help="Also write JSON.",
)
_DEVICE = click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Device to run on: cpu, cuda, or cuda:1 for the second GPU.",
)
_BACKEND = click.option(
    "--backend",
    type=click.Choice(sorted(BACKENDS)),
    default=DEFAULT_BACKEND,
    show_default=True,
    help=f"Backend. {_summaries(BACKENDS)}.",
)
ENGINES = click.option(
    "--engines",
    metavar="DIR",
    type=UserPath(file_okay=False, path_type=str),  # not a Path, in which '' is the current folder
    help=f"Folder of engines, for backend {' or '.join(_BUILT)}; default: `engines` in the bundle.",
)
_THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads; default: the backend's choice.",
)
STRATEGY = click.option(
    "--strategy",
    type=click.Choice(sorted(STRATEGIES)),
    default=DEFAULT_STRATEGY,
    show_default=True,
    help=f"Strategy for holding tasks. {_summaries(STRATEGIES)}.",
)
_VERIFY = click.option(
    "--verify",
    type=click.Choice(["changed", "full"]),
    default="changed",
    show_default=True,
    help="When to verify the base before it is used. changed: if it changed since you last "
    "verified it, otherwise in the background; full: always.",
)


def output_options(command: F) -> F:
    """Add an option for each of `OUTPUTS`; the command gets those that were given as `targets`."""

    @wraps(command)
    def run(**values: Any) -> Any:
        paths = {name: values.pop(f"{name}_path") for name in OUTPUTS}
        given = {name: path for name, path in paths.items() if path is not None}
        return command(targets=given, **values)

    options: Any = run
    for name, entry in reversed(list(OUTPUTS.items())):
        options = click.option(
            f"--{name}",
            f"{name}_path",
            metavar="DIR" if entry.folder else "FILE",
            type=UserPath(
                file_okay=not entry.folder, dir_okay=entry.folder, allow_dash=not entry.folder
            ),
            help=entry.summary,
        )(options)
    decorated: F = options
    return decorated


def session_options(command: F) -> F:
    """Add the options of `Session.open`, named like its arguments."""
    for option in (ENGINES, STRATEGY, _VERIFY, _THREADS, _DEVICE, _BACKEND):
        command = option(command)
    return command
