"""Record in artifacts where the images of a task are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from adapt.data import spelling
from runtime.errors import FormatError
from runtime.storage.fields import build

IMAGES = "images"
"""Member of `optional` in an artifact: what `Origin.as_dict` returns."""
_LONGEST = 4096


@dataclass(frozen=True)
class Origin:
    """The options that named a task's images."""

    root: str
    """Absolute path of `--data`."""
    source: str | None = None
    """Of the user's own images: a folder or a list file, in the root or absolute; else None."""
    target: str | None = None
    """Likewise."""
    test: str | None = None
    """Likewise, of `--test`."""

    @classmethod
    def of(cls, document: object) -> Origin | None:
        """Return what an artifact remembers; None if it does not, or nothing that can be a path.

        Args:
            document: From a file, so of any shape.
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
    return os.path.abspath(spelling.on_disk(root))


def named(root: Path, name: str) -> str:
    """Return a domain's or a list's name so that it means the same in every working folder.

    Args:
        root: Folder of the data set.
        name: As the user gave it; what is not in the root is found in the working folder.
    """
    inside = spelling.on_disk(root / spelling.tidy(name))
    return name if inside.exists() else os.path.abspath(spelling.on_disk(Path(name)))
