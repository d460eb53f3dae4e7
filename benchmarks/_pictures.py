"""Draw the results of `benchmarks.tasks` and `benchmarks.many`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.peers import KINDS
from runtime.storage.writing import replacing

MIX = (
    ("same_frame", "untouched encoder, one frame under all tasks", "#2a7f4f"),
    ("untouched", "untouched encoder, a frame per task", "#7fa3c4"),
    ("grouped", "patches, predict_many", "#c0392b"),
    ("one_by_one", "patches, one by one in random order", "#d9a441"),
)


def draw_tasks(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the time to the first result after a switch, and memory against the number of tasks."""
    names = list(dict.fromkeys(r["model"] for r in rows))
    figure = Figure(figsize=(11, 4 * len(names)), layout="constrained")
    for (left, right), name in zip(
        figure.subplots(len(names), 2, squeeze=False), names, strict=True
    ):
        own = [r for r in rows if r["model"] == name][::-1]
        titles = [KINDS[r["peer"]].title for r in own]
        colors = [KINDS[r["peer"]].color for r in own]
        bars = left.barh(titles, [r["switch"]["p50"] for r in own], color=colors)
        left.bar_label(bars, [f"{r['switch']['p50']:.3g} ms" for r in own], padding=3, fontsize=8)
        left.set_xscale("log")
        left.margins(x=0.2)
        left.set_title(f"{name}: switch, median", fontsize=11)
        left.set_xlabel("milliseconds")
        for r, color in zip(own, colors, strict=True):
            points = [(n, m["bytes"] / 1e9, m["measured"]) for n, m in r["memory"].items()]
            right.plot([p[0] for p in points], [p[1] for p in points], color=color, linewidth=1.4,
                       label=KINDS[r["peer"]].title)  # fmt: skip
            for n, size, measured in points:
                right.plot(n, size, "o", color=color, markersize=6,
                           fillstyle="full" if measured else "none")  # fmt: skip
        right.set_xscale("log")
        right.set_yscale("log")
        counts = [*own[0]["memory"]]
        right.set_xticks(counts, [str(n) for n in counts])
        right.set_title(f"{name}: memory (hollow bars: computed)", fontsize=11)
        right.set_xlabel("tasks")
        right.set_ylabel("GB")
        for axis in (left, right):
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=8)
    handles, labels = figure.axes[1].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], fontsize=8, frameon=False,
                  loc="outside lower center", ncols=3)  # fmt: skip
    _save(figure, path)


def draw_mix(name: str, rows: list[dict[str, Any]], path: Path) -> None:
    """Draw predictions per second against the number of tasks in the mix."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axis = figure.subplots()
    counts = [row["tasks"] for row in rows]
    for key, title, color in MIX:
        axis.plot(counts, [row[key] for row in rows], "o-", color=color, markersize=4,
                  linewidth=1.4, label=title)  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.set_title(f"{name}: many tasks in one mix")
    axis.set_xlabel("tasks in the mix")
    axis.set_ylabel("predictions per second")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
