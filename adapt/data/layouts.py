"""Find published data sets on disk, in every spelling and nesting that archives use.

Names are compared without case, blanks, underscores and hyphens: `Real World` is `real_world`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from adapt.data import label_names, listfile
from adapt.data.base import Domain, ImageSet, some
from adapt.data.class_folders import folders, read_folder
from runtime.errors import DataError
from runtime.inventory.lists import Files, Line, read_lines
from runtime.storage import disk

LIST_FOLDERS = ("image_list", "image_lists", "list", "lists")
"""Folders that hold list files beside the domains."""
_IMAGES = "images"
"""A level that archives have above the domains or above the classes."""


def key(name: str) -> str:
    """Return a name in lower case without anything but letters and digits."""
    return re.sub(r"[\W_]", "", name.lower())


def keys(domain: Domain) -> frozenset[str]:
    """Return the possible names of a domain's folder, as `key` spells them."""
    return frozenset(key(name) for name in (domain.name, *domain.spellings))


def bases(root: Path, names: Sequence[str]) -> list[Path]:
    """Return the folders in which a data set's domains may lie, the likeliest first.

    Args:
        root: Folder of the data set, or its parent.
        names: Usual names of the data set's folder.
    """
    known = {key(name) for name in names}
    found = [root, *(root / name for name in folders(root) if key(name) in known)]
    return [path for base in found for path in (base, base / _IMAGES) if disk.is_folder(path)]


def domain_folder(searched: Iterable[Path], domain: Domain) -> Path | None:
    """Return the folder of a domain that has its class folders or images, or None.

    Raises:
        DataError: There are two such folders.
    """
    for base in searched:
        same = [base / name for name in folders(base) if key(name) in keys(domain)]
        if len({disk.real(path) for path in same}) > 1:
            raise DataError(
                f"'{base}' has several folders of the domain '{domain.name}': "
                f"{some([path.name for path in same])}; keep one of them"
            )
        if same:
            inner = folders(same[0])
            return same[0] / inner[0] if [key(name) for name in inner] == [_IMAGES] else same[0]
    return None


def list_file(searched: Iterable[Path], names: Iterable[str]) -> Path | None:
    """Return the first list file in some folders that is called like one of the names, or None.

    Raises:
        DataError: A folder has two such lists.
    """
    known = {key(name) for name in names}
    for folder in searched:
        texts = disk.matching(folder, "*.[tT][xX][tT]")
        same = [path for path in texts if key(path.stem) in known and disk.is_file(path)]
        if len(same) > 1:
            raise DataError(
                f"'{folder}' has several lists of one domain: {some([p.name for p in same])}; keep "
                "one of them"
            )
        if same:
            return same[0]
    return None


def list_folders(searched: Sequence[Path], names: Sequence[str] = LIST_FOLDERS) -> list[Path]:
    """Return the folders of some names below those searched, then these themselves."""
    known = {key(name) for name in names}
    inner = [base / name for base in searched for name in folders(base) if key(name) in known]
    return [*inner, *searched]


def read_listed(path: Path, folder: Path, domain: Domain, numbered: Sequence[str] = ()) -> ImageSet:
    """Return the images of a domain from one of its lists.

    Lists were written on other people's machines (`/data/office-home/images/Art/Mug/1.jpg 3`), so
    what precedes the domain in a path is left out; the rest must lie in the domain's folder.

    Args:
        path: Path of the list.
        folder: Folder of the domain's images.
        domain: Names of the domain.
        numbered: Class names in the order of the label numbers, for images in no class folder.

    Raises:
        DataError: The list is damaged, an image does not exist, or labels have no names.
    """
    lines = read_lines(path)
    if lines[0].label is None:
        raise DataError(
            f"the list '{path}' of domain '{domain.name}' has no labels; give it 'path label' lines"
        )
    files, home = Files(), str(folder)
    found: list[str] = []
    missing: list[str] = []
    for line in lines:
        inside = next((p for p in _inside(line.path, domain) if f"{home}/{p}" in files), None)
        if inside is None:
            missing.append(line.path)
        else:
            found.append(inside)
    listfile.check_found(missing, path, f"'{folder}'")
    classes = [inside.partition("/")[0] if "/" in inside else None for inside in found]
    if None not in classes:
        _check_numbers(lines, classes, path)
        lines = [Line(line.path, name) for line, name in zip(lines, classes, strict=True)]
    paths = tuple(folder / inside for inside in found)
    return label_names.labelled(paths, lines, classes, domain.name, path, numbered)


def read_classes(folder: Path, domain: Domain, lists: str) -> ImageSet:
    """Return the images of a domain's class folders.

    Args:
        folder: Folder of the domain.
        domain: Names of the domain.
        lists: Name of the list file that could label the images, for the message.

    Raises:
        DataError: No images were found, or they have no labels.
    """
    images = read_folder(folder, domain.name)
    if not images.classes:
        raise DataError(
            f"'{folder}' has images but no class folders, and there is no list file '{lists}' that "
            "labels them; restore it, or sort the images into one folder per class"
        )
    return images


def spelled(images: ImageSet, classes: Sequence[str]) -> ImageSet:
    """Return images with class names as they were published, in one order for every domain.

    Args:
        images: Images with class names in any spelling, `alarm clock` for `Alarm_Clock`.
        classes: Published class names; others stay as they are.

    Raises:
        DataError: Two folders are the same class.
    """
    published = {key(name): name for name in classes}
    names = [published.get(key(name), name) for name in images.classes]
    twice = [name for name in set(names) if names.count(name) > 1]
    if twice:
        same = [a for a, b in zip(images.classes, names, strict=True) if b == twice[0]]
        raise DataError(
            f"domain '{images.domain}' has the class '{twice[0]}' twice: {some(same)}; join them"
        )
    order = sorted(names)
    moved = np.array([order.index(name) for name in names], np.int64)
    return replace(images, labels=moved[images.labels], classes=tuple(order))


def _inside(path: str, domain: Domain) -> Iterator[str]:
    """Yield the tails of a listed path that may lie in the domain's folder, the longest first."""
    parts = path.split("/")
    for start in range(len(parts)):
        before = [part for part in parts[:start] if part != "."]
        if before and key(before[-1]) == _IMAGES:
            before.pop()
        within = not before or key(before[-1]) in keys(domain)
        if within and not {"", ".", ".."} & set(parts[start:]):
            yield "/".join(parts[start:])


def _check_numbers(lines: Sequence[Line], classes: Sequence[str | None], path: Path) -> None:
    pairs = sorted(
        {(str(line.label), str(name)) for line, name in zip(lines, classes, strict=True)}
    )
    for side, what, other in ((0, "label", "folders"), (1, "folder", "labels")):
        first: dict[str, tuple[str, str]] = {}
        for pair in pairs:
            known = first.setdefault(pair[side], pair)
            if known != pair:
                raise DataError(
                    f"the list '{path}' gives the {what} '{pair[side]}' two {other}, "
                    f"'{known[1 - side]}' and '{pair[1 - side]}'; download the original list again"
                )
