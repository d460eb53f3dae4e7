"""Load the test images of a task's training from the folder that the artifact names."""

from __future__ import annotations

from pathlib import Path

from adapt import data
from adapt.artifacts.artifact import Artifact
from adapt.data import digests
from adapt.data.base import DomainPair, ImageSet
from adapt.data.drawn import DEMO_SETS
from adapt.data.folder import with_test
from adapt.data.origin import IMAGES, Origin
from adapt.data.own_domains import read_test
from runtime.errors import ConfigError, DataError, TaskError
from runtime.storage import disk


def test_images(artifact: Artifact, root: Path | None) -> tuple[ImageSet, str]:
    """Return a task's test images, as training split them, and a description of them.

    Args:
        artifact: Artifact of the task.
        root: Folder of the data set, or one that holds it. None takes the folder that the artifact
            names.

    Raises:
        DataError: The images are not found, or are not those that the artifact was tested on.
    """
    task, origin = artifact.task, Origin.of(artifact.optional.get(IMAGES))
    drawn = task.dataset in DEMO_SETS and (origin is None or origin.source is None)
    if drawn:
        return _load(artifact, None, None).test, f"test images of '{task.dataset}', drawn"
    named = task.dataset in data.DATASETS
    if origin is None and (root is None or not named):
        hint = ", or the folder of the data set with --data" if named else ""
        raise DataError(
            f"images of '{task.dataset}' not found to verify task '{task.id}' on; pass "
            f"--images with the folder of its target domain '{task.target}'{hint}"
        )
    if origin is None or root is not None:
        folder = Path(str(root))
    else:
        folder = Path(origin.root)
        if not disk.is_folder(folder):
            raise DataError(
                f"the test images of task '{task.id}' are no longer in '{folder}'; pass the folder "
                "where they are now with --data, or others with --images"
            )
    if origin is None:
        return _load(artifact, None, folder).test, f"test images of '{task.dataset}' in '{folder}'"
    try:
        images = _load(artifact, origin, folder).test
        same = digests.same(artifact.metrics["data"]["test"], images.digest())
    except (ConfigError, DataError, TaskError) as error:
        raise DataError(
            f"the test images of task '{task.id}' in '{folder}' cannot be read as training read "
            f"them ({error}); pass others with --images"
        ) from error
    if not same:
        raise DataError(
            f"the test images of task '{task.id}' in '{folder}' have changed since it was trained; "
            "pass the images to verify on with --images, or train the task again"
        )
    return images, f"the test images of training, in '{folder / (origin.test or '')}'"


def _load(artifact: Artifact, origin: Origin | None, root: Path | None) -> DomainPair:
    """Return the images of a task, as training loaded them."""
    task, config = artifact.task, artifact.config
    partial = config["target_classes"] if config["partial"] else None
    split = {"holdout": config["holdout"], "seed": artifact.seed, "target_classes": partial}
    if origin is None or origin.source is None or origin.target is None or root is None:
        pair = data.load(task.dataset, task.id, root=root, **split)
    else:
        pair = data.load_folders(root, origin.source, origin.target, **split)
        if origin.test is not None:
            given = read_test(root, origin.test)
            pair = with_test(pair, given, origin.test, target_classes=partial, given=True)
    if pair.task.classes != task.classes:
        raise DataError(
            f"data set '{task.dataset}' has other classes than the artifact of '{task.id}'; "
            "train the task again, or pass --images"
        )
    return pair
