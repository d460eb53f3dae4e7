"""Make a set of images from the lines of a list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapt.data.base import ImageSet
from runtime.errors import DataError
from runtime.inventory.label_names import class_names
from runtime.inventory.lists import Line


def labelled(
    paths: tuple[Path, ...],
    lines: Sequence[Line],
    folders: Sequence[str | None],
    domain: str,
    path: Path,
    numbered: Sequence[str] = (),
) -> ImageSet:
    """Return images with their classes from a list, sorted by name, see `class_names`.

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
    names = class_names(lines, folders, path, numbered)
    classes = sorted(set(names))
    if len(classes) < 2:
        raise DataError(
            f"the list '{path}' has only the class '{classes[0]}'; add images of another class"
        )
    index = {name: position for position, name in enumerate(classes)}
    return ImageSet(paths, np.array([index[n] for n in names], np.int64), tuple(classes), domain)
