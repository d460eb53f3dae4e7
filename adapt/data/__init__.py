"""Look up data sets by name, and load the images of a task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adapt.data.base import Dataset, DomainPair, ImageSet, pick
from adapt.data.folder import load_folders
from adapt.data.origin import Origin, absolute
from adapt.registry import DATASETS
from runtime.errors import DataError
from runtime.lookup import imported
from runtime.suggest import did_you_mean

__all__ = [
    "DATASETS",
    "DomainPair",
    "ImageSet",
    "check_task",
    "get",
    "load",
    "load_folders",
    "tasks",
]


def get(dataset: str) -> Dataset:
    """Return a data set by its name.

    Raises:
        DataError: The name is unknown; the message lists those available.
    """
    if dataset not in DATASETS:
        raise DataError(
            f"unknown data set '{dataset}'{did_you_mean(dataset, DATASETS)}; available: "
            f"{', '.join(sorted(DATASETS))}, and any image folders with --data ROOT --source A "
            "--target B"
        )
    found: Dataset = imported(DATASETS[dataset])()
    return found


def check_task(dataset: str, task: str | None) -> None:
    """Check the names of a data set and a task, without reading images.

    Raises:
        DataError: The data set is unknown.
        TaskError: The data set has no such task.
    """
    found = get(dataset)
    if task is not None:
        pick(task, dataset, {short: domain.name for short, domain in found.domains.items()})


def tasks(dataset: str) -> tuple[str, ...]:
    """Return the tasks of a data set that papers report, in the order of their columns.

    Raises:
        DataError: The data set is unknown.
    """
    return get(dataset).tasks()


def load(
    dataset: str,
    task: str,
    *,
    root: Path | None = None,
    holdout: float = 0.0,
    seed: int = 0,
    target_classes: int | None = None,
) -> DomainPair:
    """Return the images of a task of a named data set.

    Args:
        dataset: A key of `DATASETS`.
        task: Source and target domain, for example `a-c`; equal ones give the supervised bound.
        root: Folder of the data set, or its parent; None for the drawn ones.
        holdout: Share of the target to keep for evaluation, where there is no official split.
        seed: Seed of that split.
        target_classes: None: both domains must have the same classes; 0: the target may lack some;
            n: it is cut to its first n classes by name. See `adapt.data.pairing.match`.

    Raises:
        DataError: The data set is unknown, or its images are missing or unusable.
        TaskError: The data set has no such task.
        ConfigError: A holdout of a fixed split, or an impossible number of target classes.
    """
    pair = get(dataset).load(
        task, root=root, holdout=holdout, seed=seed, target_classes=target_classes
    )
    return pair if root is None else replace(pair, origin=Origin(absolute(root)))
