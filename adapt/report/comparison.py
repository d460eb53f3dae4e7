"""Put the variants of a task side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapt.evaluation.compare import Line
from adapt.report.runs import ReportedRun
from adapt.report.tasks import ReportedTask
from runtime.console import bytes_text


@dataclass(frozen=True)
class VariantRow:
    """One variant in the comparison. Accuracies are percentages, None where unknown."""

    variant: str
    base: str
    accuracy: float | None
    mean_per_class: float | None
    last: float | None
    oracle_best: float | None
    epoch: int | None
    selected_by: str | None
    ece: float | None
    """Expected calibration error, in percent."""
    aurc: float | None
    """Area under the risk-coverage curve, in percent."""
    infomax: float | None
    changed: float
    """Share of the encoder's parameters, in percent."""
    fp16: float | None
    """Share of the changes that survives the cast, in percent."""
    bf16: float | None
    file: str
    measured: str
    """When the accuracy was measured."""
    anchor: str | None
    """Name of the variant's own section; None for baselines without one."""
    best: bool = False


def comparison(found: ReportedTask, anchors: Mapping[str, str]) -> list[VariantRow]:
    """Return a row per variant: those that were evaluated first, then the other runs.

    Args:
        found: What is known of the task.
        anchors: Names of the runs' own sections, by label.
    """
    evaluated = {line.variant for line in found.lines}
    rows = [_row_of_line(line, anchors.get(line.variant)) for line in found.lines]
    rows += [_row_of_run(r, anchors[r.label]) for r in found.runs if r.label not in evaluated]
    return _with_best(rows)


def _row_of_line(line: Line, anchor: str | None) -> VariantRow:
    survival = line.survival or {}
    return VariantRow(
        variant=line.variant,
        base=line.base,
        accuracy=line.accuracy,
        mean_per_class=line.mean_per_class,
        last=line.last,
        oracle_best=line.oracle_best,
        epoch=line.epoch,
        selected_by=line.selected_by,
        ece=None if line.trust is None else line.trust.ece,
        aurc=None if line.trust is None else line.trust.aurc,
        infomax=line.infomax,
        changed=100 * line.density,
        fp16=100 * survival["fp16"] if survival else None,
        bf16=100 * survival["bf16"] if survival else None,
        file="" if line.file_bytes is None else bytes_text(line.file_bytes),
        measured="in an earlier evaluation" if line.predictions.stored else "now",
        anchor=anchor,
    )


def _row_of_run(run: ReportedRun, anchor: str) -> VariantRow:
    saved, metrics = run.metrics.saved, run.metrics
    return VariantRow(
        variant=run.label,
        base=run.base.architecture,
        accuracy=saved.accuracy,
        mean_per_class=saved.mean_per_class,
        last=metrics.last.accuracy,
        oracle_best=metrics.oracle_best.accuracy,
        epoch=saved.epoch,
        selected_by=metrics.selected.by if metrics.selected else "last",
        ece=None,
        aurc=None,
        infomax=None,  # training's is of other images
        changed=100 * run.density,
        fp16=None,
        bf16=None,
        file=bytes_text(run.file_bytes),
        measured="in training",
        anchor=anchor,
    )


def _with_best(rows: Sequence[VariantRow]) -> list[VariantRow]:
    """Return the rows with the best one marked: by accuracy, or else by infomax."""
    by_accuracy = any(row.accuracy is not None for row in rows)
    values = [row.accuracy if by_accuracy else row.infomax for row in rows]
    best = max((value for value in values if value is not None), default=None)
    return [
        replace(row, best=best is not None and value == best and len(rows) > 1)
        for row, value in zip(rows, values, strict=True)
    ]
