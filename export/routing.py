"""What lets a device choose tasks: the whitening of a bundle, and where each task's images lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adapt.artifacts import base_features
from adapt.artifacts.artifact import Artifact
from runtime.bundles.task import Task
from runtime.errors import FormatError
from runtime.monitoring import routing, whitening
from runtime.monitoring.routing import MEMBER
from runtime.monitoring.whitening import Whitening

Features = dict[str, NDArray[np.float32]]


def routable(artifacts: Sequence[Artifact]) -> Features:
    """Return the features of the untouched base that artifacts carry, by task; some have none.

    Raises:
        FormatError: Those of an artifact are damaged.
    """
    found: Features = {}
    for artifact in artifacts:
        features = base_features.read(artifact)
        if features is not None:
            found[artifact.task.id] = features
    if len({features.shape[1] for features in found.values()}) > 1:
        sizes = ", ".join(f"{task} {features.shape[1]}" for task, features in found.items())
        raise FormatError(
            f"the artifacts carry features of different sizes ({sizes}), though they have one "
            "base; train the tasks again"
        )
    return found


def whitening_of(features: Features) -> Whitening:
    """Return the whitening of a bundle, from the images that no task keeps as a sample."""
    return whitening.fit([rows[~routing.sampled(len(rows))] for rows in features.values()])


def with_routing(task: Task, features: Features, shared: Whitening) -> Task:
    """Return a task that also carries where its images lie, if it has features."""
    if task.info.id not in features:
        return task
    own = routing.fit(features[task.info.id], shared)
    return replace(
        task,
        optional={**task.optional, MEMBER: own.document()},
        optional_tensors={**task.optional_tensors, **own.tensors()},
    )
