"""Write the demo's report: an HTML page with its pictures inside, also as PNG files."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.frames.preprocess import read_image
from runtime.storage.writing import replacing, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RIGHT, _WRONG, _INK = "#2a7f4f", "#c0392b", "#33506b"
_NAMES = {"zero_shot": "zero-shot CLIP", "source_only": "source-only", "cmkd-rst": "CMKD + RST"}


@dataclass(frozen=True)
class Chapter:
    """Section of the report on one task."""

    task: str
    story: str
    source: Sequence[Path]
    """Images of the source, each in a folder named after its class."""
    seen: Sequence[dict[str, Any]]
    """Target images and their predictions, from `uda-runtime predict --json`."""
    scores: dict[str, Any]
    """Accuracies, from `uda-adapt eval --json`."""
    folder: Path
    """Folder that relative image paths in `seen` start from."""


def write(out: Path, chapters: Sequence[Chapter], bench: dict[str, Any], summary: str) -> Path:
    """Write `report.html` and PNG files into `out`; return the page's path.

    Args:
        out: Folder to write to.
        chapters: Sections, one per task.
        bench: Measurements, from `uda-runtime bench --json`.
        summary: Table that the demo printed.

    Raises:
        StorageError: A file cannot be written.
    """
    figures = {
        "accuracy": ("Accuracy on held-out target images", accuracy_bars(chapters)),
        "latency": ("Milliseconds from frame to prediction, and of a switch", latency(bench)),
        **{f"samples-{c.task}": (f"{c.task}: {c.story}", sample_sheet(c)) for c in chapters},
    }
    parts = [f"<pre>{html.escape(summary)}</pre>"]
    for name, (title, figure) in figures.items():
        with replacing(out / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=110)
        picture = base64.b64encode((out / f"{name}.png").read_bytes()).decode()
        parts.append(
            f"<h2>{html.escape(title)}</h2>"
            f'<img alt="{html.escape(title)}" src="data:image/png;base64,{picture}">'
        )
    machine = bench["machine"]
    parts.append(
        f"<p>{html.escape(bench['backend'])} on {html.escape(machine['processor'])}, "
        f"{machine['cores']} cores; frame {bench['frame']}, {bench['precision']}.</p>"
    )
    style = (
        "body{font:16px sans-serif;max-width:70em;margin:2em auto;color:#222}img{max-width:100%}"
    )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>uda-edge demo</title>'
        f"<style>{style}</style><h1>One base model, three domains</h1>{''.join(parts)}</html>"
    )
    write_bytes(out / "report.html", page.encode())
    return out / "report.html"


def sample_sheet(chapter: Chapter) -> Figure:
    """Return source images with their labels above target images with their predictions."""
    from matplotlib.figure import Figure

    columns = max(len(chapter.source), len(chapter.seen))
    figure = Figure(figsize=(1.1 * columns, 3.2), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, path in zip(axes[0], chapter.source, strict=False):
        axis.imshow(read_image(path))
        axis.set_title(path.parent.name, fontsize=9, color="#555555")
    for axis, item in zip(axes[1], chapter.seen, strict=False):
        path = chapter.folder / item["image"]
        label, score = item["top"][0]
        axis.imshow(read_image(path))
        color = _RIGHT if label == path.parent.name else _WRONG
        axis.set_title(f"{label} {score:.0%}", fontsize=9, color=color)
    right = sum(i["top"][0][0] == Path(i["image"]).parent.name for i in chapter.seen)
    figure.suptitle(
        f"above: labelled source; below: target as the device sees it, {right} of "
        f"{len(chapter.seen)} right",
        fontsize=10,
    )
    return figure


def accuracy_bars(chapters: Sequence[Chapter]) -> Figure:
    """Return bars of accuracy per task and variant."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(_NAMES)
    colors = ("#b8c4ce", "#8aa0b4", _RIGHT)
    for number, (variant, name) in enumerate(_NAMES.items()):
        heights = [
            next(v["accuracy"] for v in c.scores["variants"] if v["variant"] == variant)
            for c in chapters
        ]
        positions = [i + (number - 1) * width for i in range(len(chapters))]
        bars = axis.bar(positions, heights, width, label=name, color=colors[number])
        axis.bar_label(bars, fmt="%.1f", fontsize=9)
    axis.set_xticks(range(len(chapters)), [f"{c.task}\n{c.story}" for c in chapters])
    axis.set_ylim(0, 105)
    axis.set_ylabel("%")
    axis.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.15), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def latency(bench: dict[str, Any]) -> Figure:
    """Return p50 bars with a mark at p99, for predictions and for switching."""
    from matplotlib.figure import Figure

    rows = [
        (f"{r['task']}, batch {r['batch']}", r["predict_ms"])
        for r in bench["rows"]
        if r["kind"] == "predict"
    ] + [("switch", r["switch_ms"]) for r in bench["rows"] if r["kind"] == "switch"]
    figure = Figure(figsize=(9, 0.42 * len(rows) + 1), layout="constrained")
    axis = figure.subplots()
    names = [name for name, _ in rows]
    axis.barh(names, [t["p50"] for _, t in rows], color=_INK)
    axis.plot([t["p99"] for _, t in rows], names, "|", color=_WRONG, markersize=14)
    for position, (_, t) in enumerate(rows):
        axis.text(
            t["p99"] * 1.15, position, f"{t['p50']:.3g} / {t['p99']:.3g}", va="center", fontsize=9
        )
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(right=4 * max(t["p99"] for _, t in rows))
    axis.set_xlabel("milliseconds, logarithmic; bar: p50, mark: p99")
    axis.spines[["top", "right"]].set_visible(False)
    return figure
