"""Train the tasks that `benchmarks.monitoring` looks at, or find them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapt import methods
from adapt.artifacts.artifact import Artifact
from adapt.data.base import DomainPair, ImageSet
from adapt.settings.layers import resolve
from adapt.training.train import train
from benchmarks._monitoring_sets import Sets
from benchmarks.demo_accuracy import DATASETS
from runtime.errors import DataError

METHOD, VARIANT = "cmkd", "cmkd-rst"
LEFT_OUT = 3
"""Classes that tasks are retrained without."""


def trained(sets: Sets, model: str, task: str, seed: int, root: Path) -> Artifact:
    """Return a task, trained below a folder unless it is there."""
    settings = (f"model={model}", *sets.settings)
    return trained_on(sets.pair(task), settings, seed, root / model / f"seed{seed}")


def retrained(
    sets: Sets, model: str, task: str, seed: int, root: Path
) -> tuple[Artifact, NDArray[np.bool_]]:
    """Return a task that never saw some classes, and which (K,) of the whole task's it knows.

    Neither source nor target images show these classes. Other seeds leave out others.
    """
    pair = sets.pair(task)
    kept = np.ones(len(pair.task.classes), np.bool_)
    kept[np.random.default_rng(seed).choice(len(kept), LEFT_OUT, replace=False)] = False
    names = tuple(np.array(pair.task.classes)[kept].tolist())
    some = {name: without(getattr(pair, name), kept) for name in ("source", "target", "test")}
    smaller = replace(pair, task=replace(pair.task, classes=names), **some)
    settings = (f"model={model}", *sets.settings)
    return trained_on(smaller, settings, seed, root / model / f"seed{seed}-without"), kept


def without(images: ImageSet, kept: NDArray[np.bool_]) -> ImageSet:
    """Return the images of the classes (K,) that are kept, which are numbered anew."""
    some = images.subset(np.flatnonzero(kept[images.labels]))
    names = tuple(np.array(images.classes)[kept].tolist())
    return ImageSet(some.paths, (np.cumsum(kept) - 1)[some.labels], names, images.domain)


def found(root: Path, tasks: Sequence[str]) -> list[Artifact]:
    """Return the tasks of one seed from a folder of artifacts.

    Raises:
        DataError: One is missing.
    """
    artifacts = []
    for task in tasks:
        path = root / DATASETS[task[0]] / task / VARIANT / "artifact.safetensors"
        if not path.is_file():
            raise DataError(f"no artifact in '{path}'; train task {task} there, or leave it out")
        artifacts.append(Artifact.load(path))
    return artifacts


def trained_on(pair: DomainPair, own: Sequence[str], seed: int, out: Path) -> Artifact:
    """Return the task of a pair, trained below a folder unless it is there.

    Args:
        pair: Images.
        own: Settings beside those of the benchmark.
        seed: Seed.
        out: Folder of artifacts.
    """
    method = methods.get(METHOD)
    settings: list[Any] = ["rst=true", *own, f"seed={seed}", "select=last"]
    dataset = pair.task.dataset if pair.task.dataset in DATASETS.values() else "folder"
    resolved = resolve(method.Config, dataset, METHOD, settings)
    config = resolved.with_data(method.from_data, len(pair.source), len(pair.target)).config
    return train(METHOD, pair, config, out=out, resume=True).artifact
