"""Find the cache folders, and the environment variables that move them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from runtime.errors import StorageError

CACHES = {"UDA_CACHE": "uda-adapt", "UDA_RUNTIME_CACHE": "uda-runtime"}
"""Folders in `~/.cache`, by the environment variable that names another."""
_INSIDE = frozenset(
    ("contents", "demo", "digits", "features", "kernels", "locks", "pixels", "predictions")
)
"""Folders in a cache; anything else in a folder that the user chose belongs to the user."""


def cache_folder(variable: str) -> Path:
    """Return the folder of a cache.

    Args:
        variable: A key of `CACHES`.

    Raises:
        StorageError: The home folder is unknown.
    """
    chosen = os.environ.get(variable)
    folder = Path(os.path.expanduser(chosen or "~/.cache")) / ("" if chosen else CACHES[variable])
    if folder.parts[0].startswith("~"):  # as it stands where the system knows no such home
        found = f"no home folder '{folder.parts[0]}'"
        if not chosen:
            found = "this user has no home folder"
        raise StorageError(f"{found} for a cache; choose a folder with {variable}=FOLDER")
    return folder


def variable_of(path: Path) -> str | None:
    """Return the environment variable that moves a path, or None if it is not in a cache."""
    for variable in CACHES:
        with contextlib.suppress(StorageError):
            folder = cache_folder(variable)
            inside = path.relative_to(folder).parts[:1] if path.is_relative_to(folder) else ()
            if _INSIDE.intersection(inside):
                return variable
    return None
