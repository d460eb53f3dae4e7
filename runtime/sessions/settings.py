"""Check a session's settings before any file is read."""

from __future__ import annotations

import operator

from runtime.errors import ConfigError
from runtime.sessions.sharing import cores


def check_settings(threads: object, max_task_bytes: object) -> None:
    """Check what `Session.open` and `SessionPool.open` have in common.

    Args:
        threads: Must be None or a whole number from 1; more than 8 for each core and more than 64
            would keep a machine busy with starting them.
        max_task_bytes: Must be None or a whole number from 0.

    Raises:
        ConfigError: One of them is something else.
    """
    if threads is not None:
        check_number("threads", threads, 1, max(64, 8 * cores()))
    if max_task_bytes is not None:
        check_number("max_task_bytes", max_task_bytes, 0)


def check_number(name: str, value: object, least: int, most: int | None = None) -> None:
    """Check a number that cannot be left out.

    Args:
        name: Name of the setting.
        value: Must be a whole number.
        least: Smallest allowed value.
        most: Largest allowed value; None for no bound.

    Raises:
        ConfigError: It is something else.
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
