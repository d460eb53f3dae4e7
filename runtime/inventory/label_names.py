"""Translate the label numbers of a list to class names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import DataError
from runtime.inventory.lists import NAMES, Line

_NUMBER = re.compile(r"-?[0-9]{1,9}")


def class_names(
    lines: Sequence[Line], folders: Sequence[str | None], path: Path, numbered: Sequence[str] = ()
) -> list[str]:
    """Return the names (N,) of the classes in a list.

    Label numbers are translated by `numbered`, or else by the images' folders if each number has
    one folder of its own.

    Args:
        lines: Lines (N,) of the list, all with labels.
        folders: Class folders (N,); None for an image in none.
        path: Path of the list, for messages.
        numbered: Class names in the order of the numbers, if they are known.

    Raises:
        DataError: A number has no name, or its name contradicts the folder.
    """
    labels = [str(line.label) for line in lines]
    if not all(_NUMBER.fullmatch(label) for label in labels):
        return labels
    numbers = [int(label) for label in labels]
    table = _table(numbers, folders, path, numbered)
    return [table[number] for number in numbers]


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
