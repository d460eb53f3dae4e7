"""Tables of what an artifact and the files beside it say of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapt.artifacts.metrics import Metrics
from adapt.settings.layers import DEFAULT, shown
from adapt.training.record import EpochRow
from runtime.console import table

_MOST = 40
"""Most epochs of a table; of longer runs, evenly spaced ones are shown."""


def settings_table(config: Mapping[str, Any], sources: Mapping[str, Any] | None) -> str:
    """Return every setting with its value and the layer that it comes from.

    Args:
        config: Settings of the artifact.
        sources: Layer of each setting that is not the default; None if the file has no record.
    """
    unnamed = "unknown" if sources is None else DEFAULT
    rows = [(key, shown(value), (sources or {}).get(key, unnamed)) for key, value in config.items()]
    return table(("setting", "value", "source"), rows)


def epochs_table(history: Sequence[EpochRow], metrics: Metrics) -> str:
    """Return losses, accuracy and density of a run's epochs, with the saved epoch marked.

    Args:
        history: Rows of the epochs, from `adapt.training.history`.
        metrics: Metrics of the artifact.
    """
    marks = {metrics.oracle_best.epoch: "oracle-best", metrics.saved.epoch: "saved"}
    if metrics.oracle_best.epoch == metrics.saved.epoch:
        marks[metrics.saved.epoch] = "saved, oracle-best"
    step = -(-len(history) // _MOST)
    last = history[-1]["epoch"]
    chosen = [
        row
        for number, row in enumerate(history)
        if number % step == 0 or row["epoch"] in marks or row["epoch"] == last
    ]
    losses = list(dict.fromkeys(name for row in chosen for name in row["losses"]))
    header = ("epoch", *(f"loss {name}" for name in losses), "accuracy", "density %", "")
    rows = [
        (
            str(row["epoch"]),
            *(f"{row['losses'][n]:.4f}" if n in row["losses"] else "-" for n in losses),
            "-" if row["accuracy"] is None else f"{row['accuracy']:.2f}",
            f"{100 * row['density']:.3f}",
            marks.get(row["epoch"], ""),
        )
        for row in chosen
    ]
    left_out = len(history) - len(chosen)
    return table(header, rows) + (f"\n{left_out} epochs between these left out" if left_out else "")
