"""The options of the sinks of `uda-runtime watch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from runtime.watch.sinks import SINKS

F = TypeVar("F", bound=Callable[..., Any])

SINK_OPTIONS: Mapping[str, Callable[[Any], Any]] = {}
"""Declarations by the name of the argument, for every option that `SINKS` names."""


def sink_options(command: F) -> F:
    """Add the options of all `SINKS`; the command gets their values as keywords."""
    names = dict.fromkeys(option for entry in SINKS.values() for option in entry.options)
    for name in reversed(list(names)):
        command = SINK_OPTIONS[name](command)
    return command
