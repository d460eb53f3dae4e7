"""Settings of a session that no file is needed to refuse."""

from __future__ import annotations

import operator

from runtime.errors import ConfigError


def check_settings(threads: object, max_task_bytes: object) -> None:
    """Check what `Session.open` and `SessionPool.open` have in common.

    Args:
        threads: Must be None or a whole number from 1.
        max_task_bytes: Must be None or a whole number from 0.

    Raises:
        ConfigError: One of them is something else.
    """
    _check("threads", threads, 1, "leaves it to the backend")
    _check("max_task_bytes", max_task_bytes, 0, "is no bound")


def _check(name: str, value: object, least: int, none: str) -> None:
    if value is None:
        return
    try:
        fits = not isinstance(value, bool) and operator.index(value) >= least  # type: ignore[arg-type]
    except TypeError:
        fits = False
    if not fits:
        raise ConfigError(
            f"{name} must be a whole number from {least}, or None, which {none}; found "
            f"{str(value)[:60]!r}"
        )
