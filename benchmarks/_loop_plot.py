"""Draw the seeds of `benchmarks.loop`: accuracy over the frames, and beside other frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from adapt.demo.loop_page import widths
from runtime.storage.writing import replacing

AROUND = 2
"""Points on each side that are averaged, since a class shows for up to 25 frames in a row."""
COLOURS = ("#33506b", "#2a7f4f", "#d9a441")
NOTE = "Drawn images: they show that the parts fit together, not what a street camera will give."


def draw(
    runs: Sequence[Mapping[str, Any]], summary: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Write the picture.

    Args:
        runs: Figures of the seeds.
        summary: Rows of the table.
        path: File of the picture (PNG).
    """
    figure = Figure(figsize=(11, 4), layout="constrained")
    over_time, beside = figure.subplots(1, 2, width_ratios=(3, 2))
    for run, colour in zip(runs, COLOURS, strict=False):
        _over_time(over_time, run["loop"], colour, f"seed {run['seed']}")
    over_time.set_ylim(0, 104)
    over_time.set_ylabel("accuracy of the session's answers, % (mean of 125 frames)", fontsize=8)
    over_time.set_xlabel(
        "frames, from the start of the drift (the training is drawn as 75)\n"
        "dotted: alarm (at 0: a false one, still on), dashed: installed",
        fontsize=8,
    )
    over_time.legend(fontsize=8, loc="lower right", frameon=False)
    for place, row in enumerate(summary):
        known = [value for value in row["seeds"] if value is not None]
        colour = "#2a7f4f" if row["row"].startswith("after") else "#8aa0b5"
        beside.barh(place, row["mean"] or 0, color=colour, alpha=0.5)
        beside.plot(known, [place] * len(known), "o", color="#222", markersize=3)
        beside.text(2, place, f"{row['mean']:.1f}" if known else "none", va="center", fontsize=8)
    beside.set_yticks(range(len(summary)), [row["row"] for row in summary], fontsize=8)
    beside.invert_yaxis()
    beside.set_xlim(0, 104)
    beside.set_xlabel("held-out images, %; bars: means, points: seeds", fontsize=8)
    for panel in (over_time, beside):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    figure.suptitle(NOTE, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _over_time(panel: Any, loop: Mapping[str, Any], colour: str, name: str) -> None:
    """Draw one seed's accuracy over its frames."""
    timeline = loop["timeline"]
    ends, total = [], 0
    for width in widths(timeline):
        total += width
        ends.append(total)
    begins = [0, *ends[:-1]]
    phases = [point["phase"] for point in timeline]
    zero = begins[phases.index("drift")]
    middles = [(a + b) / 2 - zero for a, b in zip(begins, ends, strict=True)]
    smooth = []
    for place, phase in enumerate(phases):
        near = range(max(place - AROUND, 0), min(place + AROUND + 1, len(phases)))
        smooth.append(fmean(timeline[i]["accuracy"] for i in near if phases[i] == phase))
    panel.plot(middles, smooth, color=colour, linewidth=1.3, label=name)
    if loop["frames_until_alarm"]:
        panel.axvline(loop["frames_until_alarm"], color=colour, linewidth=1, linestyle=":")
    if loop["installed"]:
        at = begins[phases.index("after")] - zero
        panel.axvline(at, color=colour, linewidth=1, linestyle="--")
