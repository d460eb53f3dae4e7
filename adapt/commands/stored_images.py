"""Find the images of trained tasks: those that options name, else those that artifacts remember."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapt.artifacts import store
from adapt.commands.image_options import pair_loader
from adapt.registry import DATASETS
from runtime.errors import TaskError

if TYPE_CHECKING:
    from adapt.evaluation.stored import Stored


def stored_images(
    artifacts: Path,
    dataset: str | None,
    task: str | None,
    data: Path | None,
    source: str | None,
    target: str | None,
    test: str | None = None,
    method: str | None = None,
    option: str | None = None,
) -> Stored:
    """Return a task's images and its artifacts; most arguments are the options of that name.

    The user's own images and a data set's folder need not be named again: artifacts remember them.

    Args:
        artifacts: Root folder of the artifacts.
        dataset: Name of the data set.
        task: Id of the task.
        data: Folder of the data set.
        source: Labelled domain of own images.
        target: Unlabelled domain of own images.
        test: Other images to test on.
        method: Variant whose images are taken.
        option: Option that names other images to test on, for messages.

    Raises:
        click.UsageError: The options name no images or too many, and no artifact was found.
        TaskError: The artifacts are of several tasks, or of no such task.
        UdaError: Images or artifacts are unusable.
    """
    from adapt.data.drawn import DEMO_SETS
    from adapt.evaluation.stored import remembered, stored

    named = dataset in DATASETS and task and (data is not None or dataset in DEMO_SETS)
    if not (source or target or named):
        known = store.entries(artifacts, task, dataset)
        if known or (task and not dataset):
            entry = _one(artifacts, task, dataset)
            return remembered(artifacts, entry.dataset, entry.task, method, data, test, option)
        if not (dataset or data):
            raise click.UsageError(
                f"no images, and '{artifacts}' has no artifacts that remember some; pass "
                "--artifacts FOLDER, or --data ROOT --source DOMAIN --target DOMAIN"
            )
    pair_of = pair_loader(dataset, task, data, source, target, test)
    return stored(pair_of, artifacts, dataset, method)


def _one(artifacts: Path, task: str | None, dataset: str | None) -> store.Entry:
    """Return an artifact of the one task that options name.

    Raises:
        TaskError: There is none, or there are several.
    """
    if task is not None:
        found = store.entries(artifacts, task, dataset or store.dataset_of(artifacts, task))
        return found[0]
    found = store.entries(artifacts, task, dataset)
    tasks = list(dict.fromkeys(f"{entry.dataset}/{entry.task}" for entry in found))
    if len(tasks) > 1:
        raise TaskError(
            f"'{artifacts}' has artifacts of {len(tasks)} tasks; choose one with --task (and "
            f"--dataset): {', '.join(tasks)}"
        )
    return found[0]
