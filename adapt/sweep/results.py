"""Read the accuracies and sizes of finished runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.artifacts.artifact import Artifact
from adapt.sweep.jobs import Job
from adapt.training.history import read_history
from adapt.training.record import EpochRow
from runtime import patch
from runtime.errors import FormatError

EPOCHS = ("last", "selected", "oracle-best")
"""Epochs whose accuracy is reported: the final one, the one that a score without labels chose, if
one did, and the one that the target's labels would choose."""


@dataclass(frozen=True)
class Result:
    """The figures of a finished run."""

    task: str
    seed: int
    path: Path
    epochs: Mapping[str, Mapping[str, Any]]
    """Accuracies in percent by epoch, see `EPOCHS`."""
    stored: int
    """Parameters that a device needs for the task, as CMKD's tables count them."""
    density: float
    base: str
    """SHA-256 of the base model."""

    @property
    def saved(self) -> str:
        """Name of the epoch whose weights the artifact has."""
        return "selected" if "selected" in self.epochs else "last"

    def figure(self, epoch: str, metric: str, by: str, column: str) -> float | None:
        """Return the recall of class `column` if `by` is `classes`, else the metric.

        The metric may also be a score without labels, such as `infomax`.
        """
        row = self.epochs.get(epoch, {})
        if by == "classes":
            return (row.get("per_class") or {}).get(column)
        found: float | None = row.get(metric, row.get("scores", {}).get(metric))
        return found


def read(job: Job, metric: str) -> Result | None:
    """Return the result of a run; None if it is not finished, or its artifact is damaged.

    A damaged artifact is the error of its run, which has looked for it.

    Args:
        job: Run to read.
        metric: Figure that the oracle looks at, `accuracy`, `mean_per_class` or one without labels.
    """
    try:
        found = Artifact.load(job.path)
    except FormatError:
        return None
    rows: list[EpochRow] = []
    with contextlib.suppress(FormatError):
        rows = read_history(job.path.parent)
    known = [row for row in rows if isinstance(row.get(metric), float)]
    scores = {row["epoch"]: row["scores"] for row in rows}
    epochs = {
        name: {**part, "scores": scores.get(part["epoch"], {})}
        for name in ("last", "selected")
        if (part := found.metrics.get(name))
    }
    best = found.metrics["oracle_best"]
    if known:
        epochs["oracle-best"] = max(known, key=lambda row: row[metric])
    elif best.get(metric) is not None:
        # Without its history, the artifact says what there was of the epoch of best accuracy.
        epochs["oracle-best"] = best
    weight = found.head_weight.size
    head = sum(tensor.size for tensor in found.head_tensors.values())
    return Result(
        job.task,
        job.config.seed,
        job.path,
        epochs,
        patch.size(found.residual)
        + sum(tokens.size for tokens in found.tokens.values())
        + (weight if found.head == "bn-ln-linear" else head),  # their tables leave out the norms
        found.density,
        found.base.sha256,
    )
