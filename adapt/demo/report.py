"""Write the demo's report: the page of its artifacts, with what the device saw and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapt.demo.loop_page import AREA, story
from adapt.demo.seen import BIN
from adapt.report.album import Album
from adapt.report.cards import Card, Cards
from adapt.report.runs import ReportedRun
from adapt.report.tasks import evaluated
from adapt.report.write import write as write_page
from runtime.console import ProgressCallback

PAGE = "report.html"
_SIDE = 144
"""Longest side of a picture in pixels."""


@dataclass(frozen=True)
class Chapter:
    """Section of the report on one task."""

    task: str
    story: str
    artifacts: Sequence[Path]
    source: Sequence[Path]
    """Images of the source, each in a folder named after its class."""
    seen: Sequence[Mapping[str, Any]]
    """Target images and their predictions, from `uda-runtime predict --json`."""
    folder: Path
    """Folder that relative image paths in `seen` start from."""


@dataclass(frozen=True)
class Timing:
    """One line of the latency chart; positions are percent of its width, on a log scale."""

    name: str
    p50: float
    """Milliseconds."""
    p99: float
    bar: float
    mark: float


@dataclass(frozen=True)
class Device:
    """What a device saw of one task."""

    task: str
    story: str
    source: Cards
    seen: Cards
    right: int


def write(
    out: Path,
    chapters: Sequence[Chapter],
    bench: Mapping[str, Any],
    summary: str,
    loop: tuple[Mapping[str, Any], Path] | None = None,
    on_progress: ProgressCallback = lambda what, done, total: None,
) -> Path:
    """Write `report.html` into `out`; return its path.

    Args:
        out: Folder to write to.
        chapters: Sections, one per task.
        bench: Measurements, from `uda-runtime bench --json`.
        summary: Table that the demo printed.
        loop: Figures of `adapt.demo.loop.run` and the folder that it ran in; None leaves it out.
        on_progress: Progress callback.

    Raises:
        StorageError: The file cannot be written.
        FormatError: An artifact is damaged.
    """
    tasks = [
        replace(
            evaluated(list(map(ReportedRun.read, c.artifacts)), on_progress=on_progress),
            story=c.story,
        )
        for c in chapters
    ]
    machine = bench["machine"]
    write_page(
        out / PAGE,
        tasks,
        title="One base model, three domains",
        template="demo.html",
        summary=summary.split("\n"),
        devices=[device(chapter) for chapter in chapters],
        timings=timings(bench),
        story=None if loop is None else story(*loop),
        story_area=AREA,
        loop_bin=BIN,
        machine=f"{bench['backend']} on {machine['processor']}, {machine['cores']} cores; frame "
        f"{bench['frame']}, {bench['precision']}",
    )
    return out / PAGE


def device(chapter: Chapter) -> Device:
    """Return the pictures of a chapter: source images, and target images with predictions."""
    album = Album()
    labelled = [
        Card(thumbnail, path.parent.name, None, None, None, None)
        for path, thumbnail in zip(
            chapter.source, album.thumbnails(chapter.source, _SIDE), strict=True
        )
    ]
    paths = [chapter.folder / item["image"] for item in chapter.seen]
    seen = []
    for path, item, picture in zip(
        paths, chapter.seen, album.thumbnails(paths, _SIDE), strict=True
    ):
        label, score = item["top"][0]
        seen.append(Card(picture, label, score, None, None, path.parent.name))
    right = sum(card.right is True for card in seen)
    both = Cards(labelled, len(labelled)), Cards(seen, len(seen))
    return Device(chapter.task, chapter.story, *both, right)


def timings(bench: Mapping[str, Any]) -> list[Timing]:
    """Return a line for each prediction and switch that was measured."""
    named = [
        (f"{row['task']}, batch {row['batch']}", row["predict_ms"])
        for row in bench["rows"]
        if row["kind"] == "predict"
    ] + [("switch", row["switch_ms"]) for row in bench["rows"] if row["kind"] == "switch"]
    low = min(times["p50"] for _, times in named) / 2
    high = max(times["p99"] for _, times in named)

    def position(milliseconds: float) -> float:
        return 100 * math.log(milliseconds / low) / math.log(high / low)

    return [
        Timing(name, t["p50"], t["p99"], position(t["p50"]), position(t["p99"]))
        for name, t in named
    ]
