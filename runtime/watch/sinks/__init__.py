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


PRINTED = "printed"
"""Stands among the options for whether an output has the standard output for itself."""


class Entry(NamedTuple):
    """A sink as it is known before its module is imported."""

    sink: str
    """`module:Class`."""
    options: Mapping[str, str]
    """The class's parameter for each option, by the name of the command's argument, such as
    `max_age`. The first option asks for the sink; the others go with it, or with another sink that
    has them too. `printed`, which is not an option, says whether the standard output is taken."""
    extra: str | None = None
    """The extra of the project that its packages are in."""
    always: bool = False
    """Whether it is there without being asked for."""


SINKS: Mapping[str, Entry] = {
    "terminal": Entry("runtime.watch.sinks.terminal:Terminal", {PRINTED: "err"}, always=True),
    "jsonl": Entry("runtime.watch.sinks.files:JsonLines", {"jsonl": "path", "top": "top"}),
    "csv": Entry("runtime.watch.sinks.files:Csv", {"csv": "path", "top": "top"}),
    "save": Entry(
        "runtime.watch.sinks.pictures:Pictures",
        {"save": "folder", "save_budget": "budget", "save_every": "every", "top": "top"},
    ),
    "mqtt": Entry(
        "runtime.watch.sinks.mqtt:Mqtt",
        {
            "mqtt": "url",
            "mqtt_every": "every",
            "mqtt_password_file": "password_file",
            "mqtt_ca": "authority",
            "top": "top",
        },
        extra="mqtt",
    ),
    "metrics": Entry("runtime.watch.sinks.metrics:Metrics", {"metrics": "where"}, extra="metrics"),
    "web": Entry(
        "runtime.watch.web.sink:WebPage",
        {"web": "port", "host": "host", "token": "token", "control": "control"},
        extra="web",
    ),
}
"""By name; each takes an observation in this order."""


def wanted(values: Mapping[str, Any], given: Mapping[str, bool]) -> tuple[str, ...]:
    """Return the names of the sinks that are wanted.

    Args:
        values: Values of the options by the names of their arguments.
        given: Whether the user has set each.

    Raises:
        ConfigError: An option was given without the one that it goes with.
    """
    asked = {name: next(iter(entry.options), "") for name, entry in SINKS.items()}
    found = tuple(
        name for name, option in asked.items() if SINKS[name].always or not _unset(values[option])
    )
    for option in [option for option, by_user in given.items() if by_user]:
        first = [asked[name] for name, entry in SINKS.items() if option in entry.options]
        if first and not any(option in SINKS[name].options for name in found):
            flag = _flag(option)
            others = ", ".join(_flag(each) for each in first)
            raise ConfigError(f"{flag} goes with {others}; add one, or leave out {flag}")
    return found


def _unset(value: object) -> bool:
    return value is None or value is False  # 0 is a port


def load(name: str, values: Mapping[str, Any]) -> Sink:
    """Return the sink `name`.

    Args:
        name: A key of `SINKS`.
        values: Values of all options by the names of their arguments, and `printed`.

    Raises:
        ConfigError: Its packages are not installed.
        UdaError: A value cannot be used.
    """
    entry = SINKS[name]
    arguments = {parameter: values[option] for option, parameter in entry.options.items()}
    try:
        sink: Sink = imported(entry.sink)(**arguments)
    except ModuleNotFoundError as error:
        if entry.extra is None or (error.name or "").partition(".")[0] == "runtime":
            raise
        raise ConfigError(
            f"{_flag(next(iter(entry.options)))} needs '{error.name}', which is not installed; run "
            f"pip install '.[{entry.extra}]'"
        ) from error
    return sink


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
