"""Recognise the layout `DOMAIN/{train,val,test}/<class>`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Splits:
    """Names of a domain's folders that are splits."""

    train: str
    test: str | None
    """Split to evaluate on: the test split, else the validation split."""
    unused: tuple[str, ...]


def recognised(folders: Sequence[str]) -> Splits | None:
    """Return the splits of a domain, or None if its folders are classes.

    Args:
        folders: Names of all its folders. A single one that is not named like a split makes
            all of them classes: `train` may be a class beside `bus`.
    """
    found: dict[str, str] = {}
    for folder in folders:
        split = next((s for s, names in _NAMES.items() if folder.lower() in names), None)
        if split is None or split in found:
            return None
        found[split] = folder
    if "train" not in found:
        return None
    test = found.get("test", found.get("val"))
    unused = tuple(name for name in folders if name not in (found["train"], test))
    return Splits(found["train"], test, unused)
