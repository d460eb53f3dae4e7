"""Read list files: one image per line, `path label` or `path class_name`, or `path` alone."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from runtime.console import count_of
from runtime.errors import DataError
from runtime.frames import formats
from runtime.storage import disk
from runtime.storage.files import open_regular
from runtime.storage.spelling import composed, on_disk

NAMES = "classes.txt"
"""Class names beside a list, one per line: the first is label 0."""
UNLABELLED = "-1"
"""Label of an image that has none."""
_ENDINGS = formats.KNOWN | formats.VIDEO
_ENDED = re.compile(rf"(.+(?:{'|'.join(map(re.escape, sorted(_ENDINGS)))}))\s+(.+)", re.IGNORECASE)
_LIMIT = 256 * 2**20


@dataclass(frozen=True)
class Line:
    """One line of a list."""

    path: str
    """Path as written, with forward slashes."""
    label: str | None
    """Number or name of the class; None for an unlabelled image."""


class Files:
    """Existence of files, with each folder listed once: lists have 100,000s of lines."""

    def __init__(self) -> None:
        self._known: dict[str, frozenset[str]] = {}

    def __contains__(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._known:
            try:
                self._known[folder] = frozenset(os.listdir(folder))
            except (OSError, ValueError):  # no such folder, or no possible name of one
                self._known[folder] = frozenset()
        return name in self._known[folder]

    def spelled(self, path: str) -> str | None:
        """Return a path as the disk spells it, composed or not; None if it does not exist."""
        if path in self:
            return path
        other = path if path.isascii() else str(on_disk(Path(path)))
        return other if other in self else None


def read_lines(path: Path, mixed: bool = False) -> list[Line]:
    """Return the lines of a list.

    A label is what follows the last tab if there is one, else the last ending of an image or a
    video (`Real World/Mug/1.jpg alarm clock`), else the last blank. A line that ends like an image
    or a video has no label; nor has one whose label is -1.

    Args:
        path: Path of the list.
        mixed: Whether some lines may have labels and others none.

    Raises:
        DataError: The file is missing, too large, empty or not UTF-8 text, or, unless `mixed`, only
            some lines have labels.
    """
    lines = [_line(text) for text in _text(path).splitlines() if text.strip()]
    if not lines:
        raise DataError(
            f"the list '{path}' is empty; write one path per line, and its label after it"
        )
    bare = sum(line.label is None for line in lines)
    if not mixed and 0 < bare < len(lines):
        first = next(line.path for line in lines if line.label is None)
        raise DataError(
            f"{bare} of {count_of(len(lines), 'line')} of '{path}' have no label, the first: "
            f"'{first}'; label every line, or none of a target"
        )
    return lines


def read_names(path: Path) -> list[str]:
    """Return the class names in the `classes.txt` beside a list; none if there is no such file.

    Raises:
        DataError: The file is too large or not UTF-8 text.
    """
    path = path.with_name(NAMES)
    if not disk.is_file(path):
        return []
    return [composed(line.strip()) for line in _text(path).splitlines() if line.strip()]


def _line(text: str) -> Line:
    text = text.strip().replace("\\", "/")
    if "\t" not in text and os.path.splitext(text)[1].lower() in _ENDINGS:
        return Line(text, None)
    if "\t" in text:
        parts = text.rsplit("\t", 1)
    elif ended := _ENDED.fullmatch(text):
        parts = list(ended.groups())
    else:
        parts = text.rsplit(None, 1)
    label = composed(parts[1].strip()) if len(parts) == 2 else None
    return Line(parts[0].strip(), None if label == UNLABELLED else label)


def _text(path: Path) -> str:
    try:
        with open_regular(path) as stream:
            if os.fstat(stream.fileno()).st_size > _LIMIT:
                raise DataError(f"'{path}' is larger than a list of images can be")
            return stream.read().decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"cannot read the list '{path}': {error.strerror}; check the path"
        ) from error
    except ValueError as error:
        raise DataError(
            f"the list '{path}' is not UTF-8 text: {error}; save it as UTF-8"
        ) from error
