"""Read folders with one folder of images per class, and folders of unlabelled images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapt.data.base import UNKNOWN, ImageSet, some
from adapt.data.spelling import check_name
from runtime.console import count_of
from runtime.errors import DataError
from runtime.frames import formats
from runtime.inventory.left_out import LeftOut, counted, reasons
from runtime.inventory.names import folder_reason
from runtime.inventory.walk import Tree, walk
from runtime.storage import disk
from runtime.storage.spelling import composed, on_disk, spellings
from runtime.suggest import did_you_mean

_LISTS = (".csv", ".tsv", ".lst", ".list", ".json")
"""Endings that other programs give to lists of images."""
_MOST = 20
"""Most folders that a message names."""


def read_domain(root: Path, domain: str) -> ImageSet:
    """Return the images of one domain folder, sorted by path; see `read_folder`.

    Raises:
        DataError: The folder is missing or unusable.
    """
    return read_folder(domain_folder(root, domain), composed(domain))


def domain_folder(root: Path, domain: str) -> Path:
    """Return the folder of a domain, its name composed or decomposed.

    Raises:
        DataError: The folder does not exist, or there are two of that name.
    """
    folder = on_disk(root / domain)
    if len(same := spellings(folder)) > 1:
        raise DataError(
            f"'{root}' has the folder '{domain}' twice, with composed and with decomposed letters; "
            f"move the images of {some([ascii(str(path)) for path in same[1:]])} to the other"
        )
    if not disk.is_folder(folder):
        found = "is a file, and a list ends in .txt" if disk.is_file(folder) else "does not exist"
        if folder.suffix.lower() in _LISTS and not disk.exists(folder):
            found += "; a list file ends in .txt"
        known = folders(root) if disk.is_folder(root) else []
        listed = (
            f"available: {_shown(known)}" if known else f"'{root}' has no folders; check --data"
        )
        raise DataError(
            f"the domain folder '{folder}' {found}{did_you_mean(domain, known)}; {listed}"
        )
    return folder


def read_folder(folder: Path, domain: str) -> ImageSet:
    """Return the images of a folder, sorted by path; see `read_tree`."""
    return read_tree(folder, domain)[0]


def read_tree(
    folder: Path, domain: str, findings: list[str] | None = None
) -> tuple[ImageSet, tuple[LeftOut, ...]]:
    """Return the images of a folder, sorted by path, and the files that are left out.

    Images directly in the folder are unlabelled: labels are -1 and `classes` is empty. What
    `runtime.inventory` leaves out is left out. A class folder may have folders inside.

    Args:
        folder: Folder of class folders, or of images.
        domain: Name of the domain.
        findings: List to which empty class folders are added, which training refuses; None refuses
            them here.

    Raises:
        DataError: The folder holds no images, has an empty class folder, has fewer than two
            classes, or has images beside its class folders.
    """
    tree = walk(folder)
    loose, names = tree.images.get("", []), tree.folders
    if names and loose:
        them = "it" if len(loose) == 1 else "them"
        raise DataError(
            f"'{folder}' has {count_of(len(loose), 'image')} beside its "
            f"{count_of(len(names), 'class folder')}, "
            f"for example '{loose[0].name}'; move {them} into a class folder or away"
        )
    if loose:
        return ImageSet(tuple(loose), np.full(len(loose), UNKNOWN), (), domain), tree.left_out
    if not tree.images:
        kinds = " ".join(formats.listed())
        raise DataError(
            f"'{folder}' holds no images ({kinds}), neither directly nor in folders"
            + _instead(tree.left_out)
        )
    for name in names:
        check_name(name, "class folder", folder / name)
    files = _by_class(tree)
    empty = [name for name, found in files.items() if not found]
    if empty:
        inside = [left for left in tree.left_out if _first(left.path, folder) in empty]
        finding = (
            f"'{folder}' has class folders without images: {some(empty)}{_instead(inside)}; fill "
            "or delete them"
        )
        if findings is None:
            raise DataError(finding)
        findings.append(finding)
    if len(files) < 2:
        raise DataError(f"'{folder}' has only the class '{names[0]}'; add images of another class")
    labels = np.repeat(np.arange(len(files)), [len(found) for found in files.values()])
    paths = tuple(path for found in files.values() for path in found)
    return ImageSet(paths, labels, tuple(files), domain), tree.left_out


def folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden and system folders.

    Links to a folder above are left out too.

    Raises:
        DataError: The folder cannot be listed.
    """
    try:
        found = [p for p in folder.iterdir() if disk.is_folder(p) and not folder_reason(p.name)]
        return sorted(p.name for p in found if not leads_up(p))
    except OSError as error:
        raise DataError(
            f"cannot list '{folder}': {error.strerror}; check the path and its permissions"
        ) from error


def leads_up(path: Path) -> bool:
    """Return whether a path is a link to a folder that it lies in."""
    if not disk.is_link(path):
        return False
    here, there = disk.real(path.parent), disk.real(path)
    return there in (here, *here.parents)


def _by_class(tree: Tree) -> dict[str, list[Path]]:
    """Return the images by class name; folders whose names differ in spelling are one class."""
    found: dict[str, list[Path]] = {name: [] for name in sorted(map(composed, tree.folders))}
    for name in tree.folders:
        found[composed(name)] += tree.images.get(name, [])
    return found


def _first(path: Path, folder: Path) -> str:
    return composed(path.relative_to(folder).parts[0])


def _instead(left_out: Sequence[LeftOut]) -> str:
    """Return a message's part about the files that were found instead of images."""
    return f"; left out: {reasons(counted(left_out))}" if left_out else ""


def _shown(names: Sequence[str]) -> str:
    """Return names for a message; of many, the first."""
    more = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {more:,} more" if more > 0 else "")
