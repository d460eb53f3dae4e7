"""Data sets by name, and the user's own image folders."""

from __future__ import annotations

import importlib

from adapt.data.base import Dataset, DomainPair, ImageSet, class_prompts
from adapt.data.folder import load_folders
from runtime.errors import DataError

__all__ = ["DATASETS", "DomainPair", "ImageSet", "class_prompts", "load", "load_folders"]

DATASETS = {
    "demo-digits": "adapt.data.demo:DemoDigits",
    "demo-objects": "adapt.data.demo:DemoObjects",
}
"""Name to `module:Class`; the class fulfils `adapt.data.base.Dataset`."""


def load(dataset: str, task: str, *, holdout: float = 0.0, seed: int = 0) -> DomainPair:
    """Return the images of a task of a named data set.

    Args:
        dataset: A key of `DATASETS`.
        task: Source and target domain, for example `a-c`; equal ones give the supervised bound.
        holdout: Share of the target to keep for evaluation, where there is no official split.
        seed: Of that split.

    Raises:
        DataError: The data set is unknown, or its images are missing or unusable.
        TaskError: The data set has no such task.
    """
    if dataset not in DATASETS:
        raise DataError(
            f"unknown data set '{dataset}'; known are {', '.join(sorted(DATASETS))}, and any image "
            "folders with --data ROOT --source A --target B"
        )
    module, _, name = DATASETS[dataset].partition(":")
    loader: Dataset = getattr(importlib.import_module(module), name)()
    return loader.load(task, holdout=holdout, seed=seed)
