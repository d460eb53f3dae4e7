"""Decide whether a run beats its baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapt.evaluation.compare import Line


def verdict(lines: Sequence[Line], variant: str, settings: Mapping[str, Any]) -> str:
    """Return whether a run beats its baselines, and a hint if it does not, for people.

    They are compared by accuracy if the test images have labels, else by infomax.

    Args:
        lines: Comparison of the run and its baselines.
        variant: Name of the run.
        settings: Settings of the run.
    """
    own = next(line for line in lines if line.variant == variant)
    known = own.accuracy is not None
    by = "accuracy" if known else "infomax, a score without labels"
    values = {line.variant: line.accuracy if known else line.infomax for line in lines}
    best = max(values, key=lambda name: values[name] or 0.0)
    shown = {name: f"{value or 0.0:.2f}{' %' if known else ''}" for name, value in values.items()}
    if best == variant:
        return f"better than its baselines by {by}"
    # Methods without FixMatch lack the setting.
    fixmatch = "--set fixmatch=0.5, " if settings.get("fixmatch") == 0 else ""
    return (
        f"NOT better than {best} ({shown[variant]} against {shown[best]}) by {by}; try "
        f"{fixmatch}--set lr with a third of the rate, another --method, or keep {best}"
    )
