"""Energy of a processor package, where the system lets a program read its counter."""

from __future__ import annotations

from pathlib import Path

_COUNTERS = Path("/sys/class/powercap")


class Energy:
    """Context manager that counts the joules of all packages while its block runs."""

    def __init__(self) -> None:
        self.joules = float("nan")
        """Joules; NaN where no counter can be read."""
        self._before = 0.0

    def __enter__(self) -> Energy:
        self._before = _read()
        return self

    def __exit__(self, *error: object) -> None:
        self.joules = _read() - self._before


def _read() -> float:
    try:
        counters = sorted(_COUNTERS.glob("intel-rapl:?/energy_uj"))
        found = [int(counter.read_text()) for counter in counters]
    except (OSError, ValueError):
        return float("nan")
    return 1e-6 * sum(found) if found else float("nan")
