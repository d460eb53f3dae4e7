"""The options of the sinks of `uda-runtime watch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from runtime.console import UserPath
from runtime.watch.sinks import PRINTED, SINKS

F = TypeVar("F", bound=Callable[..., Any])

_FILE = UserPath(dir_okay=False, allow_dash=True)
SINK_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "jsonl": click.option(
        "--jsonl",
        type=_FILE,
        metavar="FILE",
        help="Also append to a file of JSON lines, one for each frame; - prints them.",
    ),
    "csv": click.option(
        "--csv",
        type=_FILE,
        metavar="FILE",
        help="Also append to a CSV file; - prints it.",
    ),
    "save": click.option(
        "--save",
        type=UserPath(file_okay=False),
        metavar="DIR",
        help="Save pictures with labels and scores in a folder; the oldest make room for new ones.",
    ),
    "save_budget": click.option(
        "--save-budget",
        type=click.FloatRange(min=1),
        default=1000.0,
        show_default=True,
        metavar="MB",
        help="Largest size of the pictures of --save.",
    ),
    "save_every": click.option(
        "--save-every",
        type=click.FloatRange(min=0),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help="Save a picture of a source so often at most, unless its label or task changes; 0 "
        "saves every frame.",
    ),
    "top": click.option(
        "--top",
        type=click.IntRange(1, 1000),
        default=1,
        show_default=True,
        help="Number of classes in these outputs, most likely first.",
    ),
}
"""Declarations by the name of the argument, for every option that `SINKS` names."""


def sink_options(command: F) -> F:
    """Add the options of all `SINKS`; the command gets their values as keywords."""
    named = {option for entry in SINKS.values() for option in entry.options} - {PRINTED}
    for name in reversed([option for option in SINK_OPTIONS if option in named]):
        command = SINK_OPTIONS[name](command)
    missing = named - SINK_OPTIONS.keys()
    assert not missing, f"options of sinks without a declaration: {missing}"
    return command
