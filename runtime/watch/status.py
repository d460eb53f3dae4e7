"""A picture of one source at one moment, for the page, the metrics and the last line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from runtime.monitoring.drift import Drift

State = Literal["connecting", "running", "stalled", "reconnecting", "ended"]


@dataclass(frozen=True)
class SourceStatus:
    """What a source has done so far. `captured` is the sum of the five counts below it."""

    name: str
    where: str
    """Where its frames come from, without the password of an address."""
    state: State
    choice: str
    """Id of the task that was chosen for it, or `auto`."""
    task: str | None
    """Id of the task that classified its last frame."""
    error: str | None = None
    """Why it is not running."""
    captured: int = 0
    predicted: int = 0
    failed: int = 0
    """Frames that were not classified because of an error."""
    skipped: int = 0
    """Frames that were left out because of `--every`."""
    dropped: int = 0
    """Frames that were left out because newer ones came before they were classified."""
    waiting: int = 0
    """Frames in the queue, and the one that is being classified; these are captured as well."""
    switches: int = 0
    reconnects: int = 0
    p50: float | None = None
    """Median of the latencies in milliseconds, see `Observation`; None before the first frame."""
    p99: float | None = None
    """The latency that 99 % of the frames do not exceed."""
    drifts: dict[str, Drift] = field(default_factory=dict)
    """By the ids of tasks whose drift is watched."""
    harvested: dict[str, int] | None = None
    """Number of harvested images by part; None without a harvest."""
