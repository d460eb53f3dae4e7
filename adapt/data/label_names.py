"""Translate the label numbers of a list to class names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapt.data.base import ImageSet
from runtime.errors import DataError

NAMES = "classes.txt"
"""Class names beside a list, one per line: the first is label 0."""
_NUMBER = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True)
class Line:
    """One line of a list."""

    path: str
    """Path as written, with forward slashes."""
    label: str | None
    """Number or name of the class; None for an unlabelled image."""


def labelled(
    paths: tuple[Path, ...],
    lines: Sequence[Line],
    folders: Sequence[str | None],
    domain: str,
    path: Path,
    numbered: Sequence[str] = (),
) -> ImageSet:
    """Return images with their classes from a list, sorted by name.

    Label numbers are translated by `numbered`, or else by the images' folders if each number has
    one folder of its own.

    Args:
        paths: Paths (N,) of the images.
        lines: Lines (N,) of the list, all with labels.
        folders: Class folders (N,); None for an image in none.
        domain: Name of the domain.
        path: Path of the list, for messages.
        numbered: Class names in the order of the numbers, if they are known.

    Raises:
        DataError: A number has no name, or its name contradicts the folder.
    """
    labels = [str(line.label) for line in lines]
    names = labels
    if all(_NUMBER.fullmatch(label) for label in labels):
        table = _table([int(label) for label in labels], folders, path, numbered)
        names = [table[int(label)] for label in labels]
    classes = sorted(set(names))
    if len(classes) < 2:
        raise DataError(
            f"the list '{path}' has only the class '{classes[0]}'; add images of another class"
        )
    index = {name: position for position, name in enumerate(classes)}
    return ImageSet(paths, np.array([index[n] for n in names], np.int64), tuple(classes), domain)


def _table(
    numbers: list[int], folders: Sequence[str | None], path: Path, numbered: Sequence[str]
) -> dict[int, str]:
    pairs = sorted(set(zip(numbers, folders, strict=True)), key=str)
    by_folder = {number: folder for number, folder in pairs if folder is not None}
    whole = len(by_folder) == len(pairs) == len(set(by_folder.values()))
    if not numbered:
        if whole:
            return by_folder
        raise DataError(
            f"the label numbers of '{path}' have no names, and the folders of its images do not "
            f"tell them apart; write the names into '{path.with_name(NAMES)}', one per line and "
            "label 0 first, or put names in the list"
        )
    beyond = [number for number in set(numbers) if not 0 <= number < len(numbered)]
    if beyond:
        raise DataError(
            f"'{path}' has label {beyond[0]}, but there are {len(numbered)} class names, counted "
            f"from 0; repair the list or '{NAMES}'"
        )
    table = {number: numbered[number] for number in set(numbers)}
    known = set(numbered)
    for number, folder in by_folder.items() if whole else ():
        if folder in known and folder != table[number]:
            raise DataError(
                f"'{path}' gives label {number} to the folder '{folder}', but '{NAMES}' calls it "
                f"'{table[number]}'; repair one of them"
            )
    return table
