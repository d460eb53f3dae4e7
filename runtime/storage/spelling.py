"""Find paths whose names are spelled with composed or with decomposed letters.

A Mac writes accents as letters of their own (NFD), everybody else composes them (NFC).
"""

from __future__ import annotations

import contextlib
import os
import unicodedata
from pathlib import Path


def composed(name: str) -> str:
    """Return a name in composed letters."""
    return unicodedata.normalize("NFC", name)


def on_disk(path: Path) -> Path:
    """Return a path as the disk spells it, or as it is if there is none in either spelling."""
    if str(path).isascii() or os.path.lexists(path):
        return path
    return next(iter(spellings(path)), path)


def spellings(path: Path) -> list[Path]:
    """Return the existing spellings of a path, with composed and decomposed letters, sorted."""
    if str(path).isascii():
        return [path] if os.path.lexists(path) else []
    found, wanted = [], composed(path.name)
    for parent in spellings(path.parent):
        with contextlib.suppress(OSError):
            same = sorted(name for name in os.listdir(parent) if composed(name) == wanted)
            found += [parent / name for name in same]
    return found
