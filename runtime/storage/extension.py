"""The members `requires` and `optional`, which extend a file without a new schema.

`requires` lists features that a reader must know, or refuse the file by name. `optional` holds
members that a reader may ignore: they never change a label.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from runtime.errors import FormatError

REQUIRES, OPTIONAL = "requires", "optional"
_FEATURE = re.compile(r"[a-z][a-z0-9-]{0,63}")
_MOST_FEATURES = 64
MAX_DEPTH = 16
"""Largest number of levels of nested JSON."""


def take(
    document: dict[str, Any], known: Collection[str], where: str
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Take `requires` and `optional` out of a document and return them, checked.

    Args:
        document: Document of a file; it is changed in place.
        known: Features that this version knows.
        where: Name of the file, for messages.

    Raises:
        FormatError: One of the two is missing or malformed, or a feature is not known.
    """
    requires = check_features(document.pop(REQUIRES, None), where)
    check_known(requires, known, where)
    return requires, check_optional(document.pop(OPTIONAL, None), where)


def check_features(value: object, where: str) -> tuple[str, ...]:
    """Return a list of features as a tuple.

    Raises:
        FormatError: The list is not a short one of names in ascending order.
    """
    names = list(value) if isinstance(value, (list, tuple)) else None
    if (
        names is None
        or len(names) > _MOST_FEATURES
        or not all(isinstance(name, str) and _FEATURE.fullmatch(name) for name in names)
        or names != sorted(set(names))
    ):
        raise FormatError(
            f"{where}: '{REQUIRES}' must be a sorted list of at most {_MOST_FEATURES} feature "
            f"names, found {str(value)[:60]!r}; copy the file again"
        )
    return tuple(names)


def check_known(requires: Collection[str], known: Collection[str], where: str) -> None:
    """Refuse features that this version does not know.

    Raises:
        FormatError: A feature is unknown; the message names it.
    """
    unknown = sorted(set(requires) - set(known))
    if unknown:
        raise FormatError(
            f"{where} requires the feature '{unknown[0]}', which this version does not know; "
            "update uda-edge"
        )


def check_optional(value: object, where: str) -> dict[str, Any]:
    """Return optional members.

    Raises:
        FormatError: They are not a JSON object of bounded depth, or hold NaN or infinity.
    """
    if not isinstance(value, Mapping) or deeper(value, MAX_DEPTH):
        raise FormatError(
            f"{where}: '{OPTIONAL}' must be an object at most {MAX_DEPTH} levels deep, found "
            f"{str(value)[:60]!r}; copy the file again"
        )
    if not finite(value):
        raise FormatError(f"{where}: '{OPTIONAL}' holds NaN or infinity; make the file again")
    return dict(value)


def finite(value: object) -> bool:
    """Return whether all numbers in JSON of bounded depth are finite."""
    if isinstance(value, (Mapping, list, tuple)):
        return all(map(finite, value.values() if isinstance(value, Mapping) else value))
    return not isinstance(value, float) or math.isfinite(value)


def deeper(value: object, levels: int) -> bool:
    """Return whether lists and objects are nested more than `levels` deep."""
    if not isinstance(value, (Mapping, list, tuple)):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return not levels or any(deeper(item, levels - 1) for item in inner)
