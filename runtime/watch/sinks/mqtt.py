"""Publish predictions and the states of sources to an MQTT broker.

`PREFIX/status` is `online` or `offline`, also after a crash; `PREFIX/SOURCE/state` says what a
source does, and `PREFIX/SOURCE/prediction` what was seen. The first two are retained.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

from runtime.errors import ConfigError
from runtime.watch.observation import Observation
from runtime.watch.sinks.backlog import Backlog
from runtime.watch.sinks.base import Sink, Watched
from runtime.watch.sinks.mqtt_address import parse
from runtime.watch.sinks.mqtt_broker import Broker
from runtime.watch.sinks.trouble import Trouble
from runtime.watch.status import SourceStatus

ROOM = 1000
"""Predictions that wait while the broker is away; the oldest are lost."""


class _Message(NamedTuple):
    topic: str
    payload: str


class Mqtt(Sink):
    """Publishes to a broker, in a thread of its own; a broker that is away is waited for."""

    def __init__(
        self,
        url: str,
        every: float = 0.0,
        password_file: Path | None = None,
        authority: Path | None = None,
        top: int = 1,
    ) -> None:
        """Check the address; `start` connects.

        Args:
            url: Address as for `parse`.
            every: Seconds between two predictions of a source whose label and task stay the
                same; 0 for all predictions.
            password_file: File whose first line is the password.
            authority: File with the certificates to trust instead of the system's.
            top: Number of most likely classes to publish.

        Raises:
            ConfigError: The address is malformed, or a number out of range.
            FormatError: The file with the password cannot be read.
        """
        if not 0 <= every < 1e9:
            raise ConfigError(f"--mqtt-every must be at least 0 seconds, found {every:g}")
        address = parse(url, password_file)
        self._prefix = address.prefix
        self._broker = Broker(address, f"{self._prefix}/status", authority)
        self._every, self._top = every, top
        self._watched: Watched | None = None
        self._published: dict[str, tuple[object, float]] = {}
        """What was last published of each source, and when."""
        self._states: dict[str, str] = {}
        self._connection = 0
        self._trouble = Trouble("--mqtt", "message")
        self._backlog: Backlog[_Message] = Backlog(
            self._deliver, self._trouble, ROOM, tick=self._tick, finish=self._finish
        )

    @property
    def lost(self) -> int:
        """Number of predictions that were not published."""
        return self._trouble.lost

    def start(self, watched: Watched) -> None:
        """Connect in the background."""
        self._watched = watched
        self._backlog.start()

    def take(self, observation: Observation) -> None:
        """Publish a prediction soon, if it is time for one of its source."""
        if self._every:
            found, now = observation.prediction, time.monotonic()
            what = None if found is None else (found.task, found.label)
            before = self._published.get(observation.source)
            if before is not None and before[0] == what and now - before[1] < self._every:
                return
            self._published[observation.source] = what, now
        topic = f"{self._prefix}/{observation.source}/prediction"
        self._backlog.put(_Message(topic, json.dumps(observation.to_dict(self._top))))

    def close(self) -> None:
        """Publish what waits, say `offline`, and disconnect. Safe to call more than once."""
        self._backlog.close()

    def _deliver(self, message: _Message) -> None:
        self._broker.publish(message.topic, message.payload)

    def _tick(self) -> None:
        """Publish the states that changed, or all after a new connection."""
        self._broker.connect()
        if self._broker.connections != self._connection:
            self._connection = self._broker.connections
            self._states.clear()
        for status in () if self._watched is None else self._watched.status():
            self._publish_state(status.name, _state(status))

    def _publish_state(self, source: str, state: dict[str, object]) -> None:
        payload = json.dumps(state)
        if self._states.get(source) != payload:
            self._broker.publish(f"{self._prefix}/{source}/state", payload, keep=True)
            self._states[source] = payload

    def _finish(self) -> None:
        try:
            for source in list(self._states) if self._broker.connected else ():
                self._publish_state(source, {"state": "offline"})
        finally:
            self._broker.close()


def _state(status: SourceStatus) -> dict[str, object]:
    drift = None if status.task is None else status.drifts.get(status.task)
    return {
        "state": status.state,
        "choice": status.choice,
        "task": status.task,
        "drift": None if drift is None else drift.state,
        "error": status.error,
    }
