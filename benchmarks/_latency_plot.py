"""Draw the rows of `benchmarks.latency`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from runtime.storage.writing import replacing


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a picture of the milliseconds of each side at batch 1, a panel for each model."""
    at_one = [row for row in rows if row.get("batch") == 1]
    names = list(dict.fromkeys((row["model"], row["precision"]) for row in at_one))
    sides = list(dict.fromkeys(row["side"] for row in at_one))
    figure = Figure(figsize=(3.2 * len(names), 3.4), layout="constrained")
    for panel, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        mine = {row["side"]: row for row in at_one if (row["model"], row["precision"]) == name}
        for place, side in enumerate(sides):
            if side not in mine:
                continue
            times = sorted(mine[side]["p50s"])
            middle = times[len(times) // 2]
            colour = "#2a7f4f" if side.startswith("session") else "#8aa0b5"
            panel.barh(place, middle, color=colour)
            panel.plot([times[0], times[-1]], [place, place], color="#222", linewidth=1)
            panel.text(times[-1], place, f" {middle:.0f}", va="center", fontsize=8)
        bound = next(iter(mine.values()))["bound_ms"]
        if bound:
            panel.axvline(bound, color="#c0392b", linewidth=1, linestyle=":")
        panel.set_title(f"{name[0]}, {name[1]}", fontsize=9)
        panel.set_yticks(range(len(sides)), sides, fontsize=8)
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(right=panel.get_xlim()[1] * 1.12)
        panel.set_xlabel("ms per frame; dotted: bound", fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
