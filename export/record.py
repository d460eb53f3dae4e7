"""The record that the export leaves in a task file, for people and for `uda-export verify`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from runtime.bundles.task import Task
from runtime.errors import FormatError
from runtime.models import check_sha256
from runtime.storage.fields import build


@dataclass(frozen=True)
class Survival:
    """Shares of a residual that are still visible at a precision, see `export.merge.survival`."""

    fp32: float
    fp16: float
    bf16: float


@dataclass(frozen=True)
class TaskRecord:
    """How `export_bundle` made a task; `Task.record` holds it as a mapping."""

    artifact: str
    """SHA-256 of the artifact file."""
    variant: str
    """The artifact's method with what was added to it: `cmkd-rst`."""
    density: float
    """Share of the encoder's parameters that changed, in [0, 1]."""
    patch_density: float
    """Share of the deploy values that changed; more than `density` where a gain is folded in."""
    survival: Survival
    metrics: dict[str, Any]
    """Metrics of the artifact."""

    def __post_init__(self) -> None:
        check_sha256(self.artifact)

    @classmethod
    def of(cls, task: Task) -> TaskRecord:
        """Return the record of a task; unknown members are ignored.

        Raises:
            FormatError: A member is missing or of the wrong type.
        """
        known = {f.name: task.record[f.name] for f in fields(cls) if f.name in task.record}
        try:
            return build(cls, known, f"record of task '{task.info.id}'")
        except FormatError as error:
            raise FormatError(
                f"{error}; use a bundle that 'uda-export onnx' wrote, or export it again"
            ) from error
