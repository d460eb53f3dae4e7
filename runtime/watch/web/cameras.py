"""What the page knows of each camera: its last observation, and its last minutes."""

from __future__ import annotations

import time

from runtime.watch.observation import Observation
from runtime.watch.web.series import Series


class Camera:
    """One source. One thread at a time takes, any thread reads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.latest: Observation | None = None
        """Replaced with each frame; nothing waits for anybody."""
        self.series = Series()
        self._taken = 0.0

    def take(self, observation: Observation) -> None:
        """Take the next observation."""
        if observation.prediction is not None:
            self.series.add(observation)
        self._taken = time.monotonic()
        self.latest = observation

    @property
    def age(self) -> float | None:
        """Seconds since the last observation; None before the first one."""
        return None if self.latest is None else time.monotonic() - self._taken
