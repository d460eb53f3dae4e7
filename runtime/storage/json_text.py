"""Parse JSON from untrusted files within bounds of time and memory.

Python's parser takes quadratic time for long whole numbers and dozens of bytes for each bracket.
The bounds here keep both linear in the length of the text; FORMAT.md lists them.
"""

from __future__ import annotations

import json
from typing import Any

MAX_DIGITS = 20
"""Most characters of a whole number: 2^64 has 20 digits."""
MAX_DEPTH = 32
"""Most levels of nested lists and objects."""
FREE_VALUES = 1 << 16
"""Number of commas and opening brackets that a text of any length may have."""
BYTES_PER_VALUE = 8
"""Bytes of text that allow one more comma or bracket."""


def parse(text: bytes | str) -> Any:
    """Return the value that a JSON text holds.

    A text of n bytes takes at most 16 n + 8 MiB bytes of memory.

    Raises:
        ValueError: The text is not JSON, or exceeds a bound.
    """
    if isinstance(text, bytes):
        text = text.decode()
    count = text.count(",") + text.count("[") + text.count("{")
    most = FREE_VALUES + len(text) // BYTES_PER_VALUE
    if count > most:
        raise ValueError(f"it has {count} commas and brackets, expected at most {most}")
    try:
        value = json.loads(text, parse_int=_whole, parse_constant=_refuse)
    except RecursionError as error:
        raise _too_deep() from error
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    if level:
        raise _too_deep()
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(
            f"a whole number has {len(text)} characters, expected at most {MAX_DIGITS}"
        )
    return int(text)


def _refuse(name: str) -> float:
    raise ValueError(f"it holds {name}, which is not JSON")


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
