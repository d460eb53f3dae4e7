"""Gather what a page shows of one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from adapt.data import DomainPair, ImageSet
from adapt.data.base import UNKNOWN
from adapt.report.album import Album
from adapt.report.comparison import VariantRow, comparison
from adapt.report.samples import ClassRow, samples
from adapt.report.sections import Section, section
from adapt.report.tasks import ReportedTask
from runtime.inventory.left_out import left_out_line


@dataclass(frozen=True)
class RoleCounts:
    """The images of one role. Numbers per class are empty without labels."""

    role: str
    name: str
    images: int
    classes: int
    """Number of classes that have an image."""
    least: str = ""
    median: str = ""
    most: str = ""


@dataclass(frozen=True)
class TaskView:
    """One task of a page."""

    anchor: str
    report: ReportedTask
    rows: Sequence[VariantRow]
    sides: Sequence[RoleCounts]
    """Images by role; empty where they were not found."""
    left_out: str
    """Line on the files that were left out, or on what training found; may be empty."""
    samples: Sequence[ClassRow]
    all_samples: int
    """Number of classes, of which some may not be shown."""
    sections: Sequence[Section]


def task_view(found: ReportedTask, number: int, album: Album) -> TaskView:
    """Return the view of a task.

    Args:
        found: What is known of the task.
        number: Position of the task on the page, from 1.
        album: Album to put the pictures into.
    """
    anchor = f"task-{number}"
    anchors = {run.label: f"{anchor}-{i}" for i, run in enumerate(found.runs, 1)}
    rows = comparison(found, anchors)
    by_label = {row.variant: row for row in rows}
    lines = {line.variant: line for line in found.lines}
    shown, count, sides = list[ClassRow](), 0, list[RoleCounts]()
    left_out = found.runs[0].inventory or ""
    if (pair := found.pair) is not None:
        domains = [(f"source: {pair.source.domain}", pair.source)]
        domains.append((f"target: {pair.target.domain}", pair.target))
        background = found.runs[0].preprocess.background
        shown, count = samples(domains, album, background)
        sides = _sides(pair)
        left_out = left_out_line(pair.inventory.left_out) if pair.inventory else ""
    sections = [
        section(run, by_label[run.label], lines.get(run.label), found, album, anchors[run.label])
        for run in found.runs
    ]
    return TaskView(anchor, found, rows, sides, left_out, shown, count, sections)


def _sides(pair: DomainPair) -> list[RoleCounts]:
    taken = pair.inventory.sides if pair.inventory else ()
    names: dict[str, str] = {side.role: side.name for side in taken}
    test = "test, held out" if pair.held_out else "test"
    roles = {"source": pair.source, "target": pair.target}
    if pair.test is not pair.target:
        roles["test"] = pair.test
    return [
        _side(test if role == "test" else role, names.get(role, images.domain), images)
        for role, images in roles.items()
    ]


def _side(role: str, name: str, images: ImageSet) -> RoleCounts:
    known = images.labels[images.labels != UNKNOWN]
    if not len(known):
        return RoleCounts(role, name, len(images), 0)
    counts = np.bincount(known, minlength=len(images.classes)).tolist()
    filled = sum(count > 0 for count in counts)
    numbers = (f"{min(counts):,}", f"{median(counts):g}", f"{max(counts):,}")
    return RoleCounts(role, name, len(images), filled, *numbers)
