"""Make the settings of a watcher out of the options of `uda-runtime watch`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from click.core import ParameterSource

from runtime.errors import ConfigError
from runtime.watch.settings import Harvest, Monitoring, SourceSettings, split_source

DEMO = "demo"
"""Name of the drawn street, and its address with a colon."""
_COMMAND_LINE = ParameterSource.COMMANDLINE


def sources_of(
    values: Mapping[str, Any],
    given: Mapping[str, ParameterSource | None],
    tables: Mapping[str, Mapping[str, Any]],
) -> list[SourceSettings]:
    """Return the settings of all sources; options on the command line win over those of a file.

    Raises:
        ConfigError: A source is not NAME=WHERE, two have one name, or there is none.
    """
    named = [split_source(text) for text in values["source"]]
    if values["demo"]:
        named.append((DEMO, f"{DEMO}:"))
    names = [name for name, _ in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two sources are named '{twice}'; give each a name of its own")
    merged: dict[str, dict[str, Any]] = {name: dict(table) for name, table in tables.items()}
    for name, where in named:
        merged.setdefault(name, {})["where"] = where
    found = []
    for name, own in merged.items():
        for key in ("task", "every", "queue", "smooth", "stall", "fast"):
            if key not in own or given[key] is _COMMAND_LINE:
                own[key] = values[key]
        found.append(SourceSettings(name, **own))
    return found


def monitoring_of(
    values: Mapping[str, Any], given: Mapping[str, ParameterSource | None]
) -> Monitoring:
    """Return what is to be noticed and kept.

    Raises:
        ConfigError: An option was given without the one that it goes with.
    """
    for option, other in (("state", "drift"), ("budget", "harvest"), ("max_age", "harvest")):
        if given[option] is not ParameterSource.DEFAULT and not values[other]:
            dashed = option.replace("_", "-")
            raise ConfigError(f"--{dashed} goes with --{other}; add that, or leave out --{dashed}")
    harvest = None
    if values["harvest"] is not None:
        harvest = Harvest(values["harvest"], values["budget"] << 20, values["max_age"])
    return Monitoring(values["drift"], values["state"], harvest)
