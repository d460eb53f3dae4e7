"""Image folders: `ROOT/<domain>/<class>/*.jpg`, the target also as `ROOT/<domain>/*.jpg`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from adapt.data.base import UNKNOWN, DomainPair, ImageSet, split
from runtime.errors import DataError, TaskError
from runtime.spec import TaskInfo

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"))
"""Of image files, in lower case."""


def load_folders(
    root: Path, source: str, target: str, *, holdout: float = 0.0, seed: int = 0
) -> DomainPair:
    """Return the task of two domain folders.

    Classes are matched by name and ordered by name; domains are named after their folders.

    Args:
        root: Folder of the data set; its name becomes the data set's.
        source: Folder in it, with one folder of images per class.
        target: Folder in it, with the same classes, or with images only.
        holdout: Share of the target to keep for evaluation; 0 evaluates on what was trained on.
        seed: Of the split.

    Raises:
        DataError: A folder is missing or empty, there are fewer than two classes, or the two
            domains have different ones.
        TaskError: The folder names make no task id.
    """
    labelled = read_domain(root, source)
    if not labelled.classes:
        raise DataError(
            f"the source '{root / source}' has images but no class folders; the source needs "
            "labels: sort its images into one folder per class"
        )
    unlabelled = read_domain(root, target)
    if not unlabelled.classes:
        unlabelled = ImageSet(
            unlabelled.paths, unlabelled.labels, labelled.classes, unlabelled.domain
        )
    check_same_classes(labelled, unlabelled)
    info = task_info(root, source, target, labelled.classes)
    if not holdout:
        return DomainPair(info, labelled, unlabelled, unlabelled, held_out=False)
    train, test = split(unlabelled, holdout, seed)
    # The supervised bound learns the labels of the target: not those it is judged on.
    supervised = train if (root / source).resolve() == (root / target).resolve() else labelled
    return DomainPair(info, supervised, train, test, held_out=True)


def read_domain(root: Path, domain: str) -> ImageSet:
    """Return the images of one domain folder, sorted by path.

    Images directly in the folder are unlabelled: labels are -1 and `classes` is empty. Names that
    start with a dot are ignored. A class folder may have folders inside.

    Raises:
        DataError: The folder is missing, is a file, holds no images, has an empty class folder, has
            fewer than two classes, or has images beside its class folders.
    """
    folder = root / domain
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        domains = ", ".join(_folders(root)) if root.is_dir() else ""
        raise DataError(
            f"the domain folder '{folder}' {found}; "
            + (f"'{root}' has {domains}" if domains else f"'{root}' has no folders; check --data")
        )
    classes, loose = _folders(folder), _images(folder, recursive=False)
    if classes and loose:
        raise DataError(
            f"'{folder}' has {len(loose)} images beside its {len(classes)} class folders, "
            f"for example '{loose[0].name}'; move them into a class folder or away"
        )
    if loose:
        return ImageSet(tuple(loose), np.full(len(loose), UNKNOWN), (), domain)
    files = [_images(folder / name, recursive=True) for name in classes]
    if not any(files):
        kinds = " ".join(sorted(SUFFIXES))
        raise DataError(f"'{folder}' holds no images ({kinds}), neither directly nor in folders")
    empty = [name for name, found in zip(classes, files, strict=True) if not found]
    if empty:
        raise DataError(
            f"'{folder}' has class folders without images: {_some(empty)}; fill or delete them"
        )
    if len(classes) < 2:
        raise DataError(
            f"'{folder}' has one class only, '{classes[0]}'; telling images apart needs two or more"
        )
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in files])
    return ImageSet(
        tuple(path for found in files for path in found), labels, tuple(classes), domain
    )


def check_same_classes(source: ImageSet, target: ImageSet) -> None:
    """Check that two domains have the same classes.

    Raises:
        DataError: They have not; the message names the first that only one side has.
    """
    if source.classes != target.classes:
        here = sorted(set(source.classes) - set(target.classes))
        there = sorted(set(target.classes) - set(source.classes))
        sides = (("source", source, here), ("target", target, there))
        found = "; ".join(
            f"only {role} '{domain.domain}' has {_some(names)}"
            for role, domain, names in sides
            if names
        )
        raise DataError(f"the class folders differ: {found}; give both the same names")


def task_info(root: Path, source: str, target: str, classes: tuple[str, ...]) -> TaskInfo:
    """Return the task between two domain folders; its id is made of their names in lower case.

    Raises:
        TaskError: The names make no task id.
    """
    dataset = re.sub(r"[^A-Za-z0-9_.-]", "_", root.resolve().name).lstrip(".") or "folder"
    short = [re.sub(r"[^A-Za-z0-9_.]", "_", name).lower() for name in (source, target)]
    try:
        return TaskInfo("-".join(short), dataset, source, target, classes)
    except ValueError as error:
        raise TaskError(f"domains '{source}' and '{target}' make no task: {error}") from error


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot list '{folder}': {error.strerror}") from error


def _images(folder: Path, recursive: bool) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "none"
