"""The real images that a bundle is verified on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapt import data
from adapt.artifact import Artifact
from adapt.data.base import UNKNOWN, ImageSet
from adapt.data.cache import pixels
from adapt.data.folder import read_domain
from runtime.errors import DataError
from runtime.spec import Preprocess

DEFAULT_LIMIT = 2000
"""Images per task; more are thinned out evenly."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Preprocessed images of one task's target domain."""

    pixels: NDArray[np.uint8]
    """(N, S, S, 3), as `runtime.preprocess` makes them."""
    labels: NDArray[np.int64]
    """(N,) positions in the task's classes, or -1."""
    available: int
    """Images there are; N of them are used."""


def sample(artifact: Artifact, folder: Path | None, limit: int = DEFAULT_LIMIT) -> Sample:
    """Return images to verify a task on: all of them, or `limit` evenly spaced ones.

    Args:
        artifact: The task. Its data set's test images are taken, as training split them.
        folder: Images to take instead: directly in it, or in class folders, whose names give
            labels if they are those of the task.
        limit: At most so many.

    Raises:
        DataError: There are no images.
    """
    images = _test_images(artifact) if folder is None else _folder_images(artifact, folder)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), limit)).round())
    subset = images.subset(chosen.astype(np.int64))
    spec: Preprocess = artifact.preprocess
    found = pixels(subset, spec.size, spec.resize, spec.interpolation)
    return Sample(found.images, subset.labels[found.kept], len(images))


def _test_images(artifact: Artifact) -> ImageSet:
    task, config = artifact.task, artifact.config
    if task.dataset not in data.DATASETS:
        raise DataError(
            f"no images to verify task '{task.id}' on: '{task.dataset}' is no named data set; "
            f"pass --images with the folder of its target domain '{task.target}'"
        )
    pair = data.load(task.dataset, task.id, holdout=config["holdout"], seed=artifact.seed)
    if pair.task.classes != task.classes:
        raise DataError(
            f"data set '{task.dataset}' has other classes than the artifact of '{task.id}'; "
            "train the task again, or pass --images"
        )
    return pair.test


def _folder_images(artifact: Artifact, folder: Path) -> ImageSet:
    place = folder.resolve()
    images = read_domain(place.parent, place.name)
    if images.classes == artifact.task.classes:
        return images
    unknown = np.full(len(images), UNKNOWN)
    return ImageSet(images.paths, unknown, artifact.task.classes, images.domain)
