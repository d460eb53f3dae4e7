"""Show what happened in the loop: accuracy over the frames, pictures of the harvest, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.demo.loop import CLIP_ART, OLD, PAINTINGS, TASK
from adapt.demo.seen import ADAPTING, BIN
from adapt.report.album import Album
from adapt.report.cards import Card, Cards
from runtime.console import count_of

AREA = {"width": 480, "height": 164, "left": 62, "top": 16, "bottom": 116}
"""Size of the chart, and where its curve may be, in its own units."""
STRIPS = {"drifting": 124, "no task": 137, "new task": 150}
"""Bands below the curve, with their tops."""
_ADAPTING = 3 * BIN
"""Frames that the part whose number of frames depends on the machine is drawn as."""
_SIDE = 144
"""Longest side of a picture in pixels."""


@dataclass(frozen=True)
class Piece:
    """Part of a band; its strength is in [0, 1]."""

    x: float
    width: float
    strength: float


@dataclass(frozen=True)
class Strip:
    """One band."""

    name: str
    y: int
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Mark:
    """Start of a part of the story."""

    number: int
    x: float


@dataclass(frozen=True)
class Story:
    """What the page shows of the loop."""

    line: str
    """Value of the attribute `d` of an SVG path."""
    strips: Sequence[Strip]
    marks: Sequence[Mark]
    events: Sequence[str]
    """What happened, one for each mark."""
    epochs: str
    """Length of each training."""
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    trusted: Cards
    unsure: Cards


def story(found: Mapping[str, Any], folder: Path) -> Story:
    """Return what the page shows.

    Args:
        found: Figures of `adapt.demo.loop.run`.
        folder: Folder that it ran in.
    """
    line, strips, marks = chart(found["timeline"])
    album, pictures = Album(), found["pictures"]
    return Story(
        line=line,
        strips=strips,
        marks=marks,
        events=events(found),
        epochs=count_of(found["schedule"]["epochs"], "epoch"),
        rows=rows(found),
        notes=[each["reason"] for each in found["comparisons"]],
        trusted=_cards(pictures["trusted"], folder, album),
        unsure=_cards(pictures["unsure"], folder, album),
    )


def chart(
    timeline: Sequence[Mapping[str, Any]],
) -> tuple[str, list[Strip], list[Mark]]:
    """Return the curve of the accuracy, the bands below it, and where parts begin.

    Args:
        timeline: Figures from `adapt.demo.seen.timeline`.
    """
    drawn = widths(timeline)
    scale = (AREA["width"] - AREA["left"]) / sum(drawn)
    shares = {
        "drifting": [point["drifting"] for point in timeline],
        "no task": [100 - point["known"] for point in timeline],
        "new task": [point["tasks"].get(TASK, 0) for point in timeline],
    }
    points: list[str] = []
    pieces: dict[str, list[Piece]] = {name: [] for name in STRIPS}
    marks: list[Mark] = []
    at, phase = float(AREA["left"]), ""
    for number, (point, frames) in enumerate(zip(timeline, drawn, strict=True)):
        width = frames * scale
        if point["phase"] != phase:
            phase = point["phase"]
            marks.append(Mark(len(marks) + 1, round(at, 1)))
        height = AREA["bottom"] - point["accuracy"] / 100 * (AREA["bottom"] - AREA["top"])
        points.append(f"{at + width / 2:.1f} {height:.1f}")
        for name, values in shares.items():
            piece = Piece(round(at, 1), round(width + 0.2, 1), round(values[number] / 100, 2))
            pieces[name].append(piece)
        at += width
    strips = [
        Strip(name, y, [piece for piece in pieces[name] if piece.strength])
        for name, y in STRIPS.items()
    ]
    return "M" + "L".join(points), strips, marks


def widths(timeline: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the number of frames as which each point of a chart over time is drawn."""
    return [_ADAPTING if p["phase"] == ADAPTING else p["frames"] for p in timeline]


def events(found: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each part of the story."""
    phases, schedule, trusted = found["phases"], found["schedule"], found["harvested"]["trusted"]
    without, with_labels = found["comparisons"]
    frames = {name: count_of(own["frames"], "frame") for name, own in phases.items()}
    no_task = "'auto' finds no task that fits"
    lines = [
        f"The camera sees {CLIP_ART}: task {OLD} is right for {_share(phases['usual'])} of "
        f"{frames['usual']}, with {count_of(found['false_alarms'], 'false alarm')}.",
        f"The scene drifts to {PAINTINGS} over {count_of(schedule['drift'], 'frame')}. "
        f"{_after(found['frames_until_alarm'], 'The alarm comes')}, and "
        f"{_after(found['frames_until_no_task'], no_task)}.",
    ]
    lines.append(
        f"{frames['harvest']} later {trusted['images']} are harvested to train on; {OLD} named "
        f"{trusted['old_task_right']} of them correctly."
    )
    lines.append(
        "A task is trained on them, compared, exported and "
        f"{'installed' if found['installed'] else 'refused'}. Meanwhile the session classified "
        f"{frames[ADAPTING]}. Better than before? Without labels: {without['verdict']}. With "
        f"{with_labels['sorted']} held-out frames sorted: {with_labels['verdict']}. It is refused "
        "where these show it below zero-shot CLIP."
    )
    tasks = phases["after"]["tasks"]
    lines.append(
        f"'auto' gives {tasks.get(TASK, 0):.0f} % of new {PAINTINGS} to the new task; "
        f"{_share(phases['after'])} are right."
    )
    lines.append(
        f"Back to {CLIP_ART}: {phases['back']['tasks'].get(OLD, 0):.0f} % go to {OLD}; "
        f"{_share(phases['back'])} are right."
    )
    return lines


def rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Return the table of accuracies before, during and after."""
    old, new = found["old"], found["new"]
    lines = [
        ["before", CLIP_ART, OLD, f"{old[CLIP_ART]:.1f}"],
        ["during", PAINTINGS, OLD, f"{old[PAINTINGS]:.1f}"],
    ]
    if new is not None:
        lines.append(["after", PAINTINGS, TASK, f"{new[PAINTINGS]:.1f}"])
    return lines


def _share(figures: Mapping[str, Any]) -> str:
    return f"{figures['accuracy']:.0f} %"


def _after(frames: int | None, what: str) -> str:
    if frames == 1:  # one frame raises nothing: it was so before the scene began to drift
        return f"{what} too early, before it drifts"
    return f"{what} after {count_of(frames, 'frame')}" if frames else f"{what}: never"


def _cards(found: Sequence[Mapping[str, Any]], folder: Path, album: Album) -> Cards:
    thumbnails = album.thumbnails([folder / each["file"] for each in found], _SIDE)
    cards = [
        Card(picture, each["label"], each["score"], None, None, each["true"])
        for picture, each in zip(thumbnails, found, strict=True)
    ]
    return Cards(cards, len(cards))
