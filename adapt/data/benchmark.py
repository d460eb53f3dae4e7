"""Load published data sets from class folders or list files below ROOT.

A data set is a small class: its domains with their published counts, its classes, the usual names
of its folder, and where to get it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from adapt.data import layouts, pairing
from adapt.data.base import Domain, DomainPair, ImageSet, pick, some
from adapt.data.class_folders import folders
from runtime.errors import DataError
from runtime.storage import disk

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Part:
    """One domain: its training images, and its test images if the data set keeps them apart."""

    train: ImageSet
    test: ImageSet | None = None

    def splits(self) -> dict[str, ImageSet]:
        """Return the images by split: `all`, or `train` and `test`."""
        return (
            {"all": self.train} if self.test is None else {"train": self.train, "test": self.test}
        )


class Benchmark:
    """A published data set of domains that lie in folders; fulfils `adapt.data.base.Dataset`."""

    name: ClassVar[str]
    domains: ClassVar[Mapping[str, Domain]]
    """Domains by short name, as in a task id."""
    classes: ClassVar[tuple[str, ...]] = ()
    """Published names in label order, where they are needed or worth comparing."""
    class_count: ClassVar[int]
    """Published number of classes."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Usual names of the data set's own folder."""
    home: ClassVar[str]
    """Address to get it from."""
    reported: ClassVar[tuple[str, ...]] = ()
    """Tasks that papers report, in the order of their columns; all if empty."""

    def load(
        self,
        task: str,
        *,
        root: Path | None = None,
        holdout: float = 0.0,
        seed: int = 0,
        target_classes: int | None = None,
    ) -> DomainPair:
        """Return the images of a task; see `adapt.data.base.Dataset`."""
        pick(task, self.name, {short: domain.name for short, domain in self.domains.items()})
        folder = self.root(root)
        source, _, target = task.partition("-")
        labelled = self.read(folder, source)
        unlabelled = labelled if source == target else self.read(folder, target)
        for short in dict.fromkeys((source, target)):
            self._warn(short, labelled if short == source else unlabelled)
        return pairing.make(
            task, self.name, labelled.train, unlabelled.train, unlabelled.test,
            holdout=holdout, seed=seed, target_classes=target_classes,
        )  # fmt: skip

    def tasks(self) -> tuple[str, ...]:
        """Return the tasks that papers report, in the order of their columns."""
        every = (f"{s}-{t}" for s in self.domains for t in self.domains if s != t)
        return self.reported or tuple(every)

    def survey(self, root: Path | None, short: str) -> dict[str, Counter[str]]:
        """Return the number of images per class of one domain, by split; see `Dataset`."""
        splits = self.read(self.root(root), short).splits()
        return {split: count(images) for split, images in splits.items()}

    def read(self, root: Path, short: str) -> Part:
        """Return the images of one domain, classes sorted by their published names.

        Raises:
            DataError: The domain is missing or unusable.
        """
        domain = self.domains[short]
        bases, folder = self.find(root, domain)
        path = layouts.list_file(layouts.list_folders(bases), list_names(domain))
        path = path or layouts.list_file((folder,), ("image_list",))
        if path is not None:
            images = layouts.read_listed(path, folder, domain, self.classes)
        else:
            images = layouts.read_classes(folder, domain, f"{domain.name}.txt")
        return Part(layouts.spelled(images, self.classes))

    def root(self, root: Path | None) -> Path:
        """Return the folder of the data set, checked.

        Raises:
            DataError: No folder was given, or it does not exist.
        """
        if root is None:
            raise DataError(
                f"data set '{self.name}' is not part of this project; get it ({self.home}) and "
                "pass its folder with --data ROOT"
            )
        if not disk.is_folder(root):
            raise DataError(
                f"'{root}' is not a folder; pass the folder of '{self.name}' with --data"
            )
        return root

    def find(self, root: Path, domain: Domain) -> tuple[list[Path], Path]:
        """Return the folders that may hold domains and lists, and the folder of a domain.

        Raises:
            DataError: The domain is missing.
        """
        bases = layouts.bases(root, self.folders)
        folder = layouts.domain_folder(bases, domain)
        if folder is None:
            raise DataError(
                f"'{root}' has no folder of the domain '{domain.name}' of '{self.name}'; "
                f"available: {some(folders(root), 8)}; pass the data set's folder with --data, or "
                f"get the missing domain from {self.home}"
            )
        return bases, folder

    def remarks(self, root: Path, shorts: Sequence[str]) -> list[str]:
        """Return remarks on a data set's layout on this disk; usually none.

        Args:
            root: Folder of the data set.
            shorts: Short names of the domains to look at.
        """
        return []

    def _warn(self, short: str, part: Part) -> None:
        """Warn when a domain is not the published one: accuracies will not compare."""
        domain, splits = self.domains[short], part.splits().values()
        images, classes = sum(map(len, splits)), len(part.train.classes)
        if domain.images and (images, classes) != (domain.images, self.class_count):
            _log.warning(
                "%s: domain '%s' has %d images of %d classes, published: %d of %d; see "
                '"uda-adapt data check"',
                self.name, domain.name, images, classes, domain.images, self.class_count,
            )  # fmt: skip


def count(images: ImageSet) -> Counter[str]:
    """Return the number of images of each class, 0 where there are none."""
    numbers = np.bincount(images.labels, minlength=len(images.classes)).tolist()
    return Counter(dict(zip(images.classes, numbers, strict=True)))


def list_names(domain: Domain, suffix: str = "") -> list[str]:
    """Return the possible stems of a domain's list file: `Art`, `Art_list`."""
    endings = (suffix,) if suffix else ("", "list")
    return [name + ending for name in layouts.keys(domain) for ending in endings]


def among(images: ImageSet, classes: Sequence[str]) -> ImageSet:
    """Return images relabelled for a longer list of classes, in that list's order."""
    moved = np.array([classes.index(name) for name in images.classes], np.int64)
    return ImageSet(images.paths, moved[images.labels], tuple(classes), images.domain)
