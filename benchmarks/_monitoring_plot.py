"""Draw the tables of `benchmarks.monitoring` on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks._monitoring_figures import TABLES
from runtime.storage.writing import replacing

COLUMNS = 3
NOTE = "A drawn world: it shows mechanisms and their traps, not what a street camera will give."


def draw(models: dict[str, Sequence[dict[str, Any]]], path: Path) -> None:
    """Write a panel for each table: a bar for each rule's mean, a point for each case.

    Args:
        models: For each base model, the rows of its summary.
        path: File of the picture (PNG).
    """
    shown = {row["table"] for rows in models.values() for row in rows}
    tables = [table for table in TABLES if table.name in shown]
    lines = -(-len(tables) // COLUMNS)
    figure = Figure(figsize=(5.4 * COLUMNS, 2.9 * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, COLUMNS, squeeze=False).flat
    colours = ("#33506b", "#2a7f4f", "#d9a441")
    for table, panel in zip(tables, panels, strict=False):
        rules = list(dict.fromkeys(
            row["rule"] for rows in models.values() for row in rows if row["table"] == table.name
        ))  # fmt: skip
        for number, rows in enumerate(models.values()):
            for row in (row for row in rows if row["table"] == table.name):
                height = 0.8 / len(models)
                position = rules.index(row["rule"]) + (number + 0.5) * height - 0.4
                colour = colours[number % len(colours)]
                panel.barh(position, row["mean"], height, color=colour, alpha=0.35)
                cases = list(row["cases"].values())
                panel.plot(cases, [position] * len(cases), "o", color=colour, markersize=3)
        judged = any(row["table"] == table.name and "met" in row
                     for rows in models.values() for row in rows)  # fmt: skip
        for goal, style in ((table.mean, "--"), (table.worst, ":")):
            if goal is not None and judged:
                panel.axvline(goal, color="#c0392b", linewidth=1, linestyle=style)
        panel.set_yticks(range(len(rules)), rules, fontsize=7)
        panel.invert_yaxis()
        if "AUROC" in table.name:
            panel.axvline(0.5, color="#999999", linewidth=0.6)
            panel.set_xlim(0, 1.02)
        panel.set_title(table.name, fontsize=8)
        panel.tick_params(axis="x", labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels:
        panel.set_visible(False)
    legend = ", ".join(f"{model}: {colour}" for model, colour in zip(
        models, ("blue", "green", "yellow"), strict=False
    ))  # fmt: skip
    marks = "bars: means over cases; points: cases; red: targets of mean (- -) and worst (...)"
    figure.suptitle(f"{marks}\n{legend}. {NOTE}", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
