"""Select the images to compare on: the test images of training, or those of `--images`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapt.artifacts.artifact import Artifact
from adapt.data.base import UNKNOWN, ImageSet, some
from adapt.data.cache import pixels
from adapt.data.listfile import is_list
from adapt.data.own_domains import OwnDomain, read_side
from adapt.data.rows import Images
from adapt.evaluation.remembered import training_images
from runtime.errors import ConfigError, DataError, TaskError
from runtime.inventory.left_out import left_out_line
from runtime.models import Preprocess
from runtime.storage import disk
from runtime.storage.spelling import composed

MAX_IMAGES = 2000
"""Default number of images per task; more are thinned out evenly."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Preprocessed images of one task's target domain."""

    pixels: Images
    """(N, S, S, 3) uint8, preprocessed by `runtime.frames.preprocess`."""
    labels: NDArray[np.int64]
    """(N,) positions in the task's classes, or -1."""
    available: int
    """Number of images to choose from; N of them are used."""
    which: str = ""
    """Description of the images; empty for those of `ImagePaths.inventory`."""


@dataclass(frozen=True)
class ImagePaths:
    """Paths of the images to compare on; without any, the test images of training."""

    common: Path | None = None
    """Images for every task without its own: a folder or a list file."""
    own: Mapping[str, Path] = field(default_factory=dict)
    """Images by task id."""
    data: Path | None = None
    """Folder of the data sets if it has moved since training, and of the files in a list."""

    @classmethod
    def parse(cls, texts: Iterable[str], data: Path | None = None) -> ImagePaths:
        """Parse values `[TASK=]PATH`, whose paths are folders or list files (.txt).

        The text before the first `=` is a task unless it holds a slash: `./a=b` is a path.

        Args:
            texts: Values of `--images`.
            data: Folder of the data sets.

        Raises:
            ConfigError: A task has two paths, or a path is not found.
        """
        folders: dict[str, Path] = {}
        for text in texts:
            task, equals, name = text.partition("=")
            if not equals or "/" in task or "\\" in task:
                task, name = "", text
            if task in folders:
                whom = f"task '{task}'" if task else "every task"
                raise ConfigError(
                    f"--images gives {whom} two paths, '{folders[task]}' and '{name}'; expected "
                    "one; name the task of each with --images TASK=PATH"
                )
            path = Path(name)
            listed = is_list(path.parent, path.name) and disk.is_file(path)
            if not name or not (disk.is_folder(path) or listed):
                raise ConfigError(
                    f"--images {text}: '{name}' not found; expected a folder or a list file "
                    "(.txt); check the path"
                )
            folders[task] = Path(name)
        return cls(folders.pop("", None), folders, data)

    def check(self, tasks: Sequence[str]) -> None:
        """Check that every path is for one of `tasks`.

        Raises:
            TaskError: A path is for another task.
        """
        for task in self.own:
            if task not in tasks:
                raise TaskError(
                    f"--images names unknown task '{task}'; available: {', '.join(tasks)}"
                )

    def inventory(self) -> Iterator[str]:
        """Yield a line for each path with the numbers of images taken and left out.

        Raises:
            DataError: A path has no images.
        """
        for folder in dict.fromkeys((*self.own.values(), *([self.common] if self.common else []))):
            found = _read(folder, self.data)
            count, rest = len(_chosen(found)), left_out_line(found.left_out)
            yield f"images '{folder}': {count:,} taken; {rest}"

    def sample(self, artifact: Artifact, limit: int = MAX_IMAGES) -> Sample:
        """Return images to compare a task on, see `sample`.

        Raises:
            DataError: No images were found.
        """
        task = artifact.task.id
        return sample(artifact, self.own.get(task, self.common), limit, self.data)


def sample(
    artifact: Artifact, folder: Path | None, limit: int = MAX_IMAGES, root: Path | None = None
) -> Sample:
    """Return images to compare a task on: all of them, or `limit` evenly spaced ones.

    Args:
        artifact: Artifact of the task.
        folder: Folder of images or of class folders, whose names give labels where they are
            classes of the task, or a list file with or without labels. None takes the test images
            of training.
        limit: Largest number of images.
        root: Folder of the data set, or one that holds it. None takes the folder that the artifact
            names, and the folder of the list file.

    Raises:
        DataError: No images were found, those of training are gone or changed, or only some of
            the folders are classes of the task.
    """
    if folder is None:
        pair, which = training_images(artifact, root, option="--images")
        images = pair.test
    else:
        images, which = _other_images(artifact, folder, root), ""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), limit)).round())
    subset = images.subset(chosen.astype(np.int64))
    spec: Preprocess = artifact.preprocess
    found = pixels(subset, spec.size, spec.resize, spec.interpolation, spec.background)
    return Sample(found.images, subset.labels[found.positions], len(images), which)


def _other_images(artifact: Artifact, folder: Path, root: Path | None) -> ImageSet:
    images = _chosen(_read(folder, root))
    classes = tuple(map(composed, artifact.task.classes))
    known = [name for name in images.classes if name in classes]
    others = [name for name in images.classes if name not in classes]
    if known and others:
        raise DataError(
            f"'{folder}' has classes of task '{artifact.task.id}', such as '{known[0]}', and "
            f"others: {some(others)}; move the others away or rename them"
        )
    if not known:
        unknown = np.full(len(images), UNKNOWN)
        return ImageSet(images.paths, unknown, artifact.task.classes, images.domain)
    position = np.array([classes.index(name) for name in images.classes])
    return ImageSet(images.paths, position[images.labels], artifact.task.classes, images.domain)


def _read(folder: Path, root: Path | None) -> OwnDomain:
    path = disk.real(folder)
    if root is not None and is_list(path.parent, path.name):
        return read_side(root, str(path))
    return read_side(path.parent, path.name)


def _chosen(found: OwnDomain) -> ImageSet:
    """Return the images to verify on: of a folder with splits, those of its test split."""
    return found.train if found.test is None else found.test
