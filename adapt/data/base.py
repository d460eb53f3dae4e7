"""Define image sets, domain pairs and the interface of a data set."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from adapt.data import digests
from adapt.data.contents import contents, stat
from adapt.data.inventory import Inventory
from adapt.data.origin import Origin
from runtime.errors import DataError, TaskError
from runtime.models import TaskInfo

UNKNOWN = -1
"""Label of an image of unknown class."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Image files of one domain."""

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    """(N,) indices into `classes`, or -1 for unknown."""
    classes: tuple[str, ...]
    """Names in label order."""
    domain: str

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labelled(self) -> bool:
        """Whether every image has a label."""
        return bool((self.labels != UNKNOWN).all())

    def digest(self) -> str:
        """Return a digest over contents and labels in order; `adapt.data.digests` compares two.

        Raises:
            DataError: A file no longer exists.
        """
        content, names = hashlib.sha256(), hashlib.sha256()
        sums = contents(self.paths)
        for path, label, known in zip(self.paths, self.labels.tolist(), sums, strict=True):
            content.update(b"%b%d\n" % (known.tobytes(), label))
            name = os.fsencode("/".join(path.parts[-3:]))
            names.update(b"%b\t%d\t%d\n" % (name, stat(path).st_size, label))
        return digests.join(content.hexdigest(), names.hexdigest())

    def subset(self, indices: NDArray[np.int64]) -> ImageSet:
        """Return the images at some positions."""
        paths = tuple(self.paths[i] for i in indices)
        return ImageSet(paths, self.labels[indices], self.classes, self.domain)


@dataclass(frozen=True)
class DomainPair:
    """The images that one task is trained and tested on."""

    task: TaskInfo
    source: ImageSet
    """Labelled."""
    target: ImageSet
    """Unlabelled training images. Labels, where there are any, are for evaluation only."""
    test: ImageSet
    """Target images to evaluate on."""
    held_out: bool
    """Training never sees an image of `test`. False is the papers' transductive protocol."""
    given: bool = False
    """Whether `test` was given separately (`--test`); artifacts then do not record it."""
    inventory: Inventory | None = None
    """Images taken from the user's own folders, and files left out."""
    origin: Origin | None = None
    """Location of the images; None if they are drawn."""


@dataclass(frozen=True)
class Domain:
    """One domain of a published data set."""

    name: str
    """Name of the domain in tasks and prompts."""
    images: int
    """Published number of images, over all splits."""
    spellings: tuple[str, ...] = ()
    """Other names of the domain's folder."""


class Dataset(Protocol):
    """A named data set; a class of this shape and a line in `adapt.registry` add one."""

    name: ClassVar[str]
    """Key of the data set in `DATASETS`."""
    domains: ClassVar[Mapping[str, Domain]]
    """Domains by short name, as in a task id."""
    classes: ClassVar[tuple[str, ...]]
    """Published names in label order, where they are needed or worth comparing; else empty."""
    class_count: ClassVar[int]
    """Published number of classes."""

    def load(
        self,
        task: str,
        *,
        root: Path | None = None,
        holdout: float = 0.0,
        seed: int = 0,
        target_classes: int | None = None,
    ) -> DomainPair:
        """Return the images of a task, for example `a-c`.

        Args:
            task: Short names of source and target domain.
            root: Folder of the data set, or the folder that holds it.
            holdout: Share of the target to keep for evaluation, where there is no official split.
            seed: Seed of the split.
            target_classes: Number of target classes, see `adapt.data.pairing.match`.

        Raises:
            TaskError: There is no such task.
            ConfigError: A holdout was asked for where the test images are fixed, or the number of
                target classes is impossible.
            DataError: Images are missing or unusable, or the domains' classes differ.
        """

    def tasks(self) -> tuple[str, ...]:
        """Return the tasks that papers report, in the order of their columns."""

    def survey(self, root: Path | None, short: str) -> dict[str, Counter[str]]:
        """Return the number of images per class of one domain, by split.

        Args:
            root: Folder of the data set, as in `load`.
            short: Short name of the domain.

        Returns:
            Keys `train` and `test`, or only `all` where the data set has no split of its own.

        Raises:
            DataError: Images are missing or unusable.
        """


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return a few names in quotes and the number of others, for a message."""
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown or "none"


def split(images: ImageSet, holdout: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Return (training, held-out) images by a seeded permutation, each in the original order.

    Args:
        images: Images to split, at least two.
        holdout: Share to hold out, in (0, 1); at least one image goes to each side.
        seed: Seed of NumPy's default generator.

    Raises:
        DataError: There are too few images.
    """
    if len(images) < 2:
        raise DataError(
            f"domain '{images.domain}' has {len(images)} image; holding out needs two: add "
            "images, or pass --set holdout=0"
        )
    count = min(max(round(len(images) * holdout), 1), len(images) - 1)
    order = np.random.default_rng(seed).permutation(len(images))
    return images.subset(np.sort(order[count:])), images.subset(np.sort(order[:count]))


def pick(task: str, dataset: str, domains: dict[str, str]) -> tuple[str, str]:
    """Return the full names of a task's source and target domain.

    Args:
        task: Short names, for example `a-c`.
        dataset: Name of the data set, for the message.
        domains: Full names of the domains by short name.

    Raises:
        TaskError: The task is unknown; the message lists those available.
    """
    source, dash, target = task.partition("-")
    if not dash or source not in domains or target not in domains:
        tasks = ", ".join(f"{s}-{t}" for s in domains for t in domains if s != t)
        names = ", ".join(f"{short} = {full}" for short, full in domains.items())
        raise TaskError(
            f"data set '{dataset}' has no task '{task}'; available: {tasks} ({names}), "
            "and source = target for the supervised bound"
        )
    return domains[source], domains[target]
