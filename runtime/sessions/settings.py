"""Check a session's settings before any file is read."""

from __future__ import annotations

import operator
from typing import Literal, get_args

from runtime.errors import ConfigError
from runtime.models import REJECT
from runtime.workers import cores

Verify = Literal["changed", "full"]
"""When the base is verified before it is used, see `Session.open`."""


def check_settings(
    threads: object, max_task_bytes: object, verify: object = "changed", reject: object = REJECT
) -> None:
    """Check the settings that `Session.open` and `SessionPool.open` have in common.

    Args:
        threads: Number of threads, None or from 1 to 8 per core (64 on small machines): a machine
            would be busy with starting more.
        max_task_bytes: Number of bytes, None or from 0.
        verify: One of `Verify`.
        reject: Share of a task's own images that may be taken for unknown, from 0 and below 1.

    Raises:
        ConfigError: A setting is out of range.
    """
    if threads is not None:
        check_number("threads", threads, 1, max(64, 8 * cores()))
    if max_task_bytes is not None:
        check_number("max_task_bytes", max_task_bytes, 0)
    if verify not in get_args(Verify):
        raise ConfigError(
            f"verify must be {' or '.join(map(repr, get_args(Verify)))}; found {str(verify)[:60]!r}"
        )
    number = isinstance(reject, (int, float)) and not isinstance(reject, bool)
    if not number or not 0 <= float(str(reject)) < 1:
        raise ConfigError(
            f"reject must be a share from 0 and below 1, such as 0.01; found {str(reject)[:60]!r}"
        )


def check_number(name: str, value: object, least: int, most: int | None = None) -> None:
    """Check a whole number that is required.

    Args:
        name: Name of the setting.
        value: Value to check.
        least: Smallest allowed value.
        most: Largest allowed value; None for no bound.

    Raises:
        ConfigError: The value is not a whole number, or out of range.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
        fits = least <= number <= (number if most is None else most)
    except TypeError:
        fits = False
    if isinstance(value, bool) or not fits:
        top = "" if most is None else f" to {most} on this machine"
        raise ConfigError(
            f"{name} must be a whole number from {least}{top}; found {str(value)[:60]!r}"
        )
