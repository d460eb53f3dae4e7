"""Record in artifacts where the images of a task are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from adapt.data import spelling
from runtime.errors import FormatError
from runtime.storage import disk
from runtime.storage.fields import build
from runtime.storage.spelling import on_disk

IMAGES = "images"
"""Key in `optional` of an artifact: value of `Origin.as_dict`."""
_LONGEST = 4096


@dataclass(frozen=True)
class Origin:
    """The options that named a task's images."""

    root: str
    """Absolute path of `--data`."""
    source: str | None = None
    """Source folder or list file of the user's own images, in the root or absolute; else None."""
    target: str | None = None
    """Target folder or list file, likewise."""
    test: str | None = None
    """Value of `--test`, likewise."""

    @classmethod
    def of(cls, document: object) -> Origin | None:
        """Return the origin that an artifact records; None if it records no valid one.

        Args:
            document: Value from a file, of any shape.
        """
        if not isinstance(document, Mapping):
            return None
        known = {f.name: document[f.name] for f in fields(cls) if f.name in document}
        try:
            found = build(cls, known, IMAGES)
        except FormatError:
            return None
        names = [name for name in vars(found).values() if name is not None]
        # A terminal shows them, and must not obey them.
        good = all(0 < len(name) <= _LONGEST and name.isprintable() for name in names)
        paired = (found.source is None) == (found.target is None)
        return found if good and paired and os.path.isabs(found.root) else None

    def as_dict(self) -> dict[str, Any]:
        """Return the values for a file."""
        return asdict(self)


def absolute(root: Path) -> str:
    """Return the path of a data set's folder as it is remembered: links stay links."""
    return os.path.abspath(on_disk(root))


def named(root: Path, name: str) -> str:
    """Return a domain's or a list's name so that it means the same in every working folder.

    Args:
        root: Folder of the data set.
        name: Name as given; looked up in the root, then in the working folder.
    """
    inside = on_disk(root / spelling.tidy(name))
    return name if disk.exists(inside) else os.path.abspath(on_disk(Path(name)))
