"""Serve figures of every source to Prometheus over HTTP.

The labels are names of sources, of which there are as many as the user gives, and names from lists
of ours; the id of a task stands in one series per source alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from runtime.monitoring.drift import DRIFTING
from runtime.watch.observation import Observation
from runtime.watch.sinks.base import Sink, Watched
from runtime.watch.sinks.metrics_server import Server, parse
from runtime.watch.status import State

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of latencies, in seconds: from a GPU's to those of a busy small processor."""
_COUNTERS = {
    "captured": ("uda_frames_captured", "Frames that the source gave"),
    "predicted": ("uda_frames_predicted", "Frames that were classified"),
    "failed": ("uda_frames_failed", "Frames that were not classified because of an error"),
    "skipped": ("uda_frames_skipped", "Frames that were left out because of --every"),
    "dropped": (
        "uda_frames_dropped",
        "Frames that newer ones replaced before they were classified",
    ),
    "switches": ("uda_task_switches", "Changes of the source's task"),
    "reconnects": ("uda_reconnects", "Connections to the source after the first"),
}
"""Counters by the field of `SourceStatus`: name without `_total`, and help."""

STATES = get_args(State)
_Values = Mapping[Any, float]
"""Values by the labels of their series, a tuple."""


class Metrics(Sink):
    """An HTTP server for Prometheus; it is asked, and answers from a registry of its own."""

    def __init__(self, where: str) -> None:
        """Check the address; `start` listens there.

        Args:
            where: `[HOST:]PORT`; the loopback address where no host is named.

        Raises:
            ConfigError: It is malformed.
        """
        self._host, self._port = parse(where)
        self._registry = prometheus_client.CollectorRegistry()
        labels: dict[str, Any] = {"labelnames": ["source"], "registry": self._registry}
        self._latency = prometheus_client.Histogram(
            "uda_latency_seconds", "Time from a frame to its prediction", buckets=BUCKETS, **labels
        )
        self._waited = prometheus_client.Histogram(
            "uda_queue_seconds", "Time of a frame in the queue", buckets=BUCKETS, **labels
        )
        self._novelty = prometheus_client.Gauge(
            "uda_novelty_ratio",
            "Share of the task's own images that are nearer to it than the last frame",
            **labels,
        )
        self._unknown = prometheus_client.Counter(
            "uda_frames_unknown", "Frames that were classified and are not known", **labels
        )
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """The port that it listens on, also where 0 was chosen, which stands for any."""
        return self._port if self._server is None else self._server.server_port

    def start(self, watched: Watched) -> None:
        """Listen.

        Raises:
            ConfigError: The port is taken, or the address is not of this machine.
        """
        application = prometheus_client.make_wsgi_app(self._registry)
        self._server = Server(self._host, self._port, application)
        self._registry.register(_Statuses(watched))
        self._server.start()

    def take(self, observation: Observation) -> None:
        """Count a prediction."""
        prediction, source = observation.prediction, observation.source
        if prediction is None:
            return
        self._latency.labels(source).observe(observation.milliseconds / 1000)
        self._waited.labels(source).observe(observation.waited / 1000)
        novelty = float("nan") if prediction.novelty is None else prediction.novelty
        self._novelty.labels(source).set(novelty)
        self._unknown.labels(source).inc(prediction.known is False)

    def close(self) -> None:
        """Stop listening. Safe to call more than once."""
        server, self._server = self._server, None
        if server is not None:
            self._port = server.server_port
            server.stop()


class _Statuses:
    """Reads what sources have done when Prometheus asks for it."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def collect(self) -> Iterator[Any]:
        """Yield the families of metrics."""
        statuses = self._watched.status()
        for field, (name, text) in _COUNTERS.items():
            yield self._counter(name, text, {(s.name,): getattr(s, field) for s in statuses})
        waiting = {(s.name,): s.waiting for s in statuses}
        yield self._gauge("uda_frames_waiting", "Frames that wait to be classified", waiting)
        states = {(s.name, state): s.state == state for s in statuses for state in STATES}
        yield self._gauge("uda_source_state", "1 for what the source does", states, "state")
        tasks = {(s.name, s.task): 1 for s in statuses if s.task is not None}
        yield self._gauge("uda_task_info", "Task of the source's last frame", tasks, "task")
        # Of the current task alone: a bundle may have hundreds.
        drifts = {(s.name,): s.drifts[s.task] for s in statuses if s.task in s.drifts}
        levels = {key: drift.level for key, drift in drifts.items()}
        yield self._gauge("uda_drift_level_ratio", "Drift, of what raises the alarm", levels)
        drifting = {key: drift.state == DRIFTING for key, drift in drifts.items()}
        yield self._gauge("uda_drifting", "1 while the current task's frames drift", drifting)
        alarms = {(s.name,): sum(d.alarms for d in s.drifts.values()) for s in statuses if s.drifts}
        yield self._counter("uda_drift_alarms", "Alarms of drift, of all tasks", alarms)
        images = {
            (s.name, part): count for s in statuses for part, count in (s.harvested or {}).items()
        }
        yield self._gauge("uda_harvested_images", "Images in the harvest", images, "part")

    def _counter(self, name: str, text: str, values: _Values) -> Any:
        return _filled(CounterMetricFamily(name, text, labels=["source"]), values)

    def _gauge(self, name: str, text: str, values: _Values, *more: str) -> Any:
        return _filled(GaugeMetricFamily(name, text, labels=["source", *more]), values)


def _filled(family: Any, values: _Values) -> Any:
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
