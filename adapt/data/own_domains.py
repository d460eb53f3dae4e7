"""Read the user's own domains: folders of classes, perhaps with splits, harvests and list files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapt.data import harvest, listfile, spelling
from adapt.data.base import UNKNOWN, ImageSet
from adapt.data.class_folders import domain_folder, folders, read_tree
from adapt.data.splits import recognised
from runtime.console import count_of
from runtime.errors import DataError
from runtime.inventory.left_out import LeftOut
from runtime.inventory.walk import walk
from runtime.monitoring.harvested import HELD_OUT, TRUSTED, is_harvest
from runtime.storage import disk
from runtime.storage.spelling import on_disk

NO_LABELS = (
    "has images but no class folders; the source needs labels: sort its images into one folder per "
    "class, or name them in a list file"
)
"""Reason why a domain cannot be a source, to follow its name."""


@dataclass(frozen=True, eq=False)
class OwnDomain:
    """The images of one folder or list file."""

    train: ImageSet
    test: ImageSet | None = None
    """Images of the test split, else of the validation split; None without splits."""
    train_name: str = ""
    """Domain and split, for messages: `shop/train`."""
    test_name: str = ""
    left_out: tuple[LeftOut, ...] = ()
    findings: tuple[str, ...] = ()
    """Reasons why training would refuse it, if read leniently."""

    def all(self) -> ImageSet:
        """Return the images of all splits that are used."""
        if self.test is None:
            return self.train
        classes = tuple(sorted({*self.train.classes, *self.test.classes}))
        parts = (self.train, self.test)
        moved = [
            np.array([*map(classes.index, part.classes), UNKNOWN], np.int64)[part.labels]
            for part in parts
        ]
        paths = self.train.paths + self.test.paths
        return ImageSet(paths, np.concatenate(moved), classes, self.train.domain)


def check_side(root: Path, name: str) -> None:
    """Check that a domain exists.

    Raises:
        DataError: The folder or list file does not exist.
    """
    name = spelling.tidy(name)
    if listfile.is_list(root, name):
        listfile.find_list(root, name)
    else:
        domain_folder(root, name)


def read_side(root: Path, name: str, *, lenient: bool = False) -> OwnDomain:
    """Return the images of a domain folder, a harvest or a list file.

    Args:
        root: Folder of the data set.
        name: Name of the folder or list file.
        lenient: Whether to accept what training would refuse, if it has images, and record why in
            `findings`.

    Raises:
        DataError: There are no images, or they are unusable.
    """
    name = spelling.tidy(name)
    if listfile.is_list(root, name):
        images, left_out = listfile.take_list(root, name)
        return OwnDomain(images, train_name=name, left_out=left_out)
    folder = domain_folder(root, name)
    spelling.check_name(name, "domain folder", folder)
    if is_harvest(folder):
        seen = harvest.read(folder, name)
        train_name, test_name = (f"{name}/{part}" for part in (TRUSTED, HELD_OUT))
        train, test = harvest.unlabelled(seen.trusted), harvest.unlabelled(seen.held_out)
        return OwnDomain(train, test, train_name, test_name, seen.left_out)
    findings: list[str] | None = [] if lenient else None
    found = recognised(folders(folder))
    if found is None:
        images, left_out = read_tree(folder, name, findings)
        return OwnDomain(images, train_name=name, left_out=left_out, findings=tuple(findings or ()))
    beside = walk(folder, recursive=False)
    if loose := beside.images.get(""):
        raise DataError(
            f"'{folder}' has {count_of(len(loose), 'image')} beside its split '{found.train}', "
            f"for example '{loose[0].name}'; move them into a split or away"
        )
    train, left_out = read_tree(folder / found.train, name, findings)
    left_out += beside.left_out + _unused(folder, found.unused)
    train_name = f"{name}/{found.train}"
    if found.test is None:
        return OwnDomain(
            train, train_name=train_name, left_out=left_out, findings=tuple(findings or ())
        )
    test, more = read_tree(folder / found.test, name, findings)
    test_name = f"{name}/{found.test}"
    return OwnDomain(train, test, train_name, test_name, left_out + more, tuple(findings or ()))


def read_test(root: Path, name: str) -> ImageSet:
    """Return the images of `--test`: a folder or a list file, in the data set's folder or anywhere.

    Of a folder with splits, its test split is taken, else its validation split.

    Raises:
        DataError: There is no such folder or list, or it has no labels.
    """
    name = spelling.tidy(name)
    inside = not os.path.isabs(name) and disk.exists(on_disk(root / name))
    here = Path(os.path.abspath(on_disk(Path(name))))
    if not inside and not disk.exists(here):
        raise DataError(
            f"test images '{name}' not found, neither in '{root}' nor in the working folder; pass "
            "--test a folder with one folder per class, or a list file (.txt)"
        )
    found = read_side(root, name) if inside else read_side(here.parent, here.name)
    images = found.test or found.train
    if not images.classes or not images.labelled:
        raise DataError(
            f"the test images '{name}' have no labels, which --test needs; sort them into one "
            "folder per class, or label every line of the list"
        )
    return images


def _unused(folder: Path, names: Sequence[str]) -> tuple[LeftOut, ...]:
    """Return the images of splits that are neither trained on nor tested on."""
    found: list[LeftOut] = []
    for name in names:
        tree = walk(folder / name)
        count = sum(map(len, tree.images.values()))
        found += [LeftOut(folder / name, f"unused split {name}", count)] if count else []
        found += tree.left_out
    return tuple(found)
