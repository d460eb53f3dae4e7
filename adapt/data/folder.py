"""Image folders: `ROOT/<domain>/<class>/*.jpg`, the target also as `ROOT/<domain>/*.jpg`."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import numpy as np

from adapt.data import listfile, pairing
from adapt.data.base import UNKNOWN, DomainPair, ImageSet, some
from runtime.errors import DataError

_LISTS = (".csv", ".tsv", ".lst", ".list", ".json")
"""What people also call lists of images."""


def load_folders(
    root: Path,
    source: str,
    target: str,
    *,
    holdout: float = 0.0,
    seed: int = 0,
    target_classes: int | None = None,
) -> DomainPair:
    """Return the task of two domain folders or list files of the user's own.

    Classes are matched by name and ordered by name; domains are named after their folders or lists.

    Args:
        root: Folder of the data set; its name becomes the data set's.
        source: Folder in it, with one folder of images per class, or a list file.
        target: Folder in it, with the same classes, or with images only, or a list file.
        holdout: Share of the target to keep for evaluation; 0 evaluates on what was trained on.
        seed: Of the split.
        target_classes: See `adapt.data.pairing.match`.

    Raises:
        DataError: A folder is missing or empty, there are fewer than two classes, or the two
            domains have different ones.
        ConfigError: The number of target classes is impossible.
        TaskError: The folder names make no task id.
    """
    labelled = read_side(root, source)
    if not labelled.classes:
        raise DataError(
            f"the source '{root / source}' has images but no class folders; the source needs "
            "labels: sort its images into one folder per class, or name them in a list file"
        )
    unlabelled = read_side(root, target)
    if (root / source).resolve() == (root / target).resolve():  # one folder under two names
        unlabelled = dataclasses.replace(labelled, domain=unlabelled.domain)
    dataset = re.sub(r"[^A-Za-z0-9_.-]", "_", root.resolve().name).lstrip(".") or "folder"
    names = (labelled.domain, unlabelled.domain)
    short = [re.sub(r"[^A-Za-z0-9_.]", "_", name).lower() for name in names]
    return pairing.make(
        "-".join(short), dataset, labelled, unlabelled,
        holdout=holdout, seed=seed, target_classes=target_classes,
    )  # fmt: skip


def read_side(root: Path, name: str) -> ImageSet:
    """Return the images of a domain folder, or those that a list file names.

    Raises:
        DataError: There are none, or they are unusable.
    """
    if listfile.is_list(root, name):
        return listfile.read_list(root, name)
    return read_domain(root, name)


def read_domain(root: Path, domain: str) -> ImageSet:
    """Return the images of one domain folder, sorted by path; see `read_folder`.

    Raises:
        DataError: The folder is missing or unusable.
    """
    folder = root / domain
    if not folder.is_dir():
        found = "is a file, and a list ends in .txt" if folder.is_file() else "does not exist"
        if folder.suffix.lower() in _LISTS and not folder.exists():
            found += "; a list file ends in .txt"
        domains = ", ".join(folders(root)) if root.is_dir() else ""
        raise DataError(
            f"the domain folder '{folder}' {found}; "
            + (f"'{root}' has {domains}" if domains else f"'{root}' has no folders; check --data")
        )
    return read_folder(folder, domain)


def read_folder(folder: Path, domain: str) -> ImageSet:
    """Return the images of a folder, sorted by path.

    Images directly in the folder are unlabelled: labels are -1 and `classes` is empty. Names that
    start with a dot are ignored. A class folder may have folders inside.

    Args:
        folder: Holds one folder of images per class, or images.
        domain: What to call it.

    Raises:
        DataError: The folder holds no images, has an empty class folder, has fewer than two
            classes, or has images beside its class folders.
    """
    classes, loose = folders(folder), _images(folder, recursive=False)
    if classes and loose:
        raise DataError(
            f"'{folder}' has {len(loose)} images beside its {len(classes)} class folders, "
            f"for example '{loose[0].name}'; move them into a class folder or away"
        )
    if loose:
        return ImageSet(tuple(loose), np.full(len(loose), UNKNOWN), (), domain)
    files = [_images(folder / name, recursive=True) for name in classes]
    if not any(files):
        kinds = " ".join(sorted(listfile.SUFFIXES))
        raise DataError(f"'{folder}' holds no images ({kinds}), neither directly nor in folders")
    empty = [name for name, found in zip(classes, files, strict=True) if not found]
    if empty:
        raise DataError(
            f"'{folder}' has class folders without images: {some(empty)}; fill or delete them"
        )
    if len(classes) < 2:
        raise DataError(
            f"'{folder}' has one class only, '{classes[0]}'; telling images apart needs two or more"
        )
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in files])
    paths = tuple(path for found in files for path in found)
    return ImageSet(paths, labels, tuple(classes), domain)


def folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; those that start with a dot left out.

    Raises:
        DataError: The folder cannot be listed.
    """
    try:
        return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot list '{folder}': {error.strerror}") from error


def _images(folder: Path, recursive: bool) -> list[Path]:
    found = []
    for place, inside, names in os.walk(folder, followlinks=True):
        inside[:] = [name for name in inside if recursive and not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if Path(name).suffix.lower() in listfile.SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)
