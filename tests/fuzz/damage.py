"""Damage bytes and JSON at random."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

VALUES = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    2**80,
    1e308,
    "",
    "..",
    "/",
    "a" * 300,
    "\x1b[2J",
    [],
    {},
)
"""Values to replace others with."""


def damage(content: bytes, draw: np.random.Generator) -> bytes:
    """Return bytes with a few random changes."""
    data = bytearray(content)
    for _ in range(int(draw.integers(1, 5))):
        start = (
            int(draw.integers(len(data) + 1)) if draw.random() < 0.5 else _near_start(data, draw)
        )
        stop = start + int(draw.integers(1, 17))
        kind = int(draw.integers(6))
        if kind == 0 and start < len(data):
            data[start] ^= 1 << int(draw.integers(8))
        elif kind == 1:
            data[start:stop] = draw.bytes(stop - start)
        elif kind == 2:
            data[start:start] = draw.bytes(stop - start)
        elif kind == 3:
            del data[start:stop]
        elif kind == 4:
            data[start:stop] = bytes([int(draw.choice([0, 127, 128, 255]))]) * (stop - start)
        else:
            del data[max(start, 1) :]
    return bytes(data)


def _near_start(data: bytearray, draw: np.random.Generator) -> int:
    """Return a position in the header, where lengths and types are."""
    return int(draw.integers(min(len(data), 512) + 1))


def damage_json(document: Any, draw: np.random.Generator) -> Any:
    """Return a copy of a document with one random change."""
    changed = copy.deepcopy(document)
    places = list(_places(changed))
    if not places:  # all of it is gone already
        return VALUES[int(draw.integers(len(VALUES)))]
    holder, key = places[int(draw.integers(len(places)))]
    kind = int(draw.integers(4))
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder["surprise"] = holder[key]
    elif kind == 2:
        other, source = places[int(draw.integers(len(places)))]
        with suppress(KeyError, IndexError):
            holder[key] = copy.deepcopy(other[source])
    else:
        holder[key] = VALUES[int(draw.integers(len(VALUES)))]
    return changed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
