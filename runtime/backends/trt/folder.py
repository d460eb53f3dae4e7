"""Create and read folders of machine code without trusting their content."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path

from runtime.errors import FormatError
from runtime.storage.files import CODE_FOLDER, make_folder, storage_errors
from runtime.storage.trusted import Hint, check_folder, read_code
from runtime.text import quoted


def make(folder: Path) -> None:
    """Make a folder for this user alone; one that is there must be as safe.

    Raises:
        StorageError: The folder cannot be created.
        FormatError: Other users could replace the files in it.
    """
    with storage_errors(folder):
        make_folder(folder, CODE_FOLDER)
        check_folder(folder)


def described(folder: Path, content: str) -> list[Path]:
    """Return the JSON files that may be of a graph; none if there is no such folder.

    Args:
        folder: Folder to list.
        content: `Recipe.content` of the wanted engine.

    Raises:
        FormatError: The folder cannot be read, so its engines would seem to be missing.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise FormatError(
            f"cannot read '{folder}': {error.strerror or error}; as the user who built the engines "
            f"or as root, run: chmod -R go+rX {quoted(folder)}"
        ) from error
    return [folder / name for name in sorted(fnmatch.filter(names, f"*-{content[:16]}.*.json"))]


def read_file(path: Path, limit: int, hint: Hint) -> bytes:
    """Return the content of a file of machine code.

    Args:
        path: Path of the file.
        limit: Bytes that it may have.
        hint: Function that says how to make it again.

    Raises:
        FormatError: It is missing or too large, or somebody else could have written it.
    """
    try:
        return read_code(path, limit, hint)
    except OSError as error:
        raise FormatError(
            f"cannot read '{path}': {error.strerror or error}; check the path and its permissions, "
            f"or {hint()}"
        ) from error
