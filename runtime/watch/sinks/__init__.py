"""Where observations go while sources are watched. A new kind is one file and one line in `SINKS`.

Its options are declared by a function of the same name in `runtime.commands.watch_options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.errors import ConfigError
from runtime.lookup import imported

if TYPE_CHECKING:
    from runtime.watch.sinks.base import Sink


class Entry(NamedTuple):
    """A sink as it is known before its module is imported."""

    sink: str
    """`module:Class`, called with the values of its options as keywords."""
    options: tuple[str, ...] = ()
    """Its options by the names of the command's arguments, such as `max_age`. The first one asks
    for the sink; the others go with it, or with another sink that has them too. A sink without
    options is always there."""
    extra: str | None = None
    """The extra of the project that its packages are in."""
    standard_output: bool = False
    """Whether the first option may be `-`, for the standard output."""


SINKS: Mapping[str, Entry] = {}
"""By name; each takes an observation in this order."""


def wanted(values: Mapping[str, Any], given: Mapping[str, bool]) -> tuple[str, ...]:
    """Return the names of the sinks that are wanted.

    Args:
        values: Values of the options by the names of their arguments.
        given: Whether the user has set each.

    Raises:
        ConfigError: An option was given without the one that it goes with.
    """
    found = tuple(
        name
        for name, entry in SINKS.items()
        if not entry.options or values[entry.options[0]] not in (None, False)
    )
    for option in [option for option, by_user in given.items() if by_user]:
        with_it = [entry.options[0] for entry in SINKS.values() if option in entry.options]
        used = any(option in SINKS[name].options for name in found)
        if with_it and not used:
            names = " or ".join(f"--{first}" for first in with_it)
            dashed = option.replace("_", "-")
            raise ConfigError(f"--{dashed} goes with {names}; add that, or leave out --{dashed}")
    return found


def load(name: str, values: Mapping[str, Any]) -> Sink:
    """Return the sink `name`.

    Args:
        name: A key of `SINKS`.
        values: Values of all options by the names of their arguments.

    Raises:
        ConfigError: Its packages are not installed.
        UdaError: A value cannot be used.
    """
    entry = SINKS[name]
    try:
        sink: Sink = imported(entry.sink)(**{option: values[option] for option in entry.options})
    except ModuleNotFoundError as error:
        if entry.extra is None or (error.name or "").partition(".")[0] == "runtime":
            raise
        raise ConfigError(
            f"--{entry.options[0]} needs '{error.name}', which is not installed; run "
            f"pip install '.[{entry.extra}]'"
        ) from error
    return sink
