"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
JSON = click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write JSON.",
)
_DEVICE = click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where engines run: cpu, cuda, or cuda:1 for the second GPU; one that is not there is an "
    "error.",
)
_BACKEND = click.option(
    "--backend", default="ort", show_default=True, help="Kind of engine: ort, or trt on a GPU."
)
ENGINES = click.option(
    "--engines",
    metavar="DIR",
    type=click.Path(file_okay=False),  # not a Path, in which '' is the current folder
    help="Where the engines of backend trt lie; the bundle's folder `engines` if not given.",
)
_THREADS = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads; the backend decides if not given."
)
STRATEGY = click.option(
    "--strategy",
    default="patch",
    show_default=True,
    help="How tasks are held: patch (changes of one base, in place) or engines (one for each).",
)


def session_options(command: F) -> F:
    """Add what says how a session is opened: the arguments of `Session.open` by their names."""
    for option in (ENGINES, STRATEGY, _THREADS, _DEVICE, _BACKEND):
        command = option(command)
    return command
