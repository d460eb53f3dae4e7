"""The figures of a soak test, and its failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._latencies import WINDOWS, Latencies
from runtime.bundles.bundle import Bundle
from runtime.console import bytes_text, table
from runtime.sessions.session import Session

if TYPE_CHECKING:
    from benchmarks.soak import Soak

GROWTH, SLOWER = 0.01, 1.5
WARM, THIRD = WINDOWS // 10, 3 * WINDOWS // 10
ENOUGH = 2000
"""Number of predictions in a third of the run below which their p99 means nothing."""


def verdict(soak: Soak, session: Session) -> dict[str, Any]:
    """Return the figures, and a sentence for each limit that was exceeded under `failures`."""
    failures = list(dict.fromkeys(soak.trouble))[:5]
    first, last = range(WARM, WARM + THIRD), range(WINDOWS - THIRD, WINDOWS)
    memory = np.divide(*soak.memory.T, where=soak.memory[:, 1] > 0, out=np.full(WINDOWS, np.nan))
    low, high = (float(np.nanmedian(memory[part.start : part.stop])) for part in (first, last))
    growth = high / low - 1
    speeds, numbers = {}, {}
    for name, parts in (("predict", soak.predict), ("control", soak.control)):
        joined = Latencies()
        joined.counts = np.sum([part.counts for part in parts], axis=0)
        speeds[name] = {
            f"p{round(100 * share)}": [joined.percentile(share, part) for part in (first, last)]
            for share in (0.5, 0.99)
        }
        numbers[name] = min(joined.number(part) for part in (first, last))
    slower, machine_slower = (speeds[n]["p99"][1] / speeds[n]["p99"][0] for n in speeds)
    if not soak.trouble:
        if growth >= GROWTH:
            failures.append(
                f"memory grew by {growth:.2%}, from {bytes_text(round(low))} to "
                f"{bytes_text(round(high))}; less than {GROWTH:.0%} is allowed"
            )
        if numbers["predict"] >= ENOUGH and slower > SLOWER * max(1.0, machine_slower):
            failures.append(
                f"the p99 of a prediction became {slower:.2f} x; at most {SLOWER} x is allowed, "
                f"and a fixed piece of work became {machine_slower:.2f} x"
            )
        if session.base_sha256() != session.bundle.manifest.tensors.sha256:
            failures.append("the base in memory is not bit for bit what it was")
        if set(Bundle.open(session.bundle.path).tasks) != set(soak.world.there()):
            failures.append("the bundle has other tasks than the changes should have left")
    return {
        "minutes": round(soak.seconds / 60, 2),
        "calls": dict(sorted(soak.calls.items())),
        "memory": {"first": low, "last": high, "growth": growth},
        "milliseconds": speeds,
        "p99_ratio": slower,
        "control_p99_ratio": machine_slower,
        "p99_checked": numbers["predict"] >= ENOUGH,
        "failures": failures,
    }


def render(report: dict[str, Any]) -> str:
    speeds, held = report["milliseconds"], report["memory"]
    rows = [
        [name, *(f"{value:.3f}" for value in pair), f"{pair[1] / pair[0]:.3f} x"]
        for name, pair in (
            ("predict p50, ms", speeds["predict"]["p50"]),
            ("predict p99, ms", speeds["predict"]["p99"]),
            ("fixed work p99, ms", speeds["control"]["p99"]),
        )
    ]
    sizes = [f"{held[k] / 1e6:.2f}" for k in ("first", "last")]
    rows.append(["memory, MB", *sizes, f"{1 + held['growth']:.4f} x"])
    calls = [[kind, f"{count:,}"] for kind, count in report["calls"].items()]
    tables = table(("calls", "number"), calls), table(("", "first third", "last third", ""), rows)
    return "\n\n".join(tables)
