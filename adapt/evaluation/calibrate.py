"""Store temperatures from sorted images in the artifacts that were scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adapt.artifacts import store
from adapt.artifacts.artifact import Artifact
from adapt.evaluation.spot_check import sha256
from adapt.evaluation.spot_score import Temperature
from runtime.errors import ConfigError, DataError
from runtime.models import TaskInfo
from runtime.monitoring import confidence
from runtime.monitoring.confidence import Calibration
from runtime.storage.locks import exclusive


def keep(found: Temperature, root: Path, task: TaskInfo) -> Calibration:
    """Store a temperature in its artifact, unless it has one of more images; return the stored one.

    Args:
        found: Temperature from `adapt.evaluation.spot_score.score`.
        root: Folder of the artifacts.
        task: Task of the artifact.

    Raises:
        ConfigError: The task is being trained.
        DataError: The artifact has changed since it was scored.
        UdaError: The artifact is damaged, or cannot be written.
    """
    path = store.find(root, task.id, task.dataset, found.variant)

    def busy(holder: str) -> ConfigError:
        return ConfigError(f"{holder} is training '{path}'; score again when it has ended")

    with exclusive(path.parent / store.LOCK, required=False, keep=False, busy=busy):
        if sha256(path) != found.artifact:
            raise DataError(f"'{path}' has changed since it was scored; score again")
        artifact = Artifact.load(path)
        there = confidence.read(artifact.optional)
        if there is not None and there.images > found.images:
            return there
        made = Calibration(found.temperature, found.images)
        optional = {**artifact.optional, confidence.MEMBER: made.document()}
        replace(artifact, optional=optional).save(path)
        return made
