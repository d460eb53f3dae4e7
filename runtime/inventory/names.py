"""Recognise files and folders that hold no images of the user: hidden, system, thumbnails."""

from __future__ import annotations

import os
import re

HIDDEN = "hidden"
THUMBNAILS = "thumbnails"
SYSTEM = "system files"

_THUMBNAILS = frozenset(("@eadir", ".@__thumb", "@__thumb", ".thumbnails", ".thumbs"))
"""Folders that photo stations and file managers fill with small copies, in lower case."""
_MAYBE_THUMBNAILS = frozenset(("thumbnails", "thumbs", "_thumbs", "_thumbnails"))
"""The same below a class; a class itself may be called so."""
_SYSTEM_FOLDERS = frozenset(
    ("__macosx", "#recycle", "@recycle", "#snapshot", "@recently-snapshot", "$recycle.bin")
    + ("lost+found", "system volume information", "__pycache__")
)
_SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", ".ds_store"))
_PLAIN = re.compile(r"\.[a-z0-9_+-]{1,10}")


def folder_reason(name: str, inside_class: bool = False) -> str | None:
    """Return why a folder of this name is left out with all that is in it, or None.

    Args:
        name: Name of the folder.
        inside_class: Whether the folder lies in a class folder, so that it cannot be a class.
    """
    lower = name.lower()
    if lower in _THUMBNAILS or (inside_class and lower in _MAYBE_THUMBNAILS):
        return THUMBNAILS
    if lower in _SYSTEM_FOLDERS:
        return SYSTEM
    return HIDDEN if name.startswith(".") else None


def file_reason(name: str) -> str | None:
    """Return why a file of this name is left out whatever is in it, or None."""
    if name.lower() in _SYSTEM_FILES:
        return SYSTEM
    return HIDDEN if name.startswith(".") else None


def kind(name: str) -> str:
    """Return the ending of a file's name for people, in lower case: `.heic`."""
    suffix = os.path.splitext(name)[1].lower()
    if not suffix:
        return "no ending"
    return suffix if _PLAIN.fullmatch(suffix) else "other endings"
