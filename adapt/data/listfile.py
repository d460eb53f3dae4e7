"""Take the images of list files: `path label` or `path class_name`, or `path` for a target.

Nothing in a list is trusted: its images lie below the data set's folder, or it is refused. Label
numbers of two lists may disagree, so a class is known by its name: the folder of its images, or its
line in a `classes.txt` beside the list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapt.data import label_names
from adapt.data.base import UNKNOWN, ImageSet, some
from runtime.console import count_of
from runtime.errors import DataError
from runtime.frames import formats
from runtime.inventory.left_out import LeftOut, counted, reasons
from runtime.inventory.lists import Files, Line, read_lines, read_names
from runtime.inventory.names import kind
from runtime.inventory.walk import screened
from runtime.storage import disk
from runtime.storage.spelling import composed, on_disk


def is_list(root: Path, name: str) -> bool:
    """Return whether a domain's name means a list file rather than a folder."""
    return name.lower().endswith(".txt") and not disk.is_folder(on_disk(root / name))


def find_list(root: Path, name: str) -> Path:
    """Return a list file, in `root` or elsewhere.

    Raises:
        DataError: The list file does not exist.
    """
    tried = (on_disk(root / name), on_disk(Path(name)))
    path = next(filter(Path.is_file, tried), None)
    if path is None:
        raise DataError(
            f"list file '{name}' not found, neither in '{root}' nor in the working folder; check "
            "--data and the name"
        )
    return path


def take_list(root: Path, name: str) -> tuple[ImageSet, tuple[LeftOut, ...]]:
    """Return the images of a list file, and those that are left out.

    The domain is called after the file.

    Args:
        root: Folder of the data set. Images are looked for in it and beside the list.
        name: Path of the list, in `root` or elsewhere.

    Raises:
        DataError: The list or an image is missing, a path leaves `root`, classes have no names, or
            every image is left out.
    """
    path = find_list(root, name)
    lines = read_lines(path)
    located = _locate(lines, root, path)
    why = [_left_out(image) for image in located]
    left_out = tuple(
        LeftOut(Path(p), reason) for p, reason in zip(located, why, strict=True) if reason
    )
    lines = [line for line, reason in zip(lines, why, strict=True) if not reason]
    located = [image for image, reason in zip(located, why, strict=True) if not reason]
    if not located:
        raise DataError(
            f"no image that the list '{path}' names can be taken: {reasons(counted(left_out))}; "
            "name others"
        )
    domain, paths = composed(path.stem), tuple(Path(image) for image in located)
    if lines[0].label is None:
        return ImageSet(paths, np.full(len(paths), UNKNOWN), (), domain), left_out
    folders = [_folder(image, root) for image in located]
    numbered = read_names(path)
    return label_names.labelled(paths, lines, folders, domain, path, numbered), left_out


def check_found(missing: Sequence[str], path: Path, looked: str) -> None:
    """Check that every line of a list has its image.

    Raises:
        DataError: Images are missing; the message counts them and names the first.
    """
    if missing:
        raise DataError(
            f"the list '{path}' names {count_of(len(missing), 'image')} not found in {looked}, the "
            f"first: {some(missing, 1).split(' and ')[0]}; complete the images, or repair the list"
        )


def _locate(lines: Sequence[Line], root: Path, path: Path) -> list[str]:
    """Return where the images of a list are, without following links: those may lead anywhere."""
    homes = {home.rstrip(os.sep) + os.sep for home in _homes(root)}
    bases = [os.path.abspath(root), os.path.abspath(path.parent)]
    files, found, missing = Files(), [], []
    for line in lines:
        tried = {os.path.normpath(os.path.join(base, line.path)): None for base in bases}
        inside = [image for image in tried if any(image.startswith(home) for home in homes)]
        if not inside:
            kind = "is an absolute path" if os.path.isabs(line.path) else "leads"
            raise DataError(
                f"'{line.path}' in '{path}' {kind} outside of '{root}'; write paths relative to "
                "that folder, or pass a --data that holds all images"
            )
        image = next(filter(None, map(files.spelled, inside)), None)
        if image is None:
            missing.append(line.path)
        else:
            found.append(image)
    check_found(missing, path, f"'{root}'")
    return found


def _left_out(path: str) -> str | None:
    """Return why a listed image is left out, or None; its ending is trusted, if it can be read."""
    name = os.path.basename(path)
    return kind(name) if formats.advice(kind(name)) else screened(path)


def _folder(path: str, root: Path) -> str | None:
    folder = os.path.dirname(path)
    return None if folder in _homes(root) else composed(os.path.basename(folder))


def _homes(root: Path) -> tuple[str, str]:
    return os.path.abspath(root), os.path.realpath(root)
