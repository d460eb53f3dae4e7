"""Count the files that a task takes from its folders and leaves out, for people and artifacts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from runtime.inventory.left_out import LeftOut, counted, left_out_line
from runtime.text import printable

INVENTORY = "inventory"
"""Key in `optional` of an artifact: value of `Inventory.as_dict`."""
Role = Literal["source", "target", "test"]


@dataclass(frozen=True)
class Side:
    """The images that one role of a task takes."""

    role: Role
    name: str
    """Name of the folder or list, with its split: `shop/train`."""
    images: int
    per_class: tuple[int, ...] = ()
    """Number of images of each class; empty without labels."""


@dataclass(frozen=True)
class Inventory:
    """The images that a task takes, and the files that it leaves out."""

    sides: tuple[Side, ...]
    left_out: tuple[LeftOut, ...] = ()
    held_out: bool = False
    """Whether training sees no image of the role `test`."""

    def line(self) -> str:
        """Return all of it in one line for people."""
        names = {"test": "held-out test" if self.held_out else "test"}
        taken = [f"{names.get(s.role, s.role)} {s.name} {s.images:,}" for s in self.sides]
        return f"{', '.join(taken)} images; {left_out_line(self.left_out)}"

    def as_dict(self) -> dict[str, Any]:
        """Return counts for a JSON file; no name of a file is among them."""
        sides: dict[str, Any] = {
            side.role: {"name": side.name, "images": side.images} | spread(side.per_class)
            for side in self.sides
        }
        return {**sides, "held_out": self.held_out, "left_out": counted(self.left_out)}


def line_of(document: object) -> str | None:
    """Return the line of an inventory that an artifact has kept; None if it has none.

    Args:
        document: Value from a file, of any shape; parts unlike those of `Inventory.as_dict` are
            skipped.
    """
    if not isinstance(document, dict):
        return None
    taken = [
        f"{role} {printable(side.get('name'))} {printable(side.get('images'))}"
        for role in get_args(Role)
        if isinstance(side := document.get(role), dict)
    ]
    counts = document.get("left_out")
    named = counts.items() if isinstance(counts, dict) else ()
    left_out = ", ".join(f"{printable(reason)} {printable(count)}" for reason, count in named)
    return f"{', '.join(taken)}; left out: {left_out or 'nothing'}"


def rows_of(document: object) -> list[tuple[str, str, str, str]]:
    """Return role, name, images and images per class of the sides that an artifact has kept.

    Args:
        document: As for `line_of`.
    """
    rows = []
    for role in get_args(Role):
        side = document.get(role) if isinstance(document, dict) else None
        if isinstance(side, dict):
            counts = side.get("per_class")
            counts = counts if isinstance(counts, dict) else {}
            shown = " / ".join(_number(counts.get(key)) for key in ("min", "median", "max"))
            per_class = shown if counts else "no labels"
            rows.append((role, str(side.get("name")), str(side.get("images")), per_class))
    return rows


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "-"


def spread(per_class: Sequence[int]) -> dict[str, Any]:
    """Return the least, the median and the largest number of images of a class."""
    if not per_class:
        return {}
    middle = statistics.median(per_class)
    return {"per_class": {"min": min(per_class), "median": middle, "max": max(per_class)}}
