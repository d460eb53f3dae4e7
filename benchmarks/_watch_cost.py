"""What the page with viewers, metrics and MQTT cost a ViT-B/16 frame of `uda-runtime watch`.

One session watches a video (1280 x 720) as fast as it classifies, in blocks: `off` without any
output, `on` with the page and its viewers, metrics that are scraped every second, and MQTT to a
mosquitto with a subscriber. A round is a block of each, in changing order; its ratio is that of the
medians of the time from one frame's prediction to the next. The viewers, the subscriber and the
broker are processes of their own, and take their time from the same cores; processor time per frame
says what the outputs cost without them, and does not depend on what else the machine does.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from benchmarks._watch_servers import Broker, Viewers, broker, viewers
from runtime.console import table
from runtime.sessions.session import Session
from runtime.sources.live.street import Street
from runtime.watch.observation import Observation
from runtime.watch.settings import SourceSettings
from runtime.watch.sinks.base import Sink
from runtime.watch.watcher import Watcher
from tests.runtime.sources.servers import free_port

VIEWERS, TARGET = 10, 1.05
MODEL = "ViT-B-16"
_SIZE = (1280, 720)
_WARM = 10
"""Frames of a block before those that are measured."""
_RATE = 25


class Pace(Sink):
    """Notes when predictions came, and their latencies."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.latencies: list[float] = []
        self._news = threading.Condition()

    def take(self, observation: Observation) -> None:
        with self._news:
            self.times.append(time.perf_counter())
            self.latencies.append(observation.milliseconds)
            self._news.notify_all()

    def until(self, count: int) -> None:
        """Wait until there are so many.

        Raises:
            click.ClickException: They do not come.
        """
        with self._news:
            if not self._news.wait_for(lambda: len(self.times) >= count, 600):
                raise click.ClickException(f"{len(self.times)} of {count} frames in 600 s")

    def close(self) -> None:
        pass


def film(folder: Path, frames: int) -> str:
    """Write a video of the drawn street; return its path."""
    path, street = folder / "street.avi", Street(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), _RATE, _SIZE)
    for number in range(frames):
        large = cv2.resize(street.draw(number / _RATE), _SIZE, interpolation=cv2.INTER_CUBIC)
        writer.write(large[..., ::-1])
    writer.release()
    return str(path)


class Blocks:
    """Blocks of frames on one session."""

    def __init__(self, session: Session, where: str, frames: int, server: Broker) -> None:
        self.session, self.where, self.frames, self.server = session, where, frames, server
        self.ports = free_port(), free_port()
        self.encoded = 0

    def off(self) -> dict[str, Any]:
        """Measure frames without any output."""
        pace = Pace()
        with self._watcher([pace]):
            return self._measured(pace)

    def on(self, looking: Viewers) -> dict[str, Any]:
        """Measure frames with all outputs, while somebody looks."""
        from runtime.watch.sinks.metrics import Metrics
        from runtime.watch.sinks.mqtt import Mqtt
        from runtime.watch.web.sink import WebPage

        web, metrics = self.ports
        pace, page = Pace(), WebPage(web)
        mqtt = Mqtt(f"mqtt://127.0.0.1:{self.server.port}")
        with self._watcher([mqtt, Metrics(str(metrics)), page, pace]):
            looking.go()
            before, pictures = self.server.cpu_seconds(), page.encoded
            found = self._measured(pace)
            found["broker_cpu_ms"] = 1e3 * (self.server.cpu_seconds() - before) / self.frames
            found["encoded"] = page.encoded - pictures
            seen = looking.stop()
        if mqtt.lost or seen["lost"] or not all(seen["pictures"]) or not seen["messages"]:
            raise click.ClickException(f"not all was delivered: {mqtt.lost} messages lost, {seen}")
        found["viewers"] = seen
        return found

    def _watcher(self, sinks: list[Sink]) -> Watcher:
        source = SourceSettings("camera", self.where, task=self.session.tasks[0], fast=True)
        return Watcher(self.session, [source], sinks)

    def _measured(self, pace: Pace) -> dict[str, Any]:
        start = len(pace.times) + _WARM
        pace.until(start)
        cpu = time.process_time()
        pace.until(start + self.frames)
        cpu = time.process_time() - cpu
        return {
            "frame_ms": 1e3 * float(np.median(np.diff(pace.times[start - 1 :][: self.frames + 1]))),
            "latency_ms": float(np.median(pace.latencies[start:][: self.frames])),
            "cpu_ms": 1e3 * cpu / self.frames,
        }


def measure(models: Path, folder: Path, rounds: int, frames: int) -> dict[str, Any]:
    """Return the rounds, and the median and range of their ratios.

    Args:
        models: Folder of `benchmarks._models`.
        folder: Empty folder to write to.
        rounds: Number of rounds.
        frames: Frames of a block.
    """
    from benchmarks._models import make_model

    model = make_model(MODEL, models)
    where = film(folder, 4 * (frames + _WARM))  # those while viewers connect are not measured
    found = []
    with Session.open(model.bundle) as session, broker(folder) as server:
        blocks = Blocks(session, where, frames, server)
        with viewers(*blocks.ports, server.port, VIEWERS) as looking:
            for number in range(rounds):
                sides = {"off": blocks.off, "on": lambda: blocks.on(looking)}
                order = sorted(sides, reverse=bool(number % 2))
                both = {side: sides[side]() for side in order}
                found.append(both)
                click.echo(f"round {number + 1} of {rounds}: {_ratio(both, 'frame_ms'):.3f} x")
    ratios = {key: [_ratio(both, key) for both in found] for key in found[0]["off"]}
    return {
        "model": MODEL,
        "viewers": VIEWERS,
        "target": TARGET,
        "frames": frames,
        "rounds": found,
        "ratios": {
            key: {"median": float(np.median(own)), "least": min(own), "most": max(own)}
            for key, own in ratios.items()
        },
    }


def _ratio(both: dict[str, Any], key: str) -> float:
    return float(both["on"][key] / both["off"][key])


def render(report: dict[str, Any]) -> str:
    """Return the figures for people."""
    rounds = report["rounds"]

    def middle(side: str, key: str) -> float:
        return float(np.median([both[side][key] for both in rounds]))

    rows = []
    for key, name in (
        ("frame_ms", "frame to frame"),
        ("latency_ms", "latency"),
        ("cpu_ms", "processor time"),
    ):
        ratio = report["ratios"][key]
        rows.append(
            [
                f"{name}, ms a frame",
                *(f"{middle(side, key):.1f}" for side in ("off", "on")),
                f"{ratio['median']:.3f} x ({ratio['least']:.3f} to {ratio['most']:.3f})",
            ]
        )
    seen = [both["on"]["viewers"] for both in rounds]
    pictures = sum(sum(each["pictures"]) for each in seen)
    cpu = sum(each["cpu_seconds"] for each in seen)
    return "\n".join(
        [
            table(("", "no outputs", "outputs", "ratio"), rows),
            f"target: {report['target']} x of frame to frame; {report['viewers']} viewers got "
            f"{pictures:,} pictures for {1e3 * cpu / max(pictures, 1):.2f} ms of their own "
            f"processor time each; the broker took {middle('on', 'broker_cpu_ms'):.2f} ms a frame",
        ]
    )
