"""Take the images and videos that a list file names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from runtime.console import count_of
from runtime.errors import DataError
from runtime.inventory.label_names import class_names
from runtime.inventory.lists import Files, Line, read_lines, read_names
from runtime.sources.base import Input
from runtime.sources.found import Found, failed, parent
from runtime.storage.spelling import on_disk


def take_list(word: str) -> Found:
    """Return the images and videos of a list file, in its order.

    Paths start at the list's folder. A missing image is one that cannot be read, and stops no
    other; labels without names are a note.

    Args:
        word: Path of the list.
    """
    path, files = Path(word), Files()
    try:
        lines = read_lines(path, mixed=True)
    except DataError as error:
        return failed(word, error)
    names = [str(on_disk(Path(os.path.normpath(path.parent / line.path)))) for line in lines]
    if all(files.spelled(os.path.abspath(name)) is None for name in names):
        what = count_of(len(lines), "image")
        return failed(
            word,
            DataError(
                f"the list '{word}' names {what}, none of which exists, the first: '{names[0]}'; "
                "give it one path per line, relative to the list's folder"
            ),
        )
    found = Found()
    labels = _labels(lines, names, path, found.notes)
    for name, line, label in zip(names, lines, labels, strict=True):
        given = line.label is not None
        found.inputs.append(Input(name, _saved_as(line.path), label, labelled=given))
    return found


def _labels(
    lines: Sequence[Line], names: Sequence[str], path: Path, notes: list[str]
) -> list[tuple[str, ...]]:
    """Return the names that may be each image's class: its label, or else its folder's."""
    found = [parent(name) for name in names]
    marked = [at for at, line in enumerate(lines) if line.label is not None]
    if not marked:
        return found
    home = os.path.abspath(path.parent)
    folders = [
        None if os.path.dirname(os.path.abspath(names[at])) == home else next(iter(found[at]), None)
        for at in marked
    ]
    try:
        given = class_names([lines[at] for at in marked], folders, path, read_names(path))
    except DataError as error:
        notes.append(f"no accuracy for '{path}': {error}")
        return [()] * len(lines)
    for at, label in zip(marked, given, strict=True):
        found[at] = (label,)
    return found


def _saved_as(path: str) -> str:
    """Return a relative path that stays in its folder."""
    normal = os.path.normpath(path)
    outside = os.path.isabs(normal) or normal.split(os.sep)[0] == os.pardir
    return os.path.basename(normal) if outside else Path(normal).as_posix()
