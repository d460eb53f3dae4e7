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
        help="Also write JSON lines, one for each frame, after those of an earlier file; - prints "
        "them.",
    ),
    "csv": click.option(
        "--csv",
        type=_FILE,
        metavar="FILE",
        help="Also write CSV, after the rows of an earlier file; - prints it.",
    ),
    "save": click.option(
        "--save",
        type=UserPath(file_okay=False),
        metavar="DIR",
        help="Also save JPEG pictures with labels and scores, a folder for each source and ten "
        "minutes (UTC); the oldest make room for new ones.",
    ),
    "save_budget": click.option(
        "--save-budget",
        type=click.FloatRange(min=1),
        default=1000.0,
        show_default=True,
        metavar="MB",
        help="Largest size of the pictures of --save, those of earlier runs included.",
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
    "mqtt": click.option(
        "--mqtt",
        metavar="URL",
        help="Also publish to an MQTT broker, below the topic of mqtt://USER@HOST:1883/TOPIC; "
        "mqtts:// for TLS. The password comes from UDA_MQTT_PASSWORD or --mqtt-password-file, or "
        "stands behind USER: where others on this machine may see it.",
    ),
    "mqtt_every": click.option(
        "--mqtt-every",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        metavar="SECONDS",
        help="Publish a prediction of a source so often at most, unless its label or task changes; "
        "0 publishes each.",
    ),
    "mqtt_password_file": click.option(
        "--mqtt-password-file",
        type=UserPath(dir_okay=False, exists=True),
        metavar="FILE",
        help="File whose first line is the password of --mqtt.",
    ),
    "mqtt_ca": click.option(
        "--mqtt-ca",
        type=UserPath(dir_okay=False, exists=True),
        metavar="FILE",
        help="Certificates (PEM) to trust instead of the system's, for mqtts://.",
    ),
    "metrics": click.option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Also serve metrics to Prometheus; on the loopback address unless a host is named.",
    ),
    "top": click.option(
        "--top",
        type=click.IntRange(1, 1000),
        default=1,
        show_default=True,
        help="Number of classes in these outputs, most likely first.",
    ),
    "web": click.option(
        "--web",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Show a live page at http://localhost:PORT; 0 takes a free port.",
    ),
    "host": click.option(
        "--host",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="Address of this machine to serve at; 0.0.0.0 is all of them, which needs a --token.",
    ),
    "token": click.option(
        "--token",
        metavar="TEXT",
        help="Secret of those who may see the page, at least 16 characters. Other users of this "
        "machine do not see it in UDA_WEB_TOKEN, or in the file of --config.",
    ),
    "control": click.option(
        "--control", is_flag=True, help="Let those who see the page choose tasks."
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
