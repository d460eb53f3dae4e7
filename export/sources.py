"""Read the artifacts that share a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.harvest import refusal
from adapt.artifacts.merge import base_text, same_base
from adapt.artifacts.store import find, variant
from export.record import TaskRecord
from runtime.bundles.task import Task
from runtime.errors import BaseModelError, ConfigError, TaskError, VerifyError
from runtime.storage.files import sha256


@dataclass(frozen=True)
class Source:
    """An artifact with the digest of its file."""

    artifact: Artifact
    variant: str
    """The method with what was added to it, as training names its folder: `cmkd-rst`."""
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Source:
        """Read an artifact.

        Raises:
            FormatError: The artifact is missing or damaged.
            VerifyError: Labels show that it is worse than zero-shot CLIP, see `refusal`.
        """
        artifact = Artifact.load(path)
        if refused := refusal(path, artifact):
            raise refused
        name = variant(artifact.method, artifact.config)
        return cls(artifact, name, sha256(path.read_bytes()))

    @classmethod
    def of(cls, task: Task, artifacts: Path) -> Source:
        """Read the artifact that a bundle's task was exported from.

        Args:
            task: Task of the bundle.
            artifacts: Folder that `uda-adapt train` wrote.

        Raises:
            FormatError: The bundle was not written by `export_bundle`, or the artifact is damaged.
            TaskError: The artifact is not found.
            VerifyError: The artifact is not the one that the task was exported from.
        """
        name, record = task.info.id, TaskRecord.of(task)
        source = cls.read(find(artifacts, name, task.info.dataset, record.variant))
        if source.sha256 != record.artifact:
            raise VerifyError(
                f"task '{name}' was exported from another artifact than the one in '{artifacts}'; "
                "export it again, or pass the right folder with --artifacts"
            )
        return source


def check_together(sources: Sequence[Source]) -> None:
    """Check that artifacts can share a bundle.

    Raises:
        ConfigError: No artifact was given.
        TaskError: Two artifacts have the same task id.
        BaseModelError: The artifacts have different bases.
    """
    if not sources:
        raise ConfigError("a bundle needs at least one task; name one with --task")
    first = sources[0].artifact
    seen: dict[str, str] = {}
    for source in sources:
        artifact = source.artifact
        name = artifact.task.id
        if name in seen:
            raise TaskError(
                f"two artifacts are of task '{name}' ({seen[name]} and {artifact.task.dataset}/"
                f"{source.variant}); expected each task id once; choose one"
            )
        seen[name] = f"{artifact.task.dataset}/{source.variant}"
        if not same_base(artifact.base, first.base):
            raise BaseModelError(
                f"task '{name}' was trained on {base_text(artifact.base)}, but task "
                f"'{first.task.id}' on {base_text(first.base)}; a bundle has one base: "
                "export them to two bundles"
            )
