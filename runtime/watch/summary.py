"""What sources have done, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.console import table
from runtime.watch.status import SourceStatus

_HEADER = (
    *("source", "captured", "predicted", "failed", "skipped", "dropped"),
    *("switches", "reconnects", "p50 ms", "p99 ms"),
)


def summary(sources: Sequence[SourceStatus]) -> str:
    """Return a table with a row for each source."""
    rows = []
    for each in sources:
        latencies = ["-" if value is None else f"{value:.1f}" for value in (each.p50, each.p99)]
        counts = (each.captured, each.predicted, each.failed, each.skipped, each.dropped)
        rows.append([each.name, *(f"{n:,}" for n in (*counts, each.switches, each.reconnects))])
        rows[-1] += latencies
    return table(_HEADER, rows)
