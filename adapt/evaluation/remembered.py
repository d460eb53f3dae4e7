"""Load the images of a task's training from the folder that its artifact names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adapt import data
from adapt.artifacts.artifact import Artifact
from adapt.data import digests
from adapt.data.base import DomainPair
from adapt.data.drawn import DEMO_SETS
from adapt.data.folder import load_own, with_given
from adapt.data.origin import IMAGES, Origin
from adapt.settings.stored import partial_classes
from runtime.errors import ConfigError, DataError, TaskError
from runtime.storage import disk


def training_images(
    artifact: Artifact,
    root: Path | None = None,
    *,
    option: str | None = None,
    whole: bool = False,
    test: str | None = None,
) -> tuple[DomainPair, str]:
    """Return a task's images, as training split them, and a description of those to test on.

    Args:
        artifact: Artifact of the task.
        root: Folder of the data set, or one that holds it. None takes the folder that the artifact
            names.
        option: Option that names other images to test on, for messages; None where there is none.
        whole: Whether the training images are needed too; where these cannot be read, others to
            test on do not help.
        test: Other images to test on, as for `--test`; those of training may then have changed.

    Raises:
        DataError: The images are not found, or the test images are not those that the artifact was
            tested on.
    """
    task, origin = artifact.task, Origin.of(artifact.optional.get(IMAGES))
    instead = None if whole else option
    if test is not None:
        return _with_test(artifact, origin, root, test)
    if _drawn(artifact, origin):
        return _load(artifact, None, None), f"test images of '{task.dataset}', drawn"
    folder = _folder(artifact, origin, root, instead)
    if origin is None:
        return _load(artifact, None, folder), f"test images of '{task.dataset}' in '{folder}'"
    where = f"the test images of task '{task.id}' in '{folder}'"
    try:
        pair = _load(artifact, origin, folder)
        same = digests.same(artifact.metrics["data"]["test"], pair.test.digest())
    except (ConfigError, DataError, TaskError) as error:
        advice = f"pass others with {instead}" if instead else "restore them, or train it again"
        raise DataError(
            f"{where} cannot be read as training read them ({error}); {advice}"
        ) from error
    if not same:
        advice = f"pass the images to use with {option}" if option else "restore them"
        raise DataError(
            f"{where} have changed since it was trained; {advice}, or train the task again"
        )
    return pair, f"the test images of training, in '{folder / (origin.test or '')}'"


def is_own(artifact: Artifact) -> bool:
    """Return whether an artifact was trained on the user's own images."""
    origin = Origin.of(artifact.optional.get(IMAGES))
    return artifact.task.dataset not in data.DATASETS if origin is None else bool(origin.source)


def _drawn(artifact: Artifact, origin: Origin | None) -> bool:
    return artifact.task.dataset in DEMO_SETS and (origin is None or origin.source is None)


def _with_test(
    artifact: Artifact, origin: Origin | None, root: Path | None, test: str
) -> tuple[DomainPair, str]:
    folder = None if _drawn(artifact, origin) else _folder(artifact, origin, root, None)
    pair = _load(artifact, origin and replace(origin, test=None), folder)
    pair = with_given(pair, folder or Path(), test, partial_classes(artifact.config))
    of = f"in '{folder}'" if folder else f"of '{artifact.task.dataset}', drawn"
    return pair, f"the classes of training, {of}; the test images in '{test}'"


def _folder(
    artifact: Artifact, origin: Origin | None, root: Path | None, option: str | None
) -> Path:
    """Return the folder of a task's images.

    Raises:
        DataError: It is unknown, or was moved or deleted.
    """
    task = artifact.task
    named = task.dataset in data.DATASETS
    if origin is None and (root is None or not named):
        advice = [f"{option} with the folder of its target domain '{task.target}'"] * bool(option)
        advice += ["the folder of the data set with --data"] * named
        own = "--data ROOT --source DOMAIN --target DOMAIN"
        hint = f"pass {', or '.join(advice) or own}"
        raise DataError(f"images of '{task.dataset}' not found for task '{task.id}'; {hint}")
    if origin is None or root is not None:
        return Path(str(root))
    folder = Path(origin.root)
    if not disk.is_folder(folder):
        others = f", or others with {option}" if option else ""
        raise DataError(
            f"the test images of task '{task.id}' are no longer in '{folder}'; pass the folder "
            f"where they are now with --data{others}"
        )
    return folder


def _load(artifact: Artifact, origin: Origin | None, root: Path | None) -> DomainPair:
    """Return the images of a task, as training loaded them."""
    task, config = artifact.task, artifact.config
    partial = partial_classes(config)
    split = {"holdout": config["holdout"], "seed": artifact.seed, "target_classes": partial}
    if origin is None or origin.source is None or origin.target is None or root is None:
        pair = data.load(task.dataset, task.id, root=root, **split)
    else:
        pair = load_own(root, origin.source, origin.target, origin.test, **split)
    if pair.task.classes != task.classes:
        raise DataError(
            f"data set '{task.dataset}' has other classes than the artifact of '{task.id}'; "
            "train the task again"
        )
    return replace(pair, task=task)  # a folder that was renamed is another data set by its name
