"""Normalise folder names: composed letters, no stray slashes, short names for task ids."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from runtime.errors import DataError
from runtime.storage.spelling import composed

_DIGITS = 8
"""Digits of the hash in the short name of a folder whose letters a task id cannot have."""


def check_name(name: str, what: str, path: Path) -> None:
    """Check that the name of a folder can name a domain or a class.

    Args:
        name: Name of the folder.
        what: Kind of folder, such as `class folder`, for messages.
        path: Path of the folder, for messages.

    Raises:
        DataError: The name is not UTF-8, as after unpacking an old archive, or has control
            characters.
    """
    shown = ascii(str(path))
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("ascii", "backslashreplace")
        raise DataError(
            f"the name of the {what} '{shown}' is not UTF-8 text; rename the folder"
        ) from error
    if not name.isprintable():
        raise DataError(f"the name of the {what} {shown} has control characters; rename the folder")


def tidy(name: str) -> str:
    """Return the normalised name of a folder or a list: `./a//b/` is `a/b`."""
    return composed(os.path.normpath(name)) if name else name


def inside(root: Path, name: str) -> str:
    """Return the name of a folder or a list relative to the root if it lies there, else unchanged.

    Args:
        root: Folder of the data set.
        name: Path, absolute or relative to `root`.
    """
    name = tidy(name)
    for resolve in (os.path.abspath, os.path.realpath):
        base, path = Path(resolve(root)), Path(resolve(root / name))
        if path != base and path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return name


def outside(name: str) -> bool:
    """Return whether a name of `inside` lies elsewhere than in the root."""
    return os.path.isabs(name) or name.startswith("..")


def tails(*names: str) -> tuple[str, ...]:
    """Return the last parts of paths, as many as tell them apart: `a/day`, `b/day`."""
    parts = [Path(name).parts for name in names]
    for count in range(1, max(map(len, parts)) + 1):
        found = tuple("/".join(path[-count:]) for path in parts)
        if len(set(found)) == len(set(names)):
            return found
    return names


def mark(path: Path) -> str:
    """Return a few digits that tell a path from others of the same name."""
    return hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:_DIGITS]


def short(name: str, also: str = "") -> str:
    """Return a name of ASCII letters, digits, `_` and `.`, equal for equal names in any spelling.

    Other ASCII characters become `_`. Where letters of other scripts are lost, a hash of the name
    is added, so that two names do not become one: `día` is `d_a_bfbf4474`.

    Args:
        name: Name of a folder or a list.
        also: Other characters to keep.
    """
    name = composed(name)
    ascii_name = re.sub(rf"[^A-Za-z0-9_.{re.escape(also)}]", "_", name)
    if name.isascii():
        return ascii_name
    letters = re.sub(r"_{2,}", "_", ascii_name).strip("_.")
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:_DIGITS]
    return f"{letters}_{digest}" if letters else digest
